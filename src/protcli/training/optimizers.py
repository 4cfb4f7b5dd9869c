"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from protcli.errors import ProtcliError

EPSILON = 1e-7  # Keras' default, as in the studies
# `fused` updates all parameters in one pass: ten times faster on a CPU for 66 million of them

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], float, float], Optimizer]] = {
    "adam": lambda parameters, lr, decay: Adam(parameters, lr=lr, eps=EPSILON, weight_decay=decay, fused=True),
    "adamw": lambda parameters, lr, decay: AdamW(parameters, lr=lr, eps=EPSILON, weight_decay=decay, fused=True),
    "sgd": lambda parameters, lr, decay: SGD(parameters, lr=lr, momentum=0.9, weight_decay=decay, fused=True),
    "rmsprop": lambda parameters, lr, decay: RMSprop(parameters, lr=lr, eps=EPSILON, weight_decay=decay),
}

# fraction of the learning rate at a given fraction of the steps after warm-up
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> Optimizer:
    """An optimiser with this name. Raises a ProtcliError that lists the known ones."""
    if name not in OPTIMIZERS:
        raise ProtcliError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)} with --optimizer")
    return OPTIMIZERS[name](parameters, lr, weight_decay)


def make_schedule(name: str, optimizer: Optimizer, total_steps: int, warmup: float = 0.0) -> LambdaLR:
    """A schedule over `total_steps` optimiser steps; the first fraction `warmup` of them rises linearly from zero.

    Raises:
        ProtcliError: the name is unknown; the message lists the known ones.
    """
    if name not in SCHEDULES:
        raise ProtcliError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)} with --schedule")
    factor = SCHEDULES[name]

    def share(step: int) -> float:
        # counted from the coming step, so that warm-up does not waste its first step on a rate of zero
        done = min((step + 0.5) / total_steps, 1.0)
        return done / warmup if done < warmup else factor((done - warmup) / (1 - warmup))

    return LambdaLR(optimizer, share)
