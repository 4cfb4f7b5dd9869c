"""Every loss against hand values and torch's own; what is no pair changes neither sum nor gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from protcli.errors import ProtcliError
from protcli.models.spec import Prediction
from protcli.proteins.maps import LOCAL_FEATURES, upper_pairs
from protcli.proteins.residues import DSSP
from protcli.training.losses import LOSSES, find_loss, local_loss, needs_logits

# errors -0.5, 3 and -4 at true distances 2, 4 and 8
TRUE = torch.tensor([[[0.0, 2, 4], [2, 0, 8], [4, 8, 0]]])
PREDICTED = torch.tensor([[[0.0, 1.5, 7], [1.5, 0, 4], [7, 4, 0]]])
PAIRS = upper_pairs(torch.tensor([[True, True, True]]))

BY_HAND = {
    "mse": (0.25 + 9 + 16, 3),
    "mae": (0.5 + 3 + 4, 3),
    "huber": (0.125 + 2.5 + 3.5, 3),  # x^2 / 2 up to 1, then |x| - 1/2
    "log-cosh": (math.log(math.cosh(0.5)) + math.log(math.cosh(3)) + math.log(math.cosh(4)), 3),
    "mse-inverse-distance": (0.25 / 2 + 9 / 4 + 16 / 8, 1 / 2 + 1 / 4 + 1 / 8),
    # bins of 0..3, 3..6 and 6..9 A with likelihoods 1/6, 2/6, 3/6; the three distances are in one each
    "distogram": (math.log(6) + math.log(3) + math.log(2), 3),
    # the centres are 1.5, 4.5 and 7.5 A: 2 is five sixths in the first bin, 4 five sixths in the second, 8 in the last;
    # each counts four times; a fiftieth of the squared errors comes on top
    "distogram-mse": (
        4 * ((5 * math.log(6) + math.log(3)) / 6 + (math.log(6) + 5 * math.log(3)) / 6 + math.log(2)) + 25.25 / 50,
        3,
    ),
}
BINS = torch.tensor([0.0, 3, 6, 9])
LOGITS = torch.tensor([1.0, 2, 3]).log()


def predict(distance: torch.Tensor) -> Prediction:
    """Distances, and a distogram that follows from them."""
    bins, logits = BINS.to(distance.device), LOGITS.to(distance.device)
    centres = (bins[1:] + bins[:-1]) / 2
    return Prediction(distance, logits - (distance[..., None].float() - centres).abs(), bins)


OF_DISTANCES = [name for name in LOSSES if not needs_logits(name)]


@pytest.mark.parametrize("name", LOSSES)
def test_by_hand(name):
    total, weight = find_loss(name)(Prediction(PREDICTED, LOGITS.expand(1, 3, 3, 3), BINS), TRUE, PAIRS)
    assert total.item() == pytest.approx(BY_HAND[name][0], rel=1e-6)
    assert float(weight) == pytest.approx(BY_HAND[name][1], rel=1e-6)


def random_case(seed: int, proteins: int = 4, length: int = 17) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predicted and true maps [B, L, L] and the pairs."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.rand(proteins, length, length, generator=generator) * 40
    predicted = true + 5 * torch.randn(true.shape, generator=generator)
    mask = torch.rand(proteins, length, generator=generator) < 0.7
    mask[:, :3] = True
    return predicted, true, upper_pairs(mask)


def test_the_distogram_is_torchs_cross_entropy():
    distance, true, pairs = random_case(3)
    prediction = predict(distance)
    ours, theirs = (prediction.logits.clone().requires_grad_() for _ in range(2))
    total, weight = LOSSES["distogram"](Prediction(distance, ours, BINS), true, pairs)
    which = (true[pairs][:, None] >= BINS[1:-1]).sum(dim=1)  # by counting the edges passed
    expected = functional.cross_entropy(theirs[pairs], which)
    assert (total / weight).item() == pytest.approx(expected.item(), rel=1e-5)
    (total / weight).backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("longer", "weight"), [(1.0, 4), (3.3, 4), (3.4, 1)])  # 14.85 and 15.3 A
def test_soft_bins_have_their_lowest_cross_entropy_at_the_mean(longer, weight):
    """Against torch's cross-entropy with shares of classes; the best distribution has the true distance as its mean."""
    bins = longer * torch.tensor([0.0, 2, 4, 7, 12])
    centres = longer * torch.tensor([1.0, 3, 5.5, 9.5])
    true = longer * torch.tensor([[[0.0, 4.5], [4.5, 0]]])  # 0.4 of the way from 3 to 5.5 is 4, 0.6 is 4.5
    shares = torch.tensor([0.0, 0.4, 0.6, 0.0])
    assert (shares @ centres).item() == pytest.approx(longer * 4.5)
    pairs = upper_pairs(torch.ones(1, 2, dtype=torch.bool))
    logits = torch.randn(1, 2, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    total, _ = LOSSES["distogram-mse"](Prediction(true, logits, bins), true, pairs)  # no error of the distance
    expected = functional.cross_entropy(logits[0, 0, 1], shares)
    assert total.item() == pytest.approx(weight * expected.item(), rel=1e-5)
    total.backward()
    torch.testing.assert_close(
        logits.grad[0, 0, 1], weight * (logits[0, 0, 1].softmax(-1) - shares), rtol=1e-5, atol=2e-6
    )


@pytest.mark.parametrize("name", LOSSES)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), filling=st.sampled_from([0.0, 1e30, math.nan, math.inf, -math.inf]))
def test_what_is_no_pair_never_matters(name, seed, filling):
    predicted, true, pairs = random_case(seed)
    predicted[~pairs] = true[~pairs] = 0
    expected, expected_weight = LOSSES[name](predict(predicted), true, pairs)
    for where in ("true", "predicted"):
        filled = {"true": true.clone(), "predicted": predicted.clone()}
        filled[where][~pairs] = filling
        leaf = filled["predicted"].requires_grad_()
        total, weight = LOSSES[name](predict(leaf), filled["true"], pairs)
        assert total.item() == expected.item()
        assert float(weight) == float(expected_weight)
        total.backward()
        assert leaf.grad.isfinite().all()
        assert not leaf.grad[~pairs].any()
        assert leaf.grad[pairs].any()
    total, weight = LOSSES[name](predict(predicted), true, torch.zeros_like(pairs))
    assert total.item() == float(weight) == 0  # and not NaN


