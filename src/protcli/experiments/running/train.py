"""Train one model into a complete run in MLflow, or resume a stopped run."""

import logging
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric

from protcli.errors import ProtcliError, Terminated
from protcli.experiments.config import RunConfig, check_recipe, conditions, other_conditions, recorded_config
from protcli.experiments.running.baseline import BATCH, fit_baseline
from protcli.experiments.running.fitting import begin, build, keep_best, keep_last, open_data, steps
from protcli.experiments.running.followers import together
from protcli.experiments.running.pace import Pace, read_pace
from protcli.experiments.running.record import Record
from protcli.models.external import as_user_error, compiling_as_user_error, memory_as_user_error
from protcli.models.summary import ModelSummary, summarize
from protcli.proteins.dataset import SAMPLE, Dataset
from protcli.tracking.keys import File, Metric, Param, Tag, weights_path
from protcli.tracking.run import Run, find_run, project_run, start_run
from protcli.training.activation_checkpointing import blocks
from protcli.training.checkpoint import save_checkpoint
from protcli.training.engine import LARGEST_SEED, STRATEGIES, find_device, keep_memory, start_engine, use_threads
from protcli.training.loop import Diverged, Epoch, Step, evaluate
from protcli.training.losses import needs_logits
from protcli.training.predictor import SavedModel
from protcli.training.process_group import size_here
from protcli.training.state import Best, save_state, saved_states, state_paths
from protcli.uninterrupted import uninterrupted

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
        sepmean_mse: the baseline's validation MSE, in A^2.
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
    """The run is complete in MLflow. `best` is its best epoch, `sepmean_mse` the baseline's validation MSE in A^2."""

    run_id: str
    best: Best
    sepmean_mse: float


Event = Started | Step | Epoch | Finished


@dataclass(frozen=True)
class _Prepared:
    """A run before it exists: everything that can be refused has been checked.

    Attributes:
        config: with what it is really trained with.
        data, fabric, summary: what it is trained on, by, and the model's layers.
        changes: what is not as when its configuration was written, a clause each.
    """

    config: RunConfig
    data: Dataset
    fabric: Fabric
    summary: ModelSummary
    changes: list[str]


def train(
    config: RunConfig,
    experiment: str | None = None,
    checkpoint_every: str | None = None,
    *,
    offline: bool = False,
) -> Generator[Event, None, None]:
    """Train as configured, yielding events as they happen; the run is complete when the generator is exhausted.

    Args:
        config: everything that decides the result.
        experiment: MLflow's experiment; None leaves the choice to MLflow.
        checkpoint_every: how often the state is saved within an epoch, see `pace`.
        offline: whether to mark the run for `sync_offline`.

    Raises:
        ProtcliError: settings, data or model that cannot be used (before a run exists), a loss that is no longer
            finite, or too little memory (the run is then FAILED). A KeyboardInterrupt leaves it KILLED, with the
            state after the last batch; otherwise the state saved last is kept.
    """
    pace = read_pace(checkpoint_every)
    prepared = _prepare(config)
    with start_run(f"{config.spec.name} seed {config.run.seed}", experiment) as run:
        if offline:
            run.set_tags({Tag.OFFLINE: "yes"})
        finished = yield from _run(run, prepared, pace)
    yield finished


def resume(run_id: str, checkpoint_every: str | None = None) -> Generator[Event, None, None]:
    """Resume a training that was stopped or killed, in its own run, as if it had never been stopped.

    It resumes where its state was saved last. On the same machine and versions, metrics, weights and every
    later epoch equal those of an uninterrupted training bit for bit; if they differ, the log says so.

    Raises:
        ProtcliError: there is no such run, it is finished, its process is still running, it was stopped before anything
            was saved, or as `train` does.
    """
    pace = read_pace(checkpoint_every)
    recorded = find_run(run_id)
    if recorded.status == "FINISHED":
        raise ProtcliError(f"run {run_id} is finished: there is nothing to resume")
    if recorded.is_being_written:
        raise ProtcliError(f"run {run_id} is being trained by process {recorded.tags[Tag.PROCESS]}: stop it first")
    if (project := project_run()) and project.id != run_id:
        project.set_tags({Tag.CONTINUES: run_id})
    prepared = _prepare(recorded_config(recorded))
    with start_run(recorded.name, run_id=run_id) as run:
        finished = yield from _run(run, prepared, pace, recorded)
    yield finished


