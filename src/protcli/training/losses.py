"""Losses by name: masked sums over residue pairs and the weight to divide them by.

A loss takes a `Prediction`, true distances float [B, L, L] in Å and a pair mask bool [B, L, L]. It returns two scalars:
the weighted sum of its terms and the sum of their weights. Training minimises their quotient, pooled over a whole batch
(or over all batches of an accumulated step): proteins count by their number of pairs, padding and unresolved residues
do not count.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from protcli.errors import choose
from protcli.models.spec import Prediction
from protcli.proteins.maps import LOCAL_FEATURES, local_structure

Loss = Callable[[Prediction, Tensor, Tensor], tuple[Tensor, Tensor]]
MSE_WEIGHT = 0.02  # in nats, of a squared error in Å²
LOCAL_WEIGHT, SECONDARY_WEIGHT = 0.5, 0.5  # of the features of residues; among these, of the secondary structure
NEAR, NEAR_WEIGHT = 15.0, 4.0  # pairs closer than this in Å, those of an lDDT, count so many times in a distogram-mse


def _uniform(term: Callable[[Tensor], Tensor]) -> Loss:
    """The mean over pairs of a term of the error; the term is 0 at 0."""

    def loss(prediction: Prediction, true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        error, count = prediction.errors(true, pairs)
        return term(error).sum(), count

    return loss


def _huber(error: Tensor) -> Tensor:
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=1.0)


def _log_cosh(error: Tensor) -> Tensor:
    # log cosh x = |x| + log((1 + exp(-2|x|)) / 2), with (1 + e) / 2 = 1 + (e - 1) / 2: no overflow, and exactly 0 at 0
    size = error.abs()
    return size + torch.log1p(torch.expm1(-2 * size) / 2)


def _mse_inverse_distance(prediction: Prediction, true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    # no two residues are closer than 1 Å: the clamp only guards against bad coordinates
    weight = torch.where(prediction.of(pairs), 1 / prediction.of(true).clamp(min=1.0), 0)
    return (prediction.errors(true, pairs)[0].square() * weight).sum(), weight.sum()


def _distogram(prediction: Prediction, true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats between the predicted bins and the bin of the true distance."""
    assert prediction.logits is not None  # see `needs_logits`
    assert prediction.bins is not None
    pairs = prediction.of(pairs)
    inside = torch.bucketize(prediction.of(true), prediction.bins[1:-1].to(true.dtype))  # 0 .. K - 1
    logits = torch.where(pairs[..., None], prediction.logits.float(), 0)  # masked first, as in `Prediction.errors`
    likelihood = logits.log_softmax(dim=-1).gather(-1, inside[..., None])[..., 0]  # log-likelihood
    return torch.where(pairs, -likelihood, 0).sum(), pairs.sum()


def _distogram_mse(prediction: Prediction, true: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats with soft bins, and MSE_WEIGHT times the squared error.

    The cross-entropy of near pairs counts NEAR_WEIGHT times: they are few, and decide the fold.
    A true distance belongs to the two bins whose centres are next to it, in such shares that their mean is the distance
    itself: the best logits have the right mean. A distance outside the centres belongs to the first or last bin.
    """
    assert prediction.logits is not None  # see `needs_logits`
    assert prediction.bins is not None
    centres = ((prediction.bins[1:] + prediction.bins[:-1]) / 2).to(true.dtype)
    counted, inside = prediction.of(pairs), prediction.of(true).clamp(min=centres[0], max=centres[-1])
    above = torch.bucketize(inside, centres).clamp(min=1, max=len(centres) - 1)
    share = (inside - centres[above - 1]) / (centres[above] - centres[above - 1])
    logits = torch.where(counted[..., None], prediction.logits.float(), 0)  # masked first, as in `Prediction.errors`
    below_logit, above_logit = logits.gather(-1, torch.stack([above - 1, above], dim=-1)).unbind(-1)
    surprise = logits.logsumexp(dim=-1) - torch.lerp(below_logit, above_logit, share)
    surprise = torch.where(inside < NEAR, NEAR_WEIGHT, 1) * surprise
    error, count = prediction.errors(true, pairs)
    total = torch.where(counted, surprise, 0).sum() + MSE_WEIGHT * error.square().sum()
    return total, count


def local_loss(predicted: Tensor, true: Tensor, pairs: Tensor, secondary: Tensor) -> Tensor:
    """What is added to the mean loss of a model that also predicts features of residues: a weighted mean over these.

    Huber loss of what the distances say of a residue, mean over the features known, and, where it is predicted, the
    cross-entropy of its secondary structure. A residue counts as half of its pairs do.

    Args:
        predicted: [B, L, F], see `Prediction`.
        true, pairs: as of a loss.
        secondary: int64 [B, L], as of a batch.
    """
    values, known = local_structure(true, pairs)
    error = torch.where(known, predicted[..., :LOCAL_FEATURES].float() - values, 0)
    term = _huber(error).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
    if predicted.shape[-1] > LOCAL_FEATURES:
        classes = predicted[..., LOCAL_FEATURES:].float().mT
        term = term + SECONDARY_WEIGHT * functional.cross_entropy(classes, secondary, ignore_index=0, reduction="none")
    weight = (pairs.sum(dim=1) + pairs.sum(dim=2)) / 2
    return LOCAL_WEIGHT * (term * weight).sum() / weight.sum().clamp(min=1)


LOSSES: dict[str, Loss] = {
    "mse": _uniform(torch.square),
    "mae": _uniform(torch.abs),
    "huber": _uniform(_huber),
    "log-cosh": _uniform(_log_cosh),
    "mse-inverse-distance": _mse_inverse_distance,
    "distogram": _distogram,
    "distogram-mse": _distogram_mse,
}


def find_loss(name: str) -> Loss:
    """The loss with this name. Raises a ProtcliError that lists the known ones."""
    return LOSSES[choose("loss", name, LOSSES)]


def needs_logits(name: str) -> bool:
    """Whether the loss needs a distogram, which a model that predicts only distances does not have."""
    return LOSSES[name] in (_distogram, _distogram_mse)