@pytest.mark.parametrize("error", [1e4, -1e4, 1e-3, 100.0])
def test_log_cosh_is_stable(error):
    true = torch.full((1, 2, 2), 5.0)
    leaf = (true + error).requires_grad_()
    total, _ = LOSSES["log-cosh"](predict(leaf), true, upper_pairs(torch.ones(1, 2, dtype=torch.bool)))
    exact = math.log(math.cosh(error)) if abs(error) < 700 else abs(error) - math.log(2)
    assert total.item() == pytest.approx(exact, rel=2e-3 if error == 1e-3 else 1e-6)  # 5.001 has an error of its own
    total.backward()
    assert leaf.grad[0, 0, 1].item() == pytest.approx(math.tanh(error), rel=1e-3)


def test_inverse_distance_stops_at_one():
    true, predicted = torch.full((1, 2, 2), 0.25), torch.full((1, 2, 2), 2.25)
    pairs = upper_pairs(torch.ones(1, 2, dtype=torch.bool))
    total, weight = LOSSES["mse-inverse-distance"](predict(predicted), true, pairs)
    assert (total.item(), weight.item()) == (4, 1)


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_predictions_are_compared_in_single(name):
    predicted, true, pairs = random_case(8)
    half = predicted.bfloat16()
    total, _ = LOSSES[name](predict(half), true, pairs)
    assert total.dtype == torch.float32
    assert total.item() == LOSSES[name](predict(half.float()), true, pairs)[0].item()


def test_unknown_loss():
    known = ", ".join(LOSSES)
    with pytest.raises(ProtcliError, match=f"^unknown loss 'rmse': choose one of {known} with --loss$"):
        find_loss("rmse")


def test_features_of_residues_by_hand():
    """Three residues, 2, 4 and 8 A apart: only the distance two further, once, and the residues nearby are known."""
    local = torch.zeros(1, 3, LOCAL_FEATURES).requires_grad_()
    loss = local_loss(local, TRUE, PAIRS, torch.tensor([[1, 2, 3]]))  # which it does not predict
    huber = lambda x: x * x / 2 if abs(x) < 1 else abs(x) - 0.5  # noqa: E731
    ahead, nearby = huber((4 - 6) / 0.8), huber((2 - 14) / 6)
    assert loss.item() == pytest.approx(0.5 * ((ahead + nearby) / 2 + nearby + nearby) / 3, rel=1e-5)
    loss.backward()
    assert local.grad[0, :, 0].ne(0).tolist() == [True, False, False]
    assert local.grad[0, :, -1].ne(0).all()


def test_secondary_structure_by_hand():
    """Known for the first and the last of three residues; the letters are alike for all but the last."""
    logits = torch.zeros(1, 3, len(DSSP))
    logits[0, 2, 4] = math.log(11)
    features = torch.zeros(1, 3, LOCAL_FEATURES)
    known = torch.tensor([[1, 0, 4]])
    both = local_loss(torch.cat([features, logits], dim=-1).requires_grad_(), TRUE, PAIRS, known)
    letters = (math.log(9) + 0 - math.log(11 / 19)) / 3
    assert (both - local_loss(features, TRUE, PAIRS, known)).item() == pytest.approx(0.25 * letters, rel=1e-5)
    nothing = local_loss(torch.cat([features, logits], dim=-1), TRUE, torch.zeros_like(PAIRS), known)
    assert nothing.item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_a_prediction_of_some_pairs_is_compared_there_alone(name):
    """Also of one twice, and of one that does not count."""
    predicted, true, pairs = random_case(3)
    length = true.shape[1]
    at = torch.tensor([1, length + 2, length + 2, 0, 3])  # 0 is on the diagonal
    whole = predict(predicted)
    some = Prediction(whole.distance.flatten(1)[:, at], whole.logits.flatten(1, 2)[:, at], whole.bins, None, at)
    total, weight = LOSSES[name](some, true, pairs)
    sums = []
    for place in at:
        alone = torch.zeros_like(pairs)
        alone[:, place // length, place % length] = pairs[:, place // length, place % length]
        sums.append(LOSSES[name](whole, true, alone))
    assert total.item() == pytest.approx(sum(each.item() for each, _ in sums), rel=1e-5)
    assert float(weight) == pytest.approx(sum(float(each) for _, each in sums))
