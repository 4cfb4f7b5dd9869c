"""Optimisers and learning-rate schedules, by name."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from protcli.errors import choose
from protcli.training.process_group import full_tensor, shard_like

EPSILON = 1e-7  # Keras' default, as in the studies
MOMENTUM = 0.95
ORTHOGONAL = (3.4445, -4.775, 2.0315)  # coefficients of the quintic, which is applied ORTHOGONAL_STEPS times
ORTHOGONAL_STEPS = 5


class Muon(AdamW):
    """Moves each matrix by its mean gradient made orthogonal, and vectors as AdamW does.

    A matrix is a parameter of two or more dimensions: the first against all others, as in a convolution. Its step is as
    long as AdamW's usually is, so that learning rate and weight decay are AdamW's. Matrices of one shape are computed
    together, in the parameters' precision; torch's own Muon takes them singly, in bfloat16, which CPUs compute slowly.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; length of a step: Liu et al. 2025,
    arXiv:2502.16982.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        group, alike = self.param_groups[0], defaultdict(list)
        for matrix in group["params"]:
            if matrix.ndim > 1 and matrix.grad is not None:
                state = self.state[matrix]
                if not state:  # with a step, which AdamW looks for when it is loaded
                    state |= {"step": torch.zeros(()), "exp_avg": torch.zeros_like(matrix)}
                mean = state["exp_avg"].lerp_(matrix.grad, 1 - MOMENTUM)
                ahead = full_tensor(matrix.grad.lerp(mean, MOMENTUM)).flatten(1)  # of which a process may have a part
                alike[ahead.shape].append((matrix, ahead))
                matrix.grad = None  # AdamW passes by what has none
        loss = super().step(closure)
        for shape, matrices in alike.items():
            moves = orthogonal(torch.stack([ahead for _, ahead in matrices]))
            length = 0.2 * group["lr"] * math.sqrt(max(shape))
            for (matrix, _), move in zip(matrices, moves, strict=True):
                part = shard_like(matrix, move.reshape(matrix.shape))
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).sub_(part, alpha=length)
        return loss


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest orthogonal matrices [N, A, B]: the singular values become 0.7 to 1.2, but those near 0."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    first, third, fifth = ORTHOGONAL
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    for _ in range(ORTHOGONAL_STEPS):
        square = x @ x.mT
        x = first * x + (third * square + fifth * square @ square) @ x
    return x


# `fused` updates all parameters in one pass: ten times faster on a CPU for 66 million of them
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adam": partial(Adam, eps=EPSILON, fused=True),
    "adamw": partial(AdamW, eps=EPSILON, fused=True),
    "sgd": partial(SGD, momentum=0.9, fused=True),
    "rmsprop": partial(RMSprop, eps=EPSILON),
    "muon": partial(Muon, eps=EPSILON, fused=True),
}

# fraction of the learning rate at a given fraction of the steps after warm-up
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + math.cos(math.pi * done)) / 2,
}


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> Optimizer:
    """An optimiser with this name. Raises a ProtcliError that lists the known ones."""
    return OPTIMIZERS[choose("optimizer", name, OPTIMIZERS)](parameters, lr=lr, weight_decay=weight_decay)


def make_schedule(name: str, optimizer: Optimizer, total_steps: int, warmup: float = 0.0) -> LambdaLR:
    """A schedule over `total_steps` optimiser steps; the first fraction `warmup` of them rises linearly from zero.

    Raises:
        ProtcliError: the name is unknown; the message lists the known ones.
    """
    factor = SCHEDULES[choose("schedule", name, SCHEDULES)]

    def share(step: int) -> float:
        # counted from the coming step, so that warm-up does not waste its first step on a rate of zero
        done = min((step + 0.5) / total_steps, 1.0)
        return done / warmup if done < warmup else factor((done - warmup) / (1 - warmup))

    return LambdaLR(optimizer, share)
