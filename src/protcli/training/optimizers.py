"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from protcli.errors import ProtcliError

EPSILON = 1e-7  # Keras' default, as in the studies
# `fused` makes a step in one pass over the parameters: for 66 million of them, ten times faster on a CPU

OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], float], Optimizer]] = {
    "adam": lambda parameters, lr: Adam(parameters, lr=lr, eps=EPSILON, fused=True),
    "adamw": lambda parameters, lr: AdamW(parameters, lr=lr, eps=EPSILON, weight_decay=1e-2, fused=True),
    "sgd": lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.9, fused=True),
    "rmsprop": lambda parameters, lr: RMSprop(parameters, lr=lr, eps=EPSILON),
}

WARMUP = 0.05  # share of all steps

# share of the learning rate at a given share of all steps done
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
    "warmup-cosine": lambda done: (
        done / WARMUP if done < WARMUP else (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2
    ),
}


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """An optimiser of that name. Raises ProtcliError listing the known ones."""
    if name not in OPTIMIZERS:
        raise ProtcliError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)} with --optimizer")
    return OPTIMIZERS[name](parameters, lr)


def make_schedule(name: str, optimizer: Optimizer, total_steps: int) -> LambdaLR:
    """A schedule over `total_steps` optimiser steps. Raises ProtcliError listing the known ones."""
    if name not in SCHEDULES:
        raise ProtcliError(f"unknown schedule {name!r}: choose one of {', '.join(SCHEDULES)} with --schedule")
    factor = SCHEDULES[name]
    # counted from the step about to be made, so that a warm-up does not waste its first step on a rate of zero
    return LambdaLR(optimizer, lambda step: factor(min((step + 0.5) / total_steps, 1.0)) if name != "constant" else 1.0)
