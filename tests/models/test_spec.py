"""What a prediction says of itself."""

import math

import numpy as np
import pytest
import torch

from protcli.models.spec import Prediction
from protcli.proteins.confidence import probability_below


def test_contacts_are_ranked_by_their_odds_by_hand() -> None:
    """Bins of 0 to 6, 6 to 10 and 10 to 20 A with 0.2, 0.5 and 0.3: half of the second bin is below 8 A."""
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(1, 2, 2, 3)
    order = Prediction(torch.zeros(1, 2, 2), logits, torch.tensor([0.0, 6, 10, 20])).contact_order()
    assert order[0, 0, 1].item() == pytest.approx(math.log(0.55 / 0.45))


def test_contacts_are_ranked_as_their_probabilities_are() -> None:
    """Also where those are so near one that single precision cannot tell them apart."""
    torch.manual_seed(0)
    bins, logits = torch.linspace(3, 21, 13), 3 * torch.randn(1, 9, 9, 12)
    order = Prediction(torch.zeros(1, 9, 9), logits, bins).contact_order()
    probability = probability_below(logits.double().softmax(-1).numpy(), bins.double().numpy(), 8.0)
    np.testing.assert_array_equal(order.flatten().argsort().numpy(), np.argsort(-probability.flatten()))
    sure = torch.tensor([[40.0, 0, 0], [50.0, 0, 0]]).view(1, 1, 2, 3)
    assert Prediction(torch.zeros(1, 1, 2), sure, torch.tensor([0.0, 4, 8, 20])).contact_order().diff().item() < -9


def test_contacts_are_ranked_by_distance_without_a_distogram() -> None:
    distance = torch.rand(1, 5, 5)
    assert Prediction(distance).contact_order() is distance


def test_errors_are_computed_once_for_the_same_tensors() -> None:
    true, pairs = torch.full((1, 2, 2), 3.0), torch.tensor([[[False, True], [False, False]]])
    prediction = Prediction(torch.tensor([[[0.0, 5], [torch.nan, 0]]]))
    error, count = prediction.errors(true, pairs)
    assert (error.tolist(), count.item()) == ([[[0, 2], [0, 0]]], 1)
    assert prediction.errors(true, pairs)[0] is error
    assert prediction.errors(true + 1, pairs)[0].sum() == 1
    assert prediction.errors(true, ~pairs)[1] == 3