def _prepare(config: RunConfig) -> _Prepared:
    check_recipe(config.spec)
    if not 0 <= config.run.seed <= LARGEST_SEED:
        raise ProtcliError(f"--seed is {config.run.seed}: give a number from 0 to {LARGEST_SEED}")
    config = config.with_settings(devices=size_here() or config.run.devices)
    if config.run.strategy not in STRATEGIES:
        raise ProtcliError(
            f"unknown strategy {config.run.strategy!r}: choose one of {', '.join(STRATEGIES)} with --strategy"
        )
    if config.run.devices == 1 and config.run.strategy != "auto":
        raise ProtcliError(f"--strategy {config.run.strategy} is for several processes: give --devices 2 or more")
    if config.run.devices > 1 and config.spec.is_fitted:
        raise ProtcliError(f"{config.spec.name} is fitted in one pass: leave out --devices")
    threads = use_threads(config.run.threads, config.run.devices)
    keep_memory()
    fabric = start_engine(find_device(config.run.device, config.run.devices), config.run.precision)
    data = open_data(config)
    if config.data.digest not in (None, data.digest):
        raise ProtcliError(
            f"the configuration was made for data {config.data.digest}, but {config.data.source} is {data.digest}: "
            "use the same data, families, atom and crop, or set data.digest to null"
        )
    source = config.data.source if config.data.source == SAMPLE else str(Path(config.data.source).absolute())
    made_with = conditions(fabric.device)
    changes = other_conditions(config.made_with, made_with)
    if threads > (cores := os.cpu_count() or threads):
        changes.append(f"{Param.THREADS} is {threads}, more than the cores here ({cores})")
    config = replace(config, made_with=made_with).with_settings(
        source=source, train_split=data.train.name, digest=data.digest, threads=threads
    )
    with memory_as_user_error(config.spec, _smaller(config)):
        summary = _summary(config)
    if config.run.activation_checkpointing and not any(True for _ in blocks(config.spec.build())):
        raise ProtcliError(
            f"{config.spec.name} has no blocks (modules with parts of their own in an nn.ModuleList or nn.Sequential): "
            "leave out --activation-checkpointing"
        )
    if needs_logits(config.spec.recipe.loss) and not summary.bins:
        raise ProtcliError(
            f"--loss {config.spec.recipe.loss} needs a model that predicts a distribution over distances, but "
            f"{config.spec.name} predicts distances only: choose another loss"
        )
    return _Prepared(config, data, fabric, summary, changes)


def _smaller(config: RunConfig) -> str:
    """Advice for too little memory."""
    recipe = config.spec.recipe
    return (
        f"give --batch-size {max(1, recipe.batch_size // 2)} --accumulate {recipe.accumulate * 2}, or a smaller --crop"
    )


def _summary(config: RunConfig) -> ModelSummary:
    """The layers at the run's crop; anything the model refuses (a chain too long for it) fails before a run exists."""
    crop = config.spec.recipe.crop
    try:
        for length in {config.evaluated_length, *config.spec.recipe.padded_lengths} - {crop}:
            summarize(config.spec, length)
        return summarize(config.spec, crop)
    except ValueError as error:
        raise ProtcliError(f"{config.spec.name} cannot be trained with these settings: {error}") from error


