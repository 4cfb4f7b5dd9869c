"""Train one model and leave a complete run in MLflow."""

import logging
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from lightning_fabric import Fabric
from torch import nn

from protcli.errors import ProtcliError
from protcli.experiments.running.record import describe, draw_results, log_epoch, write_note
from protcli.experiments.runs.config import RunConfig, check_recipe
from protcli.models.external import explained, memory_explained
from protcli.models.summary import ModelSummary, summarize
from protcli.models.zoo import find_model
from protcli.proteins.batches import Batch, ordered_batches, shuffled_batches
from protcli.proteins.dataset import SAMPLE, Dataset, open_dataset
from protcli.tracking.runs import RunLog, start_run
from protcli.training.checkpoint import load_weights, save_checkpoint
from protcli.training.engine import LARGEST_SEED, find_device, seed_everything, start_engine
from protcli.training.loop import Epoch, Step, evaluate, fit
from protcli.training.losses import find_loss
from protcli.training.optimizers import make_optimizer, make_schedule

BEST, LAST, SEPMEAN = "best", "last", "sepmean"  # a run's checkpoints
CHECKPOINTS = "checkpoints"
BASELINE_BATCH = 32

log = logging.getLogger("protcli")


@dataclass(frozen=True)
class Started:
    """The run exists and its data and model are ready.

    Attributes:
        run_id: in MLflow.
        config: as resolved.
        data: what it is trained on.
        device: where.
        parameters: of the model.
        sepmean_mse: what the baseline scores on validation, in A^2.
    """

    run_id: str
    config: RunConfig
    data: Dataset
    device: torch.device
    parameters: int
    sepmean_mse: float


@dataclass(frozen=True)
class Finished:
    """The run is complete in MLflow. `best` is its best epoch, `sepmean_mse` the baseline's validation MSE in A^2."""

    run_id: str
    best: Epoch
    sepmean_mse: float


def train(config: RunConfig, experiment: str | None = None) -> Generator[Started | Step | Epoch | Finished, None, None]:
    """Train as configured, yielding what happens as it does; the run is complete when the generator is.

    Args:
        config: everything that decides the result.
        experiment: MLflow's; None leaves the choice to MLflow.

    Raises:
        ProtcliError: settings, data or model that cannot be used (before a run exists), a loss that is no longer
            finite, or too little memory (the run is then FAILED). A KeyboardInterrupt leaves it KILLED. All of them
            keep the last good checkpoint.
    """
    check_recipe(config.spec)
    if not 0 <= config.seed <= LARGEST_SEED:
        raise ProtcliError(f"--seed is {config.seed}: give a number from 0 to {LARGEST_SEED}")
    recipe = config.spec.recipe
    fabric = start_engine(find_device(config.device), config.precision)
    data = open_dataset(config.data, train_split=config.train_split, atom=config.atom, crop=recipe.crop)
    if config.digest not in (None, data.digest):
        raise ProtcliError(
            f"the configuration was made for data {config.digest}, {config.data} is {data.digest}: "
            "give it the same data, atom and crop, or set data.digest to null"
        )
    source = config.data if config.data == SAMPLE else str(Path(config.data).absolute())
    config = replace(config, data=source, train_split=data.train.name, digest=data.digest)
    smaller = (
        f"give --batch-size {max(1, recipe.batch_size // 2)} --accumulate {recipe.accumulate * 2}, or a smaller --crop"
    )
    with memory_explained(config.spec, smaller):
        summary = _summary(config)
    with (
        start_run(f"{config.spec.name} seed {config.seed}", experiment) as run,
        _files_of(run) as folder,
        memory_explained(config.spec, smaller),
        explained(config.spec),
    ):
        baseline = fit_sepmean(data, fabric.device)
        save_checkpoint(folder / CHECKPOINTS, SEPMEAN, baseline, {"model": SEPMEAN, "split": data.train.name})
        sepmean = evaluate(baseline, validation(data, BASELINE_BATCH), fabric.device)
        describe(run, folder, config, data, fabric.device, summary)

        seed_everything(config.seed)
        model = config.spec.build().to(memory_format=torch.channels_last)
        yield Started(run.id, config, data, fabric.device, summary.parameters, sepmean.mse)
        history: list[Epoch] = []
        best = None
        for event in _fitted(model, data, fabric) if config.spec.is_fitted else _trained(model, config, data, fabric):
            if isinstance(event, Epoch):
                history.append(event)
                about = {"model": config.spec.name, "epoch": event.number, "valid_mse": event.valid.mse}
                if best is None or event.valid.mse < best.valid.mse:
                    best = event
                    save_checkpoint(folder / CHECKPOINTS, BEST, model, about)
                save_checkpoint(folder / CHECKPOINTS, LAST, model, about)
                log_epoch(run, event, best, sepmean, fabric.device)
                write_note(run, config, data, best, sepmean)
                log.info(
                    "epoch %d: train MSE %.4f, validation MSE %.4f A^2, %.1f s",
                    event.number, event.train.mse, event.valid.mse, event.seconds,
                )  # fmt: skip
            yield event
        assert best is not None  # at least one epoch was asked for, and each ends in an Epoch
        load_weights(model, folder / CHECKPOINTS / f"{BEST}.safetensors")
        draw_results(folder, config, data, model, fabric.device, history, best, sepmean)
    yield Finished(run.id, best, sepmean.mse)


