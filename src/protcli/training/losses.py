"""Losses by name: masked sums over residue pairs with the weight they are to be divided by.

A loss takes a `Prediction`, true distances float [B, L, L] in A and a pair mask bool [B, L, L]; it gives two scalars,
the weighted sum of its terms and the sum of their weights. The quotient, pooled over a whole batch (or over all batches
of an accumulated step), is what training lowers: long proteins count by their pairs, padding and unresolved residues
not at all.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from protcli.errors import ProtcliError
from protcli.models.spec import Prediction

Loss = Callable[[Prediction, Tensor, Tensor], tuple[Tensor, Tensor]]


def _uniform(term: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    def loss(prediction: Prediction, true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(pairs, term(prediction.distance.float(), true), 0).sum(), pairs.sum()

    return loss


def _log_cosh(predicted: Tensor, true: Tensor) -> Tensor:
    # log cosh x = |x| + softplus(-2|x|) - log 2, which does not overflow
    size = (predicted - true).abs()
    return size + functional.softplus(-2 * size) - math.log(2)


def _mse_inverse_distance(prediction: Prediction, true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    # no two residues are nearer than 1 A: the clamp only guards against bad coordinates
    weight = torch.where(pairs, 1 / true.clamp(min=1.0), 0)
    return ((prediction.distance.float() - true).square() * weight).sum(), weight.sum()


LOSSES: dict[str, Loss] = {
    "mse": _uniform(lambda predicted, true: (predicted - true).square()),
    "mae": _uniform(lambda predicted, true: (predicted - true).abs()),
    "huber": _uniform(lambda predicted, true: functional.huber_loss(predicted, true, reduction="none", delta=1.0)),
    "log-cosh": _uniform(_log_cosh),
    "mse-inverse-distance": _mse_inverse_distance,
}


def find_loss(name: str) -> Loss:
    """The loss of that name. Raises ProtcliError listing the known ones."""
    if name not in LOSSES:
        raise ProtcliError(f"unknown loss {name!r}: choose one of {', '.join(LOSSES)} with --loss")
    return LOSSES[name]
