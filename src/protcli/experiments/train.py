"""Train one model into a complete run in MLflow, or resume a stopped run: the same in every process of a training."""

import logging
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from protcli.errors import ProtcliError, Terminated, choose, truncate
from protcli.experiments.config import (
    RunConfig,
    check_recipe,
    conditions,
    other_conditions,
    read_config,
    recorded_config,
)
from protcli.experiments.pages import Progress
from protcli.experiments.record import BASELINE_BATCH, Prepared, Record
from protcli.models.external import as_user_error, compiling_as_user_error, memory_as_user_error
from protcli.models.recipe import check_ranges
from protcli.models.summary import summarize
from protcli.models.templates import TemplateMemory
from protcli.process import scratch_folder, uninterrupted
from protcli.proteins.batches import ProteinBatches, kept_on
from protcli.proteins.dataset import Dataset, open_dataset
from protcli.proteins.subset import Proteins, take_share
from protcli.tracking.keys import File, Param, Tag
from protcli.tracking.run import Run, find_run, project_run, start_run
from protcli.training.engine import (
    STRATEGIES,
    blocks,
    find_device,
    keep_memory,
    seed_everything,
    start_engine,
)
from protcli.training.loop import Diverged, Epoch, Step, fit, fit_in_one_pass
from protcli.training.losses import find_loss, needs_logits
from protcli.training.process_group import ALONE, ProcessGroup, joined, rank_here, size_here, unsharded
from protcli.training.state import Best, EpochErrors, TrainState, load_state, save_state, save_weights, saved_states

ENDING = 300  # seconds that processes have for saving their state when they are told to stop
RUN_NOTE = "run.txt"  # in which the first process tells `launch` its run

log = logging.getLogger("protcli")


@dataclass(frozen=True)
class Started:
    """The run exists and its data and model are ready.

    Attributes:
        run_id: in MLflow.
        training: its resolved configuration, its data and what it is trained by.
        sepmean_mse: the baseline's validation MSE, in Å².
        done: epochs already trained by a process that was stopped.
        batches: batches of the next epoch already trained by it.
        warning: why it does not go on from the latest state; else empty.
    """

    run_id: str
    training: Prepared
    sepmean_mse: float
    done: int
    batches: int
    warning: str


@dataclass(frozen=True)
class Finished:
    """The run is complete in MLflow. `best` is its best epoch, `sepmean_mse` the baseline's validation MSE in Å²."""

    run_id: str
    best: Best
    sepmean_mse: float


Event = Started | Progress | Step | Epoch | Finished


class CheckpointInterval:
    """How often the state is saved within an epoch: after `10m` (the default) or `0.5m`, or after `500` batches."""

    def __init__(self, text: str | None) -> None:
        """Raises ProtcliError for a text that says neither minutes nor batches."""
        form = r"(?P<batches>[1-9][0-9]{0,8})|(?P<minutes>[0-9]{1,6}(\.[0-9]{1,6})?)m"
        said = re.fullmatch(form, "10m" if text is None else text)
        self._batches, self._minutes = (float(said[kind] or math.inf) if said else 0 for kind in ("batches", "minutes"))
        if not self._minutes:
            raise ProtcliError(f"--checkpoint-every is {text!r}: give minutes, as 10m, or a number of batches, as 500")
        self.reset()

    def is_due(self) -> bool:
        """Whether to save after one more batch."""
        self._since += 1
        return self._since >= self._batches or time.monotonic() - self._saved_at >= 60 * self._minutes

    def reset(self) -> None:
        """The state has been saved."""
        self._saved_at, self._since = time.monotonic(), 0


def train(
    config: RunConfig, experiment: str | None = None, checkpoint_every: str | None = None, *, offline: bool = False
) -> Generator[Event, None, None]:
    """Train as configured, yielding events as they happen; the run is complete when the generator is exhausted.

    Where torchrun, or `launch`, has started several processes, each of them calls this. The first one has the run, and
    the others train as its configuration says.

    Args:
        config: everything that decides the result.
        experiment: MLflow's experiment; None leaves the choice to MLflow.
        checkpoint_every: how often the state is saved within an epoch, see `CheckpointInterval`.
        offline: whether to mark the run for `sync_offline`.

    Raises:
        ProtcliError: settings, data or model that cannot be used (before a run exists), a loss that is no longer
            finite, too little memory, or another process that has ended (the run is then FAILED). A KeyboardInterrupt
            leaves it KILLED, with the state after the last batch; otherwise the state saved last is kept.
    """
    interval = CheckpointInterval(checkpoint_every)
    if rank_here():
        yield from _follow(interval)
    else:
        name = f"{config.spec.name} seed {config.run.seed}"
        yield from _lead(interval, config, partial(start_run, name, experiment), offline=offline)


