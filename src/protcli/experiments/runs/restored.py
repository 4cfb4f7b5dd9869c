"""Restore a run from MLflow: its configuration, and its weights as a model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, read_config
from protcli.models.zoo import find_model
from protcli.proteins.confidence import Calibration
from protcli.tracking.keys import File, weights_path
from protcli.tracking.runs import RecordedRun
from protcli.training.predictor import SavedModel


def recorded_config(run: RecordedRun, folder: Path) -> RunConfig:
    """A run's configuration, with its files downloaded to a folder. Raises ProtcliError if it is not a training run."""
    path = run.download(File.CONFIG, folder)
    if File.MODEL in run.files():
        run.download(File.MODEL, folder)
    return read_config(path)


def best_model(run: RecordedRun, config: RunConfig, folder: Path) -> SavedModel:
    """A run's best weights, downloaded to a folder. Raises ProtcliError if it has none, or a file is damaged."""
    calibration = None
    if File.CALIBRATION in run.files():
        path = run.download(File.CALIBRATION, folder)
        try:
            calibration = Calibration.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ProtcliError(f"{File.CALIBRATION} of run {run.id} cannot be read: {error}") from error
    return SavedModel(config.spec, run.download(weights_path(File.BEST), folder), config.run.precision, calibration)


def ensemble_model(runs: Sequence[RecordedRun], config: RunConfig, folder: Path) -> SavedModel:
    """The best weights of several runs of one configuration as an ensemble. Raises as `best_model` does."""
    models = []
    for run in runs:
        (own := folder / run.id).mkdir()
        models.append(best_model(run, config, own))
    first, *others = models
    return replace(first, calibration=None, others=tuple(other.weights for other in others))


def baseline_model(run: RecordedRun, config: RunConfig, folder: Path, name: str = File.SEPMEAN) -> SavedModel:
    """The baseline with that name fitted to a run's own training split. Raises ProtcliError if the run has none."""
    return SavedModel(find_model(name), run.download(weights_path(name), folder), config.run.precision)
