"""The state of a training on disk: one safetensors file with JSON in its header, and the one saved before it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from protcli.errors import ProtcliError
from protcli.proteins.metrics import PairSums, stack_errors, unstack_errors
from protcli.training.checkpoint import read_tensors, write_tensors
from protcli.training.ranks import Ranks
from protcli.training.shards import divided_as, divided_weights, whole, whole_weights
from protcli.training.state import EpochErrors, EpochSums, TrainState


def save_state(path: Path, state: TrainState, ranks: Ranks | None = None) -> None:
    """Write a state as one safetensors file with JSON in its header, complete or not at all; no pickle.

    The one that was there is kept beside it, see `states`, for a disk may damage what it has. All processes that train
    together take part, after an optimiser step; the first one writes.
    """
    ranks = ranks or Ranks()
    device = next(state.model.parameters()).device
    sums = state.sums.over(ranks, device) if state.batch else state.sums
    tensors = {f"model.{key}": value for key, value in whole_weights(state.model).items()}
    if state.average is not None:
        tensors |= {f"average.{key}": value for key, value in whole_weights(state.average).items()}
    optimizer = state.optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = whole(value)
            else:
                scalars.setdefault(str(index), {})[name] = value
    if ranks.rank:
        return
    for key, parameter in state.model.named_parameters():
        if parameter.grad is not None:  # of a step still being accumulated
            tensors[f"gradient.{key}"] = parameter.grad
    for name, column in (("losses", sums.losses), ("weights", sums.weights)):
        if column:
            tensors[f"sums.{name}"] = torch.stack(column)
    if sums.errors:
        tensors |= {f"sums.{key}": value for key, value in vars(PairSums.concatenate(sums.errors)).items()}
    if state.history:
        history = stack_errors([epoch.valid for epoch in state.history])
        tensors |= {f"history.{key}": torch.from_numpy(value) for key, value in history.items()}
    tensors |= {f"generator.{key}": value for key, value in _generators().items()}
    about = {
        "epoch": state.epoch,
        "batch": state.batch,
        "samples": sums.samples,
        "seconds": sums.seconds,
        "lr": sums.lr,
        "train_mse": [epoch.train_mse for epoch in state.history],
        "groups": [_without(group, "params") for group in optimizer["param_groups"]],
        "scalars": scalars,
        "schedule": _without(state.schedule.state_dict(), "lr_lambdas"),
        "python": random.getstate(),
        "numpy": list(np.random.get_state())[2:],  # noqa: NPY002  a user's model may use the global generator
    }
    if path.is_file():
        path.replace(_before(path))  # what a process that is killed from here on leaves
    write_tensors(path, tensors, about)


def state_paths(path: Path) -> tuple[Path, Path]:
    """Where the latest state is, and the one before it."""
    return path, _before(path)


def states(path: Path) -> list[Path]:
    """The saved states that exist, the latest first."""
    return [each for each in state_paths(path) if each.is_file()]


def load_state(path: Path, state: TrainState) -> str:
    """Restore a fresh state of the same configuration, and the generators, to where `save_state` was called last.

    Where the latest state is damaged, the one before it is used.

    Returns:
        A sentence that says so; else an empty one.

    Raises:
        ProtcliError: all are damaged, or belong to another model or optimiser.
    """
    damaged = ""
    for each in states(path):
        try:
            tensors, about = read_tensors(each)
            _restore(state, about, tensors)
            return f"{damaged}: it continues from the state before" if damaged else ""
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            damaged = damaged or f"{each} is not a state that this training can continue from ({reason})"
    raise ProtcliError(f"{damaged}, nor is there a whole one before it: train it again as a new run")


def _before(path: Path) -> Path:
    return path.with_name(f"{path.stem}-before{path.suffix}")


def _restore(state: TrainState, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    state.model.load_state_dict(divided_weights(state.model, _under("model.", tensors)))
    if state.average is not None:
        state.average.load_state_dict(divided_weights(state.average, _under("average.", tensors)))
    for key, value in _under("gradient.", tensors).items():
        parameter = dict(state.model.named_parameters())[key]
        parameter.grad = torch.empty_like(parameter).copy_(value)
    _restore_optimizer(state.optimizer, about, _under("optimizer.", tensors))
    state.schedule.load_state_dict(about["schedule"] | {"lr_lambdas": [None]})
    sums, history = _under("sums.", tensors), _under("history.", tensors)
    device = next(state.model.parameters()).device
    state.epoch, state.batch = about["epoch"], about["batch"]
    state.sums = EpochSums(samples=about["samples"], seconds=about["seconds"], lr=about["lr"])
    if state.batch:
        on_device = {key: value.to(device) for key, value in sums.items()}
        state.sums.losses, state.sums.weights = (list(on_device.pop(key).unbind()) for key in ("losses", "weights"))
        state.sums.errors = [PairSums(**on_device)]
    if history:
        valid = unstack_errors(**{key: value.numpy() for key, value in history.items()})
        state.history = [EpochErrors(*epoch) for epoch in zip(about["train_mse"], valid, strict=True)]
    version, values, gauss = about["python"]
    random.setstate((version, tuple(values), gauss))
    numpy_state = ("MT19937", tensors["generator.numpy"].numpy(), *about["numpy"])
    np.random.set_state(numpy_state)  # noqa: NPY002
    torch.set_rng_state(tensors["generator.torch"])
    if "generator.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator.cuda"])


def _restore_optimizer(optimizer: Optimizer, about: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    current = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    restored: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # fused steps walk through memory: a moment needs the layout of its parameter (e.g. channels last)
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(divided_as(parameter, value))
        restored.setdefault(int(index), {})[name] = value
    for index, values in about["scalars"].items():
        restored.setdefault(int(index), {}).update(values)
    groups = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}
        | {"params": group["params"]}
        for saved, group in zip(about["groups"], current["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": restored, "param_groups": groups})


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _generators() -> dict[str, Tensor]:
    _, keys, *_ = np.random.get_state()  # noqa: NPY002
    found = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys))}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.get_rng_state()
    return found