def resume(run_id: str, checkpoint_every: str | None = None, data: str | None = None) -> Generator[Event, None, None]:
    """Resume a training that was stopped or killed, in its own run, as if it had never been stopped.

    It resumes where its state was saved last. On the same machine and versions, metrics, weights and every
    later epoch equal those of an uninterrupted training bit for bit; if they differ, the log says so. `data` is the
    place of its data, if they were moved.

    Raises:
        ProtcliError: there is no such run, it is finished, its process is still running, it was stopped before anything
            was saved, or as `train` does.
    """
    interval = CheckpointInterval(checkpoint_every)
    if rank_here():
        yield from _follow(interval)
        return
    found = find_run(run_id)
    if found.status == "FINISHED":
        raise ProtcliError(f"run {run_id} is finished: there is nothing to resume")
    if found.is_being_written:
        raise ProtcliError(f"run {run_id} is being trained by process {found.tags[Tag.PROCESS]}: stop it first")
    if project := project_run(besides=run_id):
        project.set_tags({Tag.CONTINUES: run_id})
    yield from _lead(
        interval, recorded_config(found, data), partial(start_run, found.name, run_id=run_id), resumed=found
    )


def _lead(
    interval: CheckpointInterval,
    config: RunConfig,
    begin: Callable[[], AbstractContextManager[Run]],
    resumed: Run | None = None,
    *,
    offline: bool = False,
) -> Generator[Event, None, None]:
    """Train in the first process, or the only one, which has the run that `begin` starts.

    `resumed` is the run as it was found, if it is being resumed.
    """
    training = _prepare(config)
    with begin() as run, _explained(training.config):
        if offline:
            run.set_tags({Tag.OFFLINE: "yes"})
        record = Record.begin(run, training, resumed)
        if "TORCHELASTIC_ERROR_FILE" in os.environ:
            Path(os.environ["TORCHELASTIC_ERROR_FILE"]).with_name(RUN_NOTE).write_text(run.id, "utf-8")
        with joined() as group:
            group.broadcast_text(str(run.folder))
            history = yield from _train(interval, training, group, run.folder, record)
            record.finish(history)
    yield Finished(run.id, Best.of(history), record.sepmean.mse)


def _follow(interval: CheckpointInterval) -> Generator[Event, None, None]:
    """Train in a process that is not the first one, as the configuration of its run says."""
    with joined() as group:
        folder = Path(group.broadcast_text())
        training = _prepare(read_config(folder / File.CONFIG))
        with _explained(training.config):
            yield from _train(interval, training, group, folder)


def _train(
    interval: CheckpointInterval, training: Prepared, group: ProcessGroup, folder: Path, record: Record | None = None
) -> Generator[Event, None, list[EpochErrors]]:
    """The training in one of its processes, which ends with the errors of its epochs; the first one records them."""
    config, fabric, saved, weights = training.config, training.fabric, folder / File.STATE, folder / File.CHECKPOINTS
    if group.is_distributed:
        fabric = start_engine(fabric.device, config.run.precision, group.size, config.run.strategy)
    state, warning = _begin(training, fabric, group, saved)
    done = len(state.history)
    if record is not None:
        yield Started(record.run.id, training, record.sepmean.mse, done, state.batch, warning)
    try:
        yield from _search(state.network, training, group)
        for event in _events(state, training, fabric, group):
            with uninterrupted():
                due = interval.is_due()
                if isinstance(event, Epoch):
                    best = Best.of(state.history)
                    if best.epoch == event.number:
                        about = {"model": config.spec.name, "epoch": best.epoch, "valid_mse": best.valid.mse}
                        save_weights(weights, File.BEST, state, group, about)
                    if samples := config.spec.recipe.milestones.get(event.number):
                        with unsharded(state.network):
                            if record is not None:
                                record.log_by_samples(event, samples, state.validated)
                    if record is not None:
                        record.complete_epoch(event, state.history)
                    done, due = event.number, True
                elif group.is_distributed:
                    group.save_requested |= due and not event.saves  # all save after their next step
                    due = event.saves or event.stops
                if due:
                    save_state(saved, state, group)
                    interval.reset()
            if isinstance(event, Step) and event.stops:
                raise KeyboardInterrupt if group.stop_signal == signal.SIGINT else Terminated
            yield event
    except Diverged:  # which is a result, unlike other failures
        if record is not None:
            record.run.set_tags({Tag.DIVERGED: True})
        raise
    except (KeyboardInterrupt, GeneratorExit):
        # an epoch that was not recorded is repeated from the state before it
        if not group.is_distributed and done == len(state.history) and not state.stepping:
            with uninterrupted():
                save_state(saved, state)
        raise
    about = {"model": config.spec.name, "epoch": len(state.history)}
    save_weights(weights, File.LAST, state, group, about)
    return state.history


