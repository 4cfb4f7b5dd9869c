"""Train one model into a complete run in MLflow, or resume a stopped run: the same in every process of a training."""

import logging
import math
import os
import re
import signal
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from protcli.errors import ProtcliError, Terminated, truncate
from protcli.experiments.config import (
    RunConfig,
    check_recipe,
    conditions,
    other_conditions,
    read_config,
    recorded_config,
)
from protcli.experiments.record import Record
from protcli.models.external import as_user_error, compiling_as_user_error, memory_as_user_error
from protcli.models.summary import ModelSummary, summarize
from protcli.models.zoo import find_model
from protcli.process import scratch_folder, uninterrupted
from protcli.proteins.batches import ProteinBatches, kept_on, on_device
from protcli.proteins.dataset import Dataset, open_dataset
from protcli.proteins.subset import Proteins, take_share
from protcli.tracking.keys import File, Metric, Param, Tag, weights_path
from protcli.tracking.run import Run, find_run, project_run, start_run
from protcli.training.activation_checkpointing import blocks, checkpoint_activations
from protcli.training.checkpoint import save_checkpoint
from protcli.training.engine import (
    LARGEST_SEED,
    STRATEGIES,
    find_device,
    keep_memory,
    seed_everything,
    start_engine,
    use_threads,
)
from protcli.training.loop import Diverged, Epoch, Step, evaluate, fit, fit_in_one_pass
from protcli.training.losses import find_loss, needs_logits
from protcli.training.optimizers import make_optimizer, make_schedule
from protcli.training.process_group import ProcessGroup, joined, rank_here, size_here
from protcli.training.state import (
    Best,
    TrainState,
    full_weights,
    load_state,
    make_average,
    save_state,
    saved_states,
    state_paths,
)  # fmt: skip

BASELINE_BATCH = 32
ENDING = 300  # seconds that processes have for saving their state when they are told to stop
RUN_NOTE = "run.txt"  # in which the first process tells `launch` its run

log = logging.getLogger("protcli")


@dataclass(frozen=True)
class Started:
    """The run exists and its data and model are ready.

    Attributes:
        run_id: in MLflow.
        config: the resolved configuration.
        data: what it is trained on.
        device: what it is trained on.
        parameters: the model's number of parameters.
        sepmean_mse: the baseline's validation MSE, in Å².
        done: epochs already trained by a process that was stopped.
        batches: batches of the next epoch already trained by it.
        warning: why it does not go on from the latest state; else empty.
    """

    run_id: str
    config: RunConfig
    data: Dataset
    device: torch.device
    parameters: int
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


Event = Started | Step | Epoch | Finished


@dataclass
class CheckpointInterval:
    """How often the state is saved within an epoch: after a number of batches or of seconds; the other is infinite.

    Attributes:
        saved_at: when it was saved last, by `time.monotonic`.
        batches_since: batches since then.
    """

    batches: float = math.inf
    seconds: float = math.inf
    saved_at: float = field(default_factory=lambda: time.monotonic())
    batches_since: int = 0

    @classmethod
    def parse(cls, text: str | None) -> "CheckpointInterval":
        """`10m` (the default) for minutes (also `0.5m`), `500` for batches. Raises ProtcliError for others."""
        text = "10m" if text is None else text
        if re.fullmatch(r"[1-9][0-9]{0,8}", text):
            return cls(batches=int(text))
        if (minutes := re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)m", text)) and float(minutes[1]) > 0:
            return cls(seconds=60 * float(minutes[1]))
        raise ProtcliError(f"--checkpoint-every is {text!r}: give minutes, as 10m, or a number of batches, as 500")

    def is_due(self) -> bool:
        """Whether to save after one more batch."""
        self.batches_since += 1
        return self.batches_since >= self.batches or time.monotonic() - self.saved_at >= self.seconds

    def reset(self) -> None:
        """The state has been saved."""
        self.saved_at, self.batches_since = time.monotonic(), 0


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
    interval = CheckpointInterval.parse(checkpoint_every)
    if rank_here():
        yield from _train(interval)
        return
    prepared = _prepare(config)
    with start_run(f"{config.spec.name} seed {config.run.seed}", experiment) as run:
        if offline:
            run.set_tags({Tag.OFFLINE: "yes"})
        finished = yield from _train(interval, run, prepared)
    yield cast(Finished, finished)


