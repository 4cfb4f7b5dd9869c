"""Train on several machines (nodes): the same command runs on each, and starts that machine's processes by torchrun."""

import os
import signal
import sys
from collections.abc import Sequence

from lightning_fabric.plugins.environments import SLURMEnvironment
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from protcli.errors import ProtcliError, Terminated
from protcli.tracking.keys import Param
from protcli.tracking.run import find_run

PORT = "29500"  # torchrun's own
ENDING = 300  # seconds that processes have for saving their state when they are told to stop


def train_on_nodes(arguments: Sequence[str], nodes: int, devices: int | None, resumed: str | None) -> None:
    """Run `protcli` with these arguments in this machine's processes of a training on several machines, to its end.

    The machines meet at MASTER_ADDR, or at the first one of the SLURM job.

    Args:
        arguments: of the command, which know that they are run by torchrun.
        nodes: how many machines.
        devices: processes on each; None: one, or as many as the run has that is resumed.
        resumed: that run.

    Raises:
        ProtcliError: nothing says where the machines meet, or a process has failed, which has said why.
    """
    if nodes < 1:
        raise ProtcliError(f"--nodes is {nodes}: give a number of machines, 1 or more")
    if resumed is not None:
        total = int(find_run(resumed).params.get(Param.DEVICES, 1))
        if total % nodes:
            raise ProtcliError(f"run {resumed} has {total} processes, which {nodes} nodes cannot share equally")
        devices = total // nodes
    if devices is not None and devices < 1:
        raise ProtcliError(f"--devices is {devices}: give a number of processes on each node, 1 or more")
    here = devices or 1
    job = os.environ.get("SLURM_JOB_ID", "protcli")
    # torchrun would give each process one thread
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // here)))
    config = LaunchConfig(
        min_nodes=nodes, max_nodes=nodes, nproc_per_node=here, run_id=job, max_restarts=0, monitor_interval=1,
        rdzv_backend="c10d", rdzv_endpoint=_meeting_point(nodes), shutdown_timeout=ENDING,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "protcli", *arguments)
    except SignalException as told:
        raise (KeyboardInterrupt if told.sigval == signal.SIGINT else Terminated) from told
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        how = f"was killed by signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        raise ProtcliError(f"process {rank} (from 0) of the training has ended: {how}") from error


def _meeting_point(nodes: int) -> str:
    """Where the machines meet: HOST:PORT."""
    address = os.environ.get("MASTER_ADDR")
    if address is None and (listed := os.environ.get("SLURM_JOB_NODELIST")):
        address = SLURMEnvironment.resolve_root_node_address(listed)
    if address is None and nodes > 1:
        raise ProtcliError(
            f"--nodes {nodes}: set MASTER_ADDR to the name of one of the machines, the same for the command on each, "
            "or start it by srun in a SLURM job"
        )
    return f"{address or '127.0.0.1'}:{os.environ.get('MASTER_PORT', PORT)}"
