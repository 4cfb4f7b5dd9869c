"""Weights on disk: a safetensors file with a JSON file that describes it; no pickle is written or read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError


def save_checkpoint(folder: Path, name: str, model: nn.Module, about: Mapping[str, Any]) -> None:
    """Write `<name>.safetensors` and `<name>.json`, each complete or not at all."""
    write_tensors(folder / f"{name}.safetensors", model.state_dict())
    with atomic_write(folder / f"{name}.json") as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write named tensors as a safetensors file, complete or not at all; `about` is kept as JSON in its header."""
    # copied: safetensors stores only contiguous tensors that do not share memory
    copies = {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }
    with atomic_write(path) as partial:
        save_file(copies, partial, metadata=None if about is None else {"about": json.dumps(about)})


def load_weights(model: nn.Module, weights: Path) -> None:
    """Load the weights of a network from a safetensors file.

    Raises:
        ProtcliError: the file is damaged, or its tensors do not match the network.
    """
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, OSError) as error:
        raise ProtcliError(f"{weights} is not a readable safetensors file ({error}): train the model again") from error
    except RuntimeError as error:
        raise ProtcliError(
            f"{weights} does not fit {type(model).__name__}: its tensors have other names or shapes"
        ) from error