def resume(run_id: str, checkpoint_every: str | None = None) -> Generator[Event, None, None]:
    """Resume a training that was stopped or killed, in its own run, as if it had never been stopped.

    It resumes where its state was saved last. On the same machine and versions, metrics, weights and every
    later epoch equal those of an uninterrupted training bit for bit; if they differ, the log says so.

    Raises:
        ProtcliError: there is no such run, it is finished, its process is still running, it was stopped before anything
            was saved, or as `train` does.
    """
    interval = CheckpointInterval.parse(checkpoint_every)
    if rank_here():
        yield from _train(interval)
        return
    recorded = find_run(run_id)
    if recorded.status == "FINISHED":
        raise ProtcliError(f"run {run_id} is finished: there is nothing to resume")
    if recorded.is_being_written:
        raise ProtcliError(f"run {run_id} is being trained by process {recorded.tags[Tag.PROCESS]}: stop it first")
    if (project := project_run()) and project.id != run_id:
        project.set_tags({Tag.CONTINUES: run_id})
    prepared = _prepare(recorded_config(recorded))
    with start_run(recorded.name, run_id=run_id) as run:
        finished = yield from _train(interval, run, prepared, recorded)
    yield cast(Finished, finished)


@dataclass(frozen=True)
class _Prepared:
    """A training of which everything that can be refused has been checked.

    Attributes:
        config: with what it is really trained with.
        data, fabric, summary: what it is trained on, by (in this process alone), and the model's layers.
        changes: what is not as when its configuration was written, a clause each.
    """

    config: RunConfig
    data: Dataset
    fabric: Fabric
    summary: ModelSummary
    changes: list[str]


def check(config: RunConfig) -> torch.device:
    """The device, if nothing is wrong with a configuration that can be said before its data are opened.

    Raises:
        ProtcliError: a setting cannot be used.
    """
    check_recipe(config.spec)
    options = config.run
    if not 0 <= options.seed <= LARGEST_SEED:
        raise ProtcliError(f"--seed is {options.seed}: give a number from 0 to {LARGEST_SEED}")
    if options.strategy not in STRATEGIES:
        raise ProtcliError(
            f"unknown strategy {options.strategy!r}: choose one of {', '.join(STRATEGIES)} with --strategy"
        )
    if options.devices == 1 and options.strategy != "auto":
        raise ProtcliError(f"--strategy {options.strategy} is for several processes: give --devices 2 or more")
    if options.devices > 1 and config.spec.is_fitted:
        raise ProtcliError(f"{config.spec.name} is fitted in one pass: leave out --devices")
    return find_device(options.device, options.devices)


def _prepare(config: RunConfig) -> _Prepared:
    config = config.with_settings(devices=size_here() or config.run.devices)
    device = check(config)
    threads = use_threads(config.run.threads)
    keep_memory()
    fabric = start_engine(device, config.run.precision)
    data = open_data(config)
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
        try:
            for length in {config.evaluated_length, *recipe.padded_lengths} - {recipe.crop}:
                summarize(spec, length)  # what the model refuses, as a chain too long for it
            summary = summarize(spec, recipe.crop)
        except ValueError as error:
            raise ProtcliError(f"{spec.name} cannot be trained with these settings: {error}") from error
    if config.run.activation_checkpointing and not any(True for _ in blocks(spec.build())):
        raise ProtcliError(
            f"{spec.name} has no blocks (modules with parts of their own in an nn.ModuleList or nn.Sequential): "
            "leave out --activation-checkpointing"
        )
    if needs_logits(recipe.loss) and not summary.bins:
        raise ProtcliError(
            f"--loss {recipe.loss} needs a model that predicts a distribution over distances, but {spec.name} predicts "
            "distances only: choose another loss"
        )
    return _Prepared(config, data, fabric, summary, changes)


def _less_memory(config: RunConfig) -> str:
    """Advice for too little memory."""
    size, accumulate = config.spec.recipe.batch_size, config.spec.recipe.accumulate
    return f"give --batch-size {max(1, size // 2)} --accumulate {accumulate * 2}, or a smaller --crop"


