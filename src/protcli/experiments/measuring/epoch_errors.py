"""Errors of every epoch of a training on every validation protein, as one safetensors file.

Tensors: `count` int64 [N], `squared` and `absolute` float64 [E, N], as in `PairErrors`, in the order of the split.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from protcli.errors import ProtcliError
from protcli.proteins.metrics import PairErrors, stack_errors, unstack_errors
from protcli.tracking.keys import File
from protcli.tracking.run import Run
from protcli.training.checkpoint import read_tensors, write_tensors


def write_epoch_errors(path: Path, epochs: Sequence[PairErrors]) -> None:
    """Write the errors of at least one epoch, the first first, complete or not at all."""
    write_tensors(path, {key: torch.from_numpy(value) for key, value in stack_errors(epochs).items()})


def read_epoch_errors(path: Path) -> list[PairErrors]:
    """The errors of every epoch, the first first, bit for bit as written.

    Raises:
        ValueError: the file is missing or damaged, or holds something else; the message goes on from its name.
    """
    tensors = {key: value.numpy() for key, value in read_tensors(path)[0].items()}
    layout = {key: (value.dtype.name, value.ndim) for key, value in tensors.items()}
    if (
        layout != {"count": ("int64", 1), "squared": ("float64", 2), "absolute": ("float64", 2)}
        or tensors["squared"].shape != tensors["absolute"].shape
        or tensors["squared"].shape[1:] != tensors["count"].shape
    ):
        raise ValueError("is no table of validation errors: its tensors have other names, types or shapes")
    return unstack_errors(**tensors)


def epochs_of(run: Run) -> list[PairErrors]:
    """The errors of a finished run on its validation proteins after every epoch, the first first.

    Raises:
        ProtcliError: the run's file is damaged, or its artifacts cannot be read.
    """
    try:
        return read_epoch_errors(run.path(File.VALIDATION_ERRORS))
    except ValueError as error:
        raise ProtcliError(
            f"run {run.id} ({run.name}) cannot be compared: its {File.VALIDATION_ERRORS} {error}; restore the "
            f"file, or delete the run with `mlflow runs delete --run-id {run.id}` and train it again"
        ) from error