def check(config: RunConfig) -> torch.device:
    """The device, if nothing is wrong with a configuration that can be said before its data are opened.

    Raises:
        ProtcliError: a setting cannot be used.
    """
    check_recipe(config.spec)
    options = config.run
    check_ranges(options)
    choose("strategy", options.strategy, STRATEGIES)
    if options.devices == 1 and options.strategy != "auto":
        raise ProtcliError(f"--strategy {options.strategy} is for several processes: give --devices 2 or more")
    if options.devices > 1 and config.spec.is_fitted:
        raise ProtcliError(f"{config.spec.name} is fitted in one pass: leave out --devices")
    return find_device(options.device, options.devices)


def _prepare(config: RunConfig) -> Prepared:
    """Open the data, start this process's engine, and check all that can be refused before a run exists."""
    config = config.with_settings(devices=size_here() or config.run.devices)
    device = check(config)
    if config.run.threads is not None:  # sums over another number of threads round differently
        torch.set_num_threads(config.run.threads)
    threads = torch.get_num_threads()
    keep_memory()
    fabric = start_engine(device, config.run.precision)
    data = open_dataset(
        config.data.source, train_split=config.data.train_split, atom=config.data.atom,
        evaluated_length=config.evaluated_length, held_out=config.data.held_out, features=config.spec.features,
    )  # fmt: skip
    config = config.with_features(data.features)
    if config.data.digest not in (None, data.digest):
        raise ProtcliError(
            f"the configuration was made for data {config.data.digest}, but {config.data.source} is {data.digest}: "
            "use the same data, families, atom and crop, or set data.digest to null"
        )
    made_with = conditions(fabric.device)
    changes = other_conditions(config.made_with, made_with)
    if threads > (cores := os.cpu_count() or threads):
        changes.append(f"{Param.THREADS} is {threads}, more than the cores here ({cores})")
    config = config.with_settings(train_split=data.train.name, digest=data.digest, threads=threads)
    config = replace(config.with_absolute_source(), made_with=made_with)
    spec, recipe = config.spec, config.spec.recipe
    with memory_as_user_error(spec, _less_memory(config)):
        try:  # what the model refuses, as a chain too long for it
            lengths = {config.evaluated_length, *recipe.padded_lengths, recipe.crop}
            summary = {length: summarize(spec, length) for length in lengths}[recipe.crop]
        except ValueError as error:
            raise ProtcliError(f"{spec.name} cannot be trained with these settings: {error}") from error
    if config.run.activation_checkpointing and next(blocks(spec.build()), None) is None:
        raise ProtcliError(
            f"{spec.name} has no blocks (modules with parts of their own in an nn.ModuleList or nn.Sequential): "
            "leave out --activation-checkpointing"
        )
    if needs_logits(recipe.loss) and not summary.bins:
        raise ProtcliError(
            f"--loss {recipe.loss} needs a model that predicts a distribution over distances, but {spec.name} predicts "
            "distances only: choose another loss"
        )
    return Prepared(
        config, data, fabric, summary, len(trained_on(config, data)), total_steps(config, data), changes
    )  # fmt: skip


@contextmanager
def _explained(config: RunConfig) -> Iterator[None]:
    """Make a sentence of errors that too little memory or the user's model causes in a block."""
    spec = config.spec
    with memory_as_user_error(spec, _less_memory(config)), as_user_error(spec), compiling_as_user_error(spec):
        yield


def _less_memory(config: RunConfig) -> str:
    """Advice for too little memory."""
    size, accumulate = config.spec.recipe.batch_size, config.spec.recipe.accumulate
    return f"give --batch-size {max(1, size // 2)} --accumulate {accumulate * 2}, or a smaller --crop"


def _begin(training: Prepared, fabric: Fabric, group: ProcessGroup, saved: Path) -> tuple[TrainState, str]:
    """The state before the first step, or the one that was saved; and a sentence if that is not the latest one.

    Raises:
        ProtcliError: no saved state can be continued from.
    """
    config, options, resumes = training.config, training.config.run, bool(saved_states(saved))
    seed_everything(options.seed)
    network = config.spec.build().to(memory_format=torch.channels_last)
    if hasattr(network, "prepare") and not resumes:  # a state holds what it has prepared
        network.prepare(trained_on(config, training.data), training.data.atom)  # type: ignore[operator]
    if group.is_distributed and fabric.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # there is none for the CPU
    state = TrainState.begin(
        fabric, network, config.spec.recipe, training.steps,
        activation_checkpointing=options.activation_checkpointing, compiled=options.compile,
    )  # fmt: skip
    warning = ""
    if resumes:
        if warning := load_state(saved, state):
            log.warning("%s", warning)
        log.info(
            "resumed after epoch %d and %d batches of the next, with %d threads",
            len(state.history), state.batch, torch.get_num_threads(),
        )  # fmt: skip
        state.sums = state.sums.part_of(group)
    return state, warning


