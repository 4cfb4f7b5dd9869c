"""Every metric against hand values, scikit-learn and plain loops; nothing but resolved pairs ever counts."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, root_mean_squared_error

from protcli.models.sepmean import SepMean, SepMeanConfig
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.maps import distances, upper_pairs
from protcli.proteins.metrics import PairErrors
from protcli.training.loop import evaluate

# two proteins on a line, in A; the second has two residues and one place of padding
COORDS = torch.tensor([[0.0, 3, 7], [0, 5, 0]])[..., None] * torch.tensor([1.0, 0, 0])
MASK = torch.tensor([[True, True, True], [True, True, False]])
PREDICTED = torch.tensor([[[0.0, 4, 4], [4, 0, 2], [4, 2, 0]], [[0, 8, 99], [8, 0, 99], [99, 99, 0]]])


@pytest.mark.filterwarnings("error")
def test_by_hand():
    # true 3, 7, 4 and 5: errors +1, -3, -2 and +3
    errors = PairErrors.of(PREDICTED, COORDS, MASK)
    sums = (errors.count, errors.squared, errors.absolute, errors.protein_mse, errors.protein_mae)
    assert [each.tolist() for each in sums] == [[3, 1], [14, 9], [6, 3], [14 / 3, 9], [2, 3]]
    assert (len(errors), errors.mse, errors.rmse, errors.mae) == (2, 23 / 4, math.sqrt(23 / 4), 9 / 4)
    # the full 3 x 3 maps in pm: 2 (100^2 + 300^2 + 200^2) and 2 * 300^2, mean of the two proteins
    assert errors.legacy_sse_pm2 == (280_000 + 180_000) / 2
    assert errors.is_finite()
    for bad in (math.nan, math.inf):
        predicted = PREDICTED.clone()
        predicted[0, 1, 2] = bad
        assert not PairErrors.of(predicted, COORDS, MASK).is_finite()
    errors = PairErrors.of(PREDICTED, COORDS, MASK & torch.tensor([[True], [False]]))  # the second has no pair
    assert (errors.count.tolist(), errors.mse) == ([3, 0], 14 / 3)
    np.testing.assert_array_equal([errors.protein_mse, errors.protein_mae], [[14 / 3, np.nan], [2, np.nan]])
    nothing = PairErrors.of(PREDICTED, COORDS, torch.zeros_like(MASK))
    assert math.isnan(nothing.mse)
    assert math.isnan(nothing.mae)


def random_case(seed: int, proteins: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Maps [B, L, L] that miss the truth by some A, walks [B, L, 3], and a mask [B, L] with gaps."""
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randn(proteins, length, 3, generator=generator).cumsum(1) * 2.2
    noise = torch.randn(proteins, length, length, generator=generator) * 4
    mask = torch.rand(proteins, length, generator=generator) < 0.8
    mask[:, :2] = True
    return distances(coords) + noise, coords, mask


def test_against_scikit_learn_and_a_plain_loop():
    predicted, coords, mask = random_case(0, proteins=5, length=23)
    errors = PairErrors.of(predicted, coords, mask)
    pairs = upper_pairs(mask)
    maps = distances(coords)[pairs], predicted[pairs]
    assert errors.mse == pytest.approx(mean_squared_error(*maps), rel=1e-6)
    assert errors.mae == pytest.approx(mean_absolute_error(*maps), rel=1e-6)
    assert errors.rmse == pytest.approx(root_mean_squared_error(*maps), rel=1e-6)
    legacy, protein_mse, protein_mae = [], [], []
    for found, xyz, resolved in zip(predicted.tolist(), coords.tolist(), mask.tolist(), strict=True):
        known = [place for place in range(23) if resolved[place]]
        missed = [found[i][j] - math.dist(xyz[i], xyz[j]) for i, j in combinations(known, 2)]
        protein_mse.append(sum(error**2 for error in missed) / len(missed))
        protein_mae.append(sum(map(abs, missed)) / len(missed))
        legacy.append(sum(2 * (100 * error) ** 2 for error in missed))  # both halves of the map, in picometres
    assert errors.legacy_sse_pm2 == pytest.approx(sum(legacy) / len(legacy), rel=1e-6)
    np.testing.assert_allclose([errors.protein_mse, errors.protein_mae], [protein_mse, protein_mae], rtol=1e-6)


def assert_same(found: PairErrors, expected: PairErrors) -> None:
    assert found.count.tolist() == expected.count.tolist()
    for name in ("mse", "rmse", "mae", "legacy_sse_pm2"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6)
    for name in ("protein_mse", "protein_mae"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-6)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6), proteins=st.integers(1, 7), length=st.integers(2, 24), padding=st.integers(0, 40),
    filling=st.sampled_from([0.0, 1e30, math.nan, math.inf, -math.inf]), batch_size=st.integers(1, 8),
)  # fmt: skip
def test_padding_batch_size_and_what_is_masked_change_nothing(seed, proteins, length, padding, filling, batch_size):
    predicted, coords, mask = random_case(seed, proteins, length)
    expected = PairErrors.of(predicted, coords, mask)
    size = (proteins, length + padding)
    wide_mask = torch.zeros(size, dtype=torch.bool)
    wide_mask[:, :length] = mask
    wide_coords = torch.full((*size, 3), filling)
    wide_coords[:, :length] = coords
    wide_coords[~wide_mask] = filling
    wide = torch.full((*size, size[1]), filling)
    wide[:, :length, :length] = predicted
    wide[~upper_pairs(wide_mask)] = filling  # the lower triangle and the diagonal too
    parts = [
        PairErrors.of(wide[first : first + batch_size], wide_coords[first : first + batch_size], part)
        for first, part in zip(range(0, proteins, batch_size), wide_mask.split(batch_size), strict=True)
    ]
    assert_same(PairErrors.concatenate(parts), expected)


def test_half_precision_maps_are_compared_in_single_and_long_sums_keep_their_digits():
    predicted, coords, mask = random_case(1, proteins=2, length=30)
    half = predicted.bfloat16()
    assert_same(PairErrors.of(half, coords, mask), PairErrors.of(half.float(), coords, mask))
    # 2 x 127,765 pairs of error 1e-2 beside one of 1e3: float32 sums of 1e6 cannot hold them
    length = 506
    predicted = torch.full((2, length, length), 1e-2)
    predicted[:, 0, 1] = 1e3
    errors = PairErrors.of(predicted, torch.zeros(2, length, 3), torch.ones(2, length, dtype=torch.bool))
    assert errors.squared[0] == pytest.approx(1e6 + (length * (length - 1) // 2 - 1) * 1e-4, abs=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees():
    predicted, coords, mask = random_case(2, proteins=4, length=40)
    assert_same(PairErrors.of(predicted.cuda(), coords.cuda(), mask.cuda()), PairErrors.of(predicted, coords, mask))


@pytest.mark.slow
def test_sepmean_on_real_chains(real_data):
    """Figures of an independent program: training_95, CA, the first 256 residues, pairs i < j."""
    model = SepMean(SepMeanConfig())

    def batches(split: str) -> ProteinBatches:
        return ProteinBatches(proteins=list(read_proteinnet(real_data / split)), atom="ca", crop=256, batch_size=32)

    model.fit(batches("training_95").epoch())
    for split, figures in (("validation", (9.698, 7.521, 3.1516e10)), ("testing", (10.562, 7.964, 4.6356e10))):
        errors = evaluate(model, batches(split), torch.device("cpu"))
        assert (errors.rmse, errors.mae) == pytest.approx(figures[:2], abs=5e-4)
        assert errors.legacy_sse_pm2 == pytest.approx(figures[2], abs=5e5)
