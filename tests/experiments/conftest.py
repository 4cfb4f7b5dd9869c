"""Runs made by hand, and a model that trains in no time."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from protcli.experiments import configuration
from protcli.experiments.scores import Scores
from protcli.proteins.metrics import PairErrors

PARAMS = {
    "model": "a", "model.parameters": "1234", "model.gmac": "0.5", "model.tail": "nearest", "recipe.lr": "0.001",
    "recipe.crop": "128", "data.evaluated_length": "128", "data.digest": "d1", "data.name": "real",
    "data.synthetic": "False",
    "data.train_split": "training_30", "data.train_proteins": "10", "data.valid_split": "validation",
    "data.valid_proteins": "3", "data.atom": "ca", "data.train_digest": "t1", "data.valid_digest": "v1",
    "recipe.epochs": "3", "run.precision": "32", "run.git_commit": "c1",
}  # fmt: skip
SCORES = (
    *("rmse", "mae", "mae_8", "drmsd", "lddt", "precision_long_L5", "precision_long_L", "precision_medium_L5"),
    *(f"{kind}_{period}" for kind in ("checkerboard", "blockiness") for period in (2, 4, 8, 16, 32)),
)
COUNT = np.array([10, 20, 30])


class FakeRun:
    """As much of a run as a comparison reads; `scores` and `epochs` are what it scored."""

    status = "FINISHED"

    def __init__(self, run_id: str, started: int, curve: Sequence[float], **params: str) -> None:
        self.id = self.name = run_id
        self.started = started
        self.params = PARAMS | {key.replace("__", "."): value for key, value in params.items()}
        self.metrics = {"best/epoch": 2.0, "train/peak_memory_gb": 1.5}
        self.tags = {"suite.cell": self.params["model"]}
        self.curve = curve

    def history(self, metric: str) -> dict[int, float]:
        values = {"train/seconds": (2.0, 4.0), "valid/legacy_sse_pm2": [1e9 * value for value in self.curve]}
        return dict(enumerate(values.get(metric, self.curve), start=1))

    def files(self) -> set[str]:
        return set()


def make_trained(mse, *, seed: int = 0, started: int = 0, curve=(9.0, 4.0, 5.0), **params: str) -> FakeRun:
    """A run with these mean squared errors of three proteins at its best epoch; sepmean has 50 everywhere.

    At its other epochs all errors are larger alike: in proportion to the curve.
    """
    squared = np.asarray(mse, dtype=float) * COUNT
    proteins = pd.DataFrame(
        {
            "id": ["one", "two", "three"],
            "class": ["", "", ""],
            "family": ["f1", "f2", "f3"],
            "pairs": COUNT,
            "squared": squared,
            "absolute": squared,
            "sepmean_squared": 50.0 * COUNT,
            "sepmean_absolute": 50.0 * COUNT,
        }
    )
    figures = {name: 0.5 for name in SCORES}
    run = FakeRun(f"{params.get('model', 'a')}{seed}{started}", started, curve, run__seed=str(seed), **params)
    run.scores = Scores(metrics=figures, sepmean=figures, truth=figures, proteins=proteins, separations=pd.DataFrame())
    run.epochs = [PairErrors(COUNT, squared * value / min(curve), squared) for value in curve]
    run.metrics["best/valid_mse"] = run.scores.errors.mse
    return run


@pytest.fixture(autouse=True)
def _fake_runs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a made-up run scored is read from it; of others, as always."""
    scores, epochs = configuration.validation_of, configuration.epochs_of
    read = {
        "validation_of": lambda run, **options: run.scores if isinstance(run, FakeRun) else scores(run, **options),
        "epochs_of": lambda run: run.epochs if isinstance(run, FakeRun) else epochs(run),
    }
    for name, function in read.items():
        monkeypatch.setattr(configuration, name, function)


GAPS = """
from dataclasses import dataclass

import torch
from torch import nn

from protcli.models import ModelSpec, Prediction, Recipe
from protcli.proteins.maps import separation


@dataclass(frozen=True)
class GapsConfig:
    power: float = 0.5


class Gaps(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.slope = nn.Parameter(torch.rand(()) + 2)

    def forward(self, residues):
        batch, length = residues.sequence.shape
        gaps = separation(length, self.slope.device).float() ** self.config.power
        return Prediction((gaps * self.slope).expand(batch, length, length))


gaps = ModelSpec("gaps", Gaps, GapsConfig(), Recipe(epochs=2, batch_size=5, lr=0.1, crop=32), "separation to a power")
"""


@pytest.fixture(scope="session")
def trained() -> Callable[..., FakeRun]:
    """See `make_trained`."""
    return make_trained


@pytest.fixture(scope="session")
def gaps_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the model `gaps`: one weight times |i - j| to a power."""
    path = tmp_path_factory.mktemp("models") / "gaps.py"
    path.write_text(GAPS, encoding="utf-8")
    return path


@pytest.fixture
def train_here() -> Callable[..., int]:
    """Trains one task of a suite or sweep at a time, as `experiments.tasks.train_process` does, but in this process."""
    from protcli.errors import ProtcliError
    from protcli.experiments.train import resume, train
    from protcli.training.loop import Epoch

    def train_task(run, config, on_line: Callable[[str], None], stops: Callable[[], bool]) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_RUN_ID", run.id)
            events = resume(run.id) if config is None else train(config)
            try:
                for event in events:
                    if isinstance(event, Epoch):
                        on_line(f"epoch {event.number}/\n")
                    if stops():
                        events.close()
                        return 143
            except ProtcliError as error:
                on_line(f"Error: {error}\n")
                return 1
        return 0

    return train_task
