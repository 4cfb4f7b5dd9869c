"""Restore a run from MLflow: its configuration, and its weights as a model."""

from collections.abc import Sequence
from dataclasses import replace

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, read_config
from protcli.models.zoo import find_model
from protcli.proteins.confidence import Calibration
from protcli.tracking.keys import File, weights_path
from protcli.tracking.run import Run
from protcli.training.predictor import SavedModel


def recorded_config(run: Run) -> RunConfig:
    """A run's configuration. Raises ProtcliError if it is not a training run."""
    path = run.path(File.CONFIG)
    if File.MODEL in run.files():
        run.path(File.MODEL)  # the configuration names it, and it lies beside it
    return read_config(path)


def best_model(run: Run, config: RunConfig) -> SavedModel:
    """A run's best weights. Raises ProtcliError if it has none, or a file is damaged."""
    calibration = None
    if File.CALIBRATION in run.files():
        path = run.path(File.CALIBRATION)
        try:
            calibration = Calibration.from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ProtcliError(f"{File.CALIBRATION} of run {run.id} cannot be read: {error}") from error
    return SavedModel(config.spec, run.path(weights_path(File.BEST)), config.run.precision, calibration)


def ensemble_model(runs: Sequence[Run], config: RunConfig) -> SavedModel:
    """The best weights of several runs of one configuration as an ensemble. Raises as `best_model` does."""
    first, *others = (best_model(run, config) for run in runs)
    return replace(first, calibration=None, others=tuple(other.weights for other in others))


def baseline_model(run: Run, config: RunConfig, name: str = File.SEPMEAN) -> SavedModel:
    """The baseline with that name fitted to a run's own training split. Raises ProtcliError if the run has none."""
    return SavedModel(find_model(name), run.path(weights_path(name)), config.run.precision)
