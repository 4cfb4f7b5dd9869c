"""Weights on disk: safetensors beside a JSON of what they belong to; no pickle is written or read."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from protcli.errors import ProtcliError


def save_checkpoint(folder: Path, name: str, model: nn.Module, about: dict[str, Any]) -> None:
    """Write `<name>.safetensors` and `<name>.json`, each complete or not at all."""
    weights = folder / f"{name}.safetensors"
    partial = weights.with_suffix(".partial")
    save_file({key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}, partial)
    partial.replace(weights)
    text = folder / f"{name}.json"
    partial = text.with_suffix(".partial")
    partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    partial.replace(text)


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
