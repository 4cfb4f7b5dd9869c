"""Weights on disk: safetensors beside a JSON of what they belong to; no pickle is written or read."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError


def save_checkpoint(folder: Path, name: str, model: nn.Module, about: dict[str, Any]) -> None:
    """Write `<name>.safetensors` and `<name>.json`, each complete or not at all."""
    # copied: safetensors stores rows of plain tensors only, none of which shares its memory with another
    tensors = {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }
    with atomic_write(folder / f"{name}.safetensors") as partial:
        save_file(tensors, partial)
    with atomic_write(folder / f"{name}.json") as partial:
        partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def load_weights(model: nn.Module, weights: Path) -> None:
    """Fill a network from a safetensors file.

    Raises:
        ProtcliError: the file is damaged, or holds other tensors than the network has.
    """
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, OSError) as error:
        raise ProtcliError(f"{weights} is no readable safetensors file ({error}): train the model again") from error
    except RuntimeError as error:
        raise ProtcliError(
            f"{weights} does not fit {type(model).__name__}: its tensors have other names or shapes than this model's"
        ) from error