def _train(
    interval: CheckpointInterval,
    run: Run | None = None,
    prepared: _Prepared | None = None,
    resumed: Run | None = None,
) -> Generator[Event, None, Finished | None]:
    """The whole training in one of its processes; the first one has a run, and what it has prepared.

    `resumed` is the run as it was found, if it is being resumed.
    """
    with ExitStack() as stack:
        record, logged = None, set[int]()
        if run is not None and prepared is not None:
            _explain_errors(stack, prepared.config)
            record = _begin_record(run, prepared, resumed)
            logged = set(resumed.history(Metric.VALID_MSE)) if resumed else logged
        group = stack.enter_context(joined())
        folder = Path(group.broadcast_text(str(run.folder) if run is not None else ""))
        if prepared is None:
            prepared = _prepare(read_config(folder / File.CONFIG))
            _explain_errors(stack, prepared.config)
        config, data, saved = prepared.config, prepared.data, folder / File.STATE
        fabric, options = prepared.fabric, config.run
        if group.is_distributed:
            fabric = start_engine(fabric.device, options.precision, group.size, options.strategy)
        state, warning = _begin(config, data, fabric, group, saved)
        if warning:
            log.warning("%s", warning)
        if resumed is not None:
            log.info("resumed after epoch %d and %d batches of the next", len(state.history), state.batch)
        done = len(state.history)
        if record is not None:
            yield Started(
                record.run.id, config, data, prepared.fabric.device, prepared.summary.parameters, record.sepmean.mse,
                done, state.batch, warning,
            )  # fmt: skip
        try:
            for event in _events(state, config, data, fabric, group):
                with uninterrupted():
                    due = interval.is_due()
                    if isinstance(event, Epoch):
                        best = Best.of(state.history)
                        if best.epoch == event.number:
                            _keep(folder, File.BEST, config.spec.name, state, group, valid_mse=best.valid.mse)
                        if record is not None:
                            record.complete_epoch(event, state.history, is_logged=event.number in logged)
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
            if run is not None:
                run.set_tags({Tag.DIVERGED: True})
            raise
        except (KeyboardInterrupt, GeneratorExit):
            # an epoch that was not recorded is repeated from the state before it
            if not group.is_distributed and done == len(state.history) and not state.stepping:
                with uninterrupted():
                    save_state(saved, state)
            raise
        _keep(folder, File.LAST, config.spec.name, state, group)
        if run is None or record is None:
            return None
        best = Best.of(state.history)
        network = config.saved_model(folder / weights_path(File.BEST)).network(prepared.fabric)
        if prepared.summary.bins:
            record.calibrate(network)
        record.draw_results(network, state.history, best)
        for path in state_paths(Path(File.STATE)):
            run.delete_artifact(path.as_posix())  # a finished run is never resumed
    return Finished(run.id, best, record.sepmean.mse)


def _explain_errors(stack: ExitStack, config: RunConfig) -> None:
    """Make a sentence of errors that too little memory or the user's model causes from here on."""
    stack.enter_context(memory_as_user_error(config.spec, _less_memory(config)))
    stack.enter_context(as_user_error(config.spec))
    stack.enter_context(compiling_as_user_error(config.spec))


def _begin_record(run: Run, prepared: _Prepared, resumed: Run | None) -> Record:
    """Fit the baselines and record what is known before the first epoch, or that the run is resumed."""
    config, data, device = prepared.config, prepared.data, prepared.fabric.device
    folder = run.folder
    (folder / File.CHECKPOINTS).mkdir(exist_ok=True)
    for name in (File.SEPMEAN, File.SEPMEAN_LENGTH):
        baseline = find_model(name).build().to(device)
        baseline.fit(on_device(data.fitting(BASELINE_BATCH).epoch(), device))  # type: ignore[operator]
        about = {"model": name, "split": data.train.name}
        save_checkpoint(folder / File.CHECKPOINTS, name, baseline.state_dict(), about)
        if name == File.SEPMEAN:
            sepmean = evaluate(baseline, data.validation(BASELINE_BATCH), device)
    record = Record(run, folder, config, data, device, sepmean, len(trained_on(config, data)))
    if resumed is None:
        record.describe(prepared.summary, total_steps(config, data))
        run.publish(File.MODEL, File.CONFIG)
    else:
        epochs = len(resumed.history(Metric.VALID_MSE))
        # a run that was killed when it was all but finished has its last weights, and is repeated
        has_state = saved_states(folder / File.STATE) or (folder / weights_path(File.LAST)).is_file()
        if epochs > 1 and not has_state:
            raise ProtcliError(
                f"run {run.id} has {epochs} epochs, but its {File.STATE} is gone: train it again as a new run"
            )
        # what was measured of its best weights by now will not be those of its end
        times = int(resumed.tags.get(Tag.RESUMED, 0)) + 1
        run.set_tags({Tag.RESUMED: times, Tag.ERROR: "", Tag.LOST: "", Tag.DIVERGED: "", Tag.VALID_MEASURED: ""})
    if prepared.changes:
        log.warning("figures may differ in their last digits: %s", "; ".join(prepared.changes))
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        Path(os.environ["TORCHELASTIC_ERROR_FILE"]).with_name(RUN_NOTE).write_text(run.id, encoding="utf-8")
    return record


