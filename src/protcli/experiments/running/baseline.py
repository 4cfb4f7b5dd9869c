"""The baselines beside every figure, fitted to a run's own training split."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import nn

from protcli.models.zoo import find_model
from protcli.proteins.dataset import Dataset
from protcli.training.events import Epoch
from protcli.training.loop import evaluate
from protcli.training.state import EpochErrors

BATCH = 32


def fit_baseline(name: str, data: Dataset, device: torch.device) -> nn.Module:
    """Fit a baseline, `sepmean` or `sepmean-length`, to the training split."""
    baseline = find_model(name).build().to(device)
    fit(baseline, data, device)
    return baseline


def fit(model: nn.Module, data: Dataset, device: torch.device) -> None:
    """Fit a model that has a method `fit` to the training split, in one pass."""
    batches = data.fitting(BATCH).epoch()
    model.fit(batch.to(device) for batch in batches)  # type: ignore[operator]


@dataclass
class FittedState:
    """What a fitted model has of a `TrainState`: its network and its history."""

    network: nn.Module
    history: list[EpochErrors] = field(default_factory=list)


def fit_as_epoch(state: FittedState, data: Dataset, device: torch.device) -> Iterator[Epoch]:
    """Fit a model as `fit` does, and yield that as the only epoch of its training."""
    model = state.network.to(device)
    started = perf_counter()
    fit(model, data, device)
    seconds = perf_counter() - started
    train = evaluate(model, data.fitting(BATCH), device)
    valid = evaluate(model, data.validation(BATCH), device)
    state.history = [EpochErrors(train.mse, valid)]
    yield Epoch(1, train, valid, loss=train.mse, lr=0.0, seconds=seconds, samples_per_second=len(train) / seconds)
