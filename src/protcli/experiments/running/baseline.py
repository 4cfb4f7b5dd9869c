"""The baselines beside every figure, fitted to a run's own training split."""

import torch
from torch import nn

from protcli.models.zoo import find_model
from protcli.proteins.dataset import Dataset

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