def _search(network: nn.Module, training: Prepared, group: ProcessGroup) -> Iterator[Progress]:
    """Search for the templates of all chains, if the network has any: steps would do it one by one, in silence."""
    length = training.config.evaluated_length
    for memory in network.modules():
        if isinstance(memory, TemplateMemory):
            chains = [protein.sequence for protein in trained_on(training.config, training.data)]
            chains += [protein.sequence[:length] for protein in training.data.valid]
            for done in memory.search(chains):
                yield Progress("relatives", done, len(chains), "sequences")
                if group.stop_signal:
                    return


def _events(state: TrainState, training: Prepared, fabric: Fabric, group: ProcessGroup) -> Iterator[Step | Epoch]:
    """Train from a state to the end, see `training.loop`."""
    config, data, recipe, device = training.config, training.data, training.config.spec.recipe, fabric.device
    if config.spec.is_fitted:
        train, valid = data.fitting(BASELINE_BATCH), data.validation(BASELINE_BATCH)
        return fit_in_one_pass(state, train=train, valid=valid, device=device)
    return fit(
        fabric, state, find_loss(recipe.loss), train=kept_on(device, training_batches(config, data, group)),
        valid=kept_on(device, data.validation(recipe.batch_size)), epochs=recipe.epochs, accumulate=recipe.accumulate,
        max_grad_norm=recipe.max_grad_norm, group=group, seed=config.run.seed,
    )  # fmt: skip


def trained_on(config: RunConfig, data: Dataset) -> Proteins:
    """The training proteins that a run uses: all, or its recipe's share."""
    return take_share(data.train, config.spec.recipe.train_share, config.run.seed)


def training_batches(config: RunConfig, data: Dataset, group: ProcessGroup = ALONE) -> ProteinBatches:
    """What a model is trained on by its recipe, or a process's share; order and crops follow from the seed."""
    recipe = config.spec.recipe
    return ProteinBatches(
        proteins=trained_on(config, data), atom=data.atom, batch_size=recipe.batch_size, crop=recipe.crop,
        padded_lengths=recipe.padded_lengths, seed=config.run.seed, epoch_samples=recipe.epoch_samples,
        random_crop=recipe.random_crop, short_crops=recipe.short_crops, rank=group.rank, ranks=group.size,
    )  # fmt: skip


def steps_per_epoch(config: RunConfig, data: Dataset) -> int:
    """Optimiser steps of the first epoch."""
    return -(-training_batches(config, data).length() // config.spec.recipe.accumulate)


def total_steps(config: RunConfig, data: Dataset) -> int:
    """Optimiser steps of the whole training; 0 for a model that is fitted in one pass."""
    batches, recipe = training_batches(config, data), config.spec.recipe
    epochs = range(0 if config.spec.is_fitted else recipe.epochs)
    return sum(-(-batches.length(epoch + 1) // recipe.accumulate) for epoch in epochs)


def with_steps(config: RunConfig, data: Dataset, steps: int) -> RunConfig:
    """The same run with the fewest epochs that hold that many optimiser steps; a fitted model stays as it is."""
    return config if config.spec.is_fitted else config.with_settings(epochs=-(-steps // steps_per_epoch(config, data)))


def processes_to_start(devices: int = 1, run_id: str | None = None) -> int:
    """How many processes `launch` has to start for a training, or to resume a run; 1 where torchrun or it has."""
    if size_here():
        return 1
    return devices if run_id is None else int(find_run(run_id).params.get(Param.DEVICES, 1))


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `protcli` with these arguments in several processes of one training on this machine, to its end.

    Returns:
        The exit code of the first of them, which has said why it failed.

    Raises:
        ProtcliError: another one has failed; the run is FAILED and has the reason.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the sentences are ours
    os.environ["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // processes))  # of each
    with scratch_folder() as folder:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id="protcli", max_restarts=0,
            monitor_interval=0.1, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(str(folder), {rank: Std.ALL for rank in range(1, processes)}),
            shutdown_timeout=ENDING,
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-m", "protcli", *arguments)
            return 0
        except SignalException as told:
            raise (KeyboardInterrupt if told.sigval == signal.SIGINT else Terminated) from told
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            code = failure.exitcode
            if rank == 0 and code > 0:
                return code
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            for output in folder.rglob(f"{rank}/stderr.log"):
                if last := output.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]:
                    how += f": {truncate(last.removeprefix('Error: '), 300)}"
            reason = f"process {rank} of {processes} (from 0) {how}"
            for note in folder.rglob(RUN_NOTE):
                run = find_run(note.read_text("utf-8"))
                run.set_tags({Tag.ERROR: reason})
                run.end("FAILED")  # its first process may have been stopped because of the other one, as KILLED
            raise ProtcliError(reason) from error