def _run(run: Run, prepared: _Prepared, pace: Pace, resumed: Run | None = None) -> Generator[Event, None, Finished]:
    """The whole training, in an existing run; `resumed` is that run as it was found, if it is being resumed."""
    config, data, device = prepared.config, prepared.data, prepared.fabric.device
    with (
        memory_as_user_error(config.spec, _smaller(config)),
        as_user_error(config.spec),
        compiling_as_user_error(config.spec),
        ExitStack() as stack,
    ):
        folder = run.folder
        (checkpoints := folder / File.CHECKPOINTS).mkdir(exist_ok=True)
        baselines = {name: fit_baseline(name, data, device) for name in (File.SEPMEAN, File.SEPMEAN_LENGTH)}
        for name, baseline in baselines.items():
            save_checkpoint(checkpoints, name, baseline.state_dict(), {"model": name, "split": data.train.name})
        sepmean = evaluate(baselines[File.SEPMEAN], data.validation(BATCH), device)
        record = Record(run, folder, config, data, device, sepmean)
        logged: set[int] = set()
        if resumed is None:
            record.describe(prepared.summary)
            run.publish(File.MODEL, File.CONFIG)
        else:
            logged = set(resumed.history(Metric.VALID_MSE))
            # a run that was killed when it was all but finished has its last weights, and is repeated
            saved = saved_states(folder / File.STATE) or (folder / weights_path(File.LAST)).is_file()
            if len(logged) > 1 and not config.spec.is_fitted and not saved:
                raise ProtcliError(
                    f"run {run.id} has {len(logged)} epochs, but its {File.STATE} is gone: train it again as a new run"
                )
            # what was measured of its best weights by now will not be those of its end
            times = int(resumed.tags.get(Tag.RESUMED, 0)) + 1
            run.set_tags({Tag.RESUMED: times, Tag.ERROR: "", Tag.LOST: "", Tag.DIVERGED: "", Tag.VALID_MEASURED: ""})
        if prepared.changes:
            log.warning("figures may differ in their last digits: %s", "; ".join(prepared.changes))
        group = stack.enter_context(together(config, folder))
        fabric = prepared.fabric
        if group.is_distributed:
            fabric = start_engine(device, config.run.precision, group.size, config.run.strategy)
        network = build(config, data, folder / File.STATE)
        state, warning = begin(network, config, data, fabric, group, folder / File.STATE)
        if warning:
            log.warning("%s", warning)
        if resumed is not None:
            log.info("resumed after epoch %d and %d batches of the next", len(state.history), state.batch)
        done = len(state.history)
        yield Started(
            run.id, config, data, device, prepared.summary.parameters, record.sepmean.mse, done, state.batch, warning
        )
        events = steps(state, config, data, fabric, group)
        try:
            for event in _noting_divergence(run, events):
                with uninterrupted():
                    if isinstance(event, Epoch):
                        keep_best(folder, config, state, group)
                        record.complete_epoch(event, state.history, is_logged=event.number in logged)
                        done = event.number
                    due = pace.is_due()
                    if group.is_distributed and isinstance(event, Step):
                        group.save_requested |= due and not event.saves  # all save after their next step
                        due = event.saves or event.stops
                    if isinstance(event, Epoch) or due:
                        save_state(folder / File.STATE, state, group)
                        pace.saved()
                if isinstance(event, Step) and event.stops:
                    raise KeyboardInterrupt if group.stop_signal == signal.SIGINT else Terminated
                yield event
        except (KeyboardInterrupt, GeneratorExit):
            # an epoch that was not recorded is repeated from the state before it
            may_save = not group.is_distributed and done == len(state.history)
            if may_save and not state.stepping:
                with uninterrupted():
                    save_state(folder / File.STATE, state)
            raise
        keep_last(folder, config, state, group)
        best = Best.of(state.history)
        network = SavedModel(config.spec, folder / weights_path(File.BEST), config.run.precision).network(
            prepared.fabric
        )
        if prepared.summary.bins:
            record.calibrate(network)
        record.draw_results(network, state.history, best)
        for path in state_paths(Path(File.STATE)):
            run.delete_artifact(path.as_posix())  # a finished run is never resumed
    return Finished(run.id, best, record.sepmean.mse)


def _noting_divergence(run: Run, events: Iterator[Step | Epoch]) -> Iterator[Step | Epoch]:
    """The same events; a run whose loss is no longer finite is tagged: that is a result, unlike other failures."""
    try:
        yield from events
    except Diverged:
        run.set_tags({Tag.DIVERGED: True})
        raise
