"""Tensors on disk: safetensors files with a digest of their content in the header; no pickle is written or read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from protcli.atomic import atomic_write, write_whole
from protcli.errors import ProtcliError, truncate

DIGEST = "sha256"  # in the header


def save_checkpoint(folder: Path, name: str, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write `<name>.safetensors` and `<name>.json`, each complete or not at all."""
    write_tensors(folder / f"{name}.safetensors", weights)
    write_whole(folder / f"{name}.json", json.dumps(about, indent=2) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Write named tensors as a safetensors file, complete or not at all.

    `about` is kept as JSON in its header, beside the SHA-256 digest of the content.
    """
    # copied: safetensors stores only contiguous tensors that do not share memory
    copies = {
        key: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }
    about = dict(about or {})
    # one entry: safetensors writes several in any order, and equal content is to make equal files
    header = json.dumps({DIGEST: _digest(copies, about)} | about)
    with atomic_write(path) as partial:
        save_file(copies, partial, metadata={"about": header})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, and what it says about them (empty where it says nothing).

    The digest is checked where the file has one; other programs write none.

    Raises:
        ValueError: the file is missing or damaged; the message goes on from its name.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  not a dictionary
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"is not a readable safetensors file ({truncate(error, 200)})") from error
    if not isinstance(about, dict):
        raise ValueError("is not a readable safetensors file (its header describes it by no mapping)")
    digest = about.pop(DIGEST, None)
    if digest is not None and digest != _digest(tensors, about):
        raise ValueError("has been changed or damaged: its content does not have the digest in its header")
    return tensors, about


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of names, types, shapes and values of contiguous tensors, and of what is said about them."""
    sha = hashlib.sha256(json.dumps(about).encode())
    for key, value in sorted(tensors.items()):
        sha.update(f"\n{key} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    return sha.hexdigest()


def load_weights(model: nn.Module, weights: Path) -> None:
    """Load the weights of a network from a safetensors file.

    Raises:
        ProtcliError: the file is damaged, or its tensors do not match the network.
    """
    try:
        tensors = read_tensors(weights)[0]
        for name, own in model.state_dict().items():
            if name in tensors and tensors[name].is_floating_point() != own.is_floating_point():
                raise ValueError(f"holds {tensors[name].dtype} in {name}, where {own.dtype} is expected")
        model.load_state_dict(tensors)
    except ValueError as error:
        raise ProtcliError(f"{weights.name} {error}: train the model again") from error
    except RuntimeError as error:
        raise ProtcliError(
            f"{weights.name} does not fit {type(model).__name__}: its tensors have other names or shapes"
        ) from error