def validation(data: Dataset, batch_size: int) -> Iterator[Batch]:
    """All of validation, in order, each protein from its first residue."""
    return ordered_batches(data.valid, atom=data.atom, crop=data.crop, batch_size=batch_size)


def fit_sepmean(data: Dataset, device: torch.device) -> nn.Module:
    """The baseline of this data: the mean distance at each separation, from the training split."""
    baseline = find_model(SEPMEAN).build().to(device)
    batches = ordered_batches(data.train, atom=data.atom, crop=data.crop, batch_size=BASELINE_BATCH)
    baseline.fit(batch.to(device) for batch in batches)  # type: ignore[operator]
    return baseline


def _summary(config: RunConfig) -> ModelSummary:
    """The model's layers at the run's crop: what it refuses (a chain too long for it) is said before a run exists."""
    try:
        return summarize(config.spec, config.spec.recipe.crop)
    except ValueError as error:
        raise ProtcliError(f"{config.spec.name} cannot be trained so: {error}") from error


def _fitted(model: nn.Module, data: Dataset, fabric: Fabric) -> Iterator[Epoch]:
    model.to(fabric.device)
    started = perf_counter()
    batches = partial(ordered_batches, data.train, atom=data.atom, crop=data.crop, batch_size=BASELINE_BATCH)
    model.fit(batch.to(fabric.device) for batch in batches())  # type: ignore[operator]
    seconds = perf_counter() - started
    train = evaluate(model, batches(), fabric.device)
    valid = evaluate(model, validation(data, BASELINE_BATCH), fabric.device)
    yield Epoch(1, train, valid, loss=train.mse, lr=0.0, seconds=seconds, samples_per_second=len(train) / seconds)


def _trained(model: nn.Module, config: RunConfig, data: Dataset, fabric: Fabric) -> Iterator[Step | Epoch]:
    recipe = config.spec.recipe
    model, optimizer = fabric.setup(model, make_optimizer(recipe.optimizer, model.parameters(), recipe.lr))
    batches = -(-len(data.train) // recipe.batch_size)
    steps = -(-batches // recipe.accumulate) * recipe.epochs
    shuffled = partial(
        shuffled_batches, data.train, atom=data.atom, crop=data.crop, batch_size=recipe.batch_size,
        seed=config.seed, random_crop=recipe.random_crop,
    )  # fmt: skip
    return fit(
        fabric,
        model,
        optimizer,
        make_schedule(recipe.schedule, optimizer, steps),
        find_loss(recipe.loss),
        train=lambda epoch: shuffled(epoch=epoch),
        valid=lambda: validation(data, recipe.batch_size),
        batches_per_epoch=batches,
        epochs=recipe.epochs,
        accumulate=recipe.accumulate,
        clip=recipe.clip,
    )


@contextmanager
def _files_of(run: RunLog) -> Iterator[Path]:
    """A folder whose files become the run's, however it ends; protcli's log and all warnings go into its log.txt."""
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        (folder / CHECKPOINTS).mkdir()
        handler = _RunLogHandler(folder / "log.txt")
        loggers = (log, logging.getLogger("py.warnings"))
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False
        logging.captureWarnings(True)
        try:
            yield folder
            log.info("finished")
        except BaseException as error:
            log.error("stopped by %s: %s", type(error).__name__, error)
            raise
        finally:
            logging.captureWarnings(False)
            for logger in loggers:
                logger.removeHandler(handler)
            handler.close()
            run.tags({"deterministic": not handler.nondeterministic})
            run.artifact(folder)


class _RunLogHandler(logging.FileHandler):
    """Writes a run's log, and notices torch's warning that an algorithm is not deterministic."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.nondeterministic = False

    def emit(self, record: logging.LogRecord) -> None:
        self.nondeterministic |= "deterministic" in record.getMessage()
        super().emit(record)