def _begin(
    config: RunConfig, data: Dataset, fabric: Fabric, group: ProcessGroup, saved: Path
) -> tuple[TrainState, str]:
    """The state before the first step, or the one that was saved; and a sentence if that is not the latest one.

    Raises:
        ProtcliError: no saved state can be continued from.
    """
    recipe, options = config.spec.recipe, config.run
    seed_everything(options.seed)
    network = config.spec.build().to(memory_format=torch.channels_last)
    if hasattr(network, "prepare") and not saved_states(saved):  # a state holds what it has prepared
        network.prepare(trained_on(config, data), data.atom)  # type: ignore[operator]
    if group.is_distributed and fabric.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # there is none for the CPU
    average = make_average(fabric, network, recipe.ema)  # of the whole network
    if options.activation_checkpointing:
        checkpoint_activations(network)
    if options.compile:
        network.compile()
    model = fabric.setup_module(network)
    if config.spec.is_fitted:
        state = TrainState.without_steps(model)
    else:
        optimizer = make_optimizer(recipe.optimizer, model.parameters(), recipe.lr, recipe.weight_decay)
        optimizer = cast(Optimizer, fabric.setup_optimizers(optimizer))
        schedule = make_schedule(recipe.schedule, optimizer, total_steps(config, data), recipe.warmup)
        state = TrainState(model, optimizer, schedule, average, recipe.ema)
    warning = load_state(saved, state) if saved_states(saved) else ""
    state.sums = state.sums.part_of(group)
    return state, warning


def _events(
    state: TrainState, config: RunConfig, data: Dataset, fabric: Fabric, group: ProcessGroup
) -> Iterator[Step | Epoch]:
    """Train from a state to the end, see `training.loop`."""
    recipe, device = config.spec.recipe, fabric.device
    if config.spec.is_fitted:
        train, valid = data.fitting(BASELINE_BATCH), data.validation(BASELINE_BATCH)
        return fit_in_one_pass(state, train=train, valid=valid, device=device)
    return fit(
        fabric, state, find_loss(recipe.loss), train=kept_on(device, training_batches(config, data, group)),
        valid=kept_on(device, data.validation(recipe.batch_size)), epochs=recipe.epochs, accumulate=recipe.accumulate,
        max_grad_norm=recipe.max_grad_norm, group=group, seed=config.run.seed,
    )  # fmt: skip


def _keep(folder: Path, name: str, model: str, state: TrainState, group: ProcessGroup, **about: float) -> None:
    """Write the weights of the epoch that is over; all processes take part."""
    weights = full_weights(state.network)
    if group.rank == 0:
        content = {"model": model, "epoch": len(state.history), **about}
        save_checkpoint(folder / File.CHECKPOINTS, name, weights, content)


def open_data(config: RunConfig) -> Dataset:
    """The data of a configuration. Raises ProtcliError as `open_dataset` does."""
    data = config.data
    return open_dataset(
        data.source, train_split=data.train_split, atom=data.atom, evaluated_length=config.evaluated_length,
        held_out=data.held_out,
    )  # fmt: skip


def trained_on(config: RunConfig, data: Dataset) -> Proteins:
    """The training proteins that a run uses: all, or its recipe's share."""
    return take_share(data.train, config.spec.recipe.train_share, config.run.seed)


def training_batches(config: RunConfig, data: Dataset, group: ProcessGroup | None = None) -> ProteinBatches:
    """What a model is trained on by its recipe, or a process's share; order and crops follow from the seed."""
    recipe, group = config.spec.recipe, group or ProcessGroup()
    return ProteinBatches(
        proteins=trained_on(config, data), atom=data.atom, batch_size=recipe.batch_size, crop=recipe.crop,
        padded_lengths=recipe.padded_lengths, seed=config.run.seed, random_crop=recipe.random_crop,
        rank=group.rank, ranks=group.size,
    )  # fmt: skip


def steps_per_epoch(config: RunConfig, data: Dataset) -> int:
    """Optimiser steps of one pass over the training split."""
    return -(-len(training_batches(config, data)) // config.spec.recipe.accumulate)


def total_steps(config: RunConfig, data: Dataset) -> int:
    """Optimiser steps of the whole training; 0 for a model that is fitted in one pass."""
    return 0 if config.spec.is_fitted else steps_per_epoch(config, data) * config.spec.recipe.epochs


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
            code, notes = failure.exitcode, list(folder.rglob(RUN_NOTE))
            if rank == 0 and code > 0:
                return code
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            for output in folder.rglob(f"{rank}/stderr.log"):
                if last := output.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]:
                    how += f": {truncate(last.removeprefix('Error: '), 300)}"
            reason = f"process {rank} of {processes} (from 0) {how}"
            for note in notes:
                find_run(note.read_text(encoding="utf-8")).set_tags({Tag.ERROR: reason})
            raise ProtcliError(reason) from error
