"""Distance maps and masks against hand values, plain loops and biotite."""

import math

import biotite.structure
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protcli.proteins.maps import (
    AHEAD,
    DEVIATION,
    LOCAL_FEATURES,
    USUAL,
    Distances,
    distances,
    local_structure,
    pair_mask,
    separation,
    sums_by_separation,
    symmetrize,
    upper_pairs,
)


def test_distances_by_hand():
    points = torch.tensor([[0.0, 0, 0], [3, 4, 0], [0, 0, 12]])
    expected = torch.tensor([[0.0, 5, 12], [5, 0, 13], [12, 13, 0]])
    assert torch.equal(distances(points), expected)
    assert torch.equal(distances(points.expand(2, 5, 3, 3)), expected.expand(2, 5, 3, 3))
    points = torch.zeros(3, 3, requires_grad=True)  # they coincide
    distances(points).sum().backward()
    assert torch.equal(points.grad, torch.zeros(3, 3))


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.floats(0, 2000))
def test_distances_agree_with_biotite(seed, length, offset):
    # far from the origin, as in crystal frames, where the matrix-product shortcut loses half the digits
    rng = np.random.default_rng(seed)
    points = (offset + np.cumsum(rng.normal(size=(length, 3)) * 2.2, axis=0)).astype(np.float32)
    found = distances(torch.from_numpy(points)).numpy()
    for i in range(length):
        row = [math.dist(map(float, points[i]), map(float, other)) for other in points]
        np.testing.assert_allclose(found[i], row, rtol=1e-6)
        np.testing.assert_allclose(found[i], biotite.structure.distance(points[i], points), rtol=1e-6)
    np.testing.assert_array_equal(found, found.T)


def test_masks_and_symmetry_by_hand():
    mask = torch.tensor([[True, False, True, True], [False, False, False, False]])
    pairs, upper = pair_mask(mask), upper_pairs(mask)
    assert pairs[0].int().tolist() == [[1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 1, 1], [1, 0, 1, 1]]
    assert upper[0].nonzero().tolist() == [[0, 2], [0, 3], [2, 3]]
    assert not (pairs | upper)[1].any()
    assert pairs.dtype == upper.dtype == torch.bool
    raw = torch.tensor([[9.0, 1, 5], [3, 9, 2], [-5, 4, 9]])
    assert symmetrize(raw).tolist() == [[0, 2, 0], [2, 0, 3], [0, 3, 0]]
    batch = torch.randn(2, 7, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(symmetrize(batch), symmetrize(batch).mT)
    raw[0, 0] = math.nan  # whatever a net says of the diagonal
    assert symmetrize(raw)[0, 0] == 0


def test_separations_and_sums_by_them() -> None:
    assert separation(4).tolist() == [[0, 1, 2, 3], [1, 0, 1, 2], [2, 1, 0, 1], [3, 2, 1, 0]]
    assert separation(4).dtype == torch.int64
    maps = torch.triu(torch.randn(3, 7, 7, generator=torch.Generator().manual_seed(1)))
    wanted = torch.stack([maps.diagonal(k, dim1=-2, dim2=-1).double().sum(-1) for k in range(7)], dim=-1)
    torch.testing.assert_close(sums_by_separation(maps), wanted, rtol=1e-14, atol=1e-14)
    upper = torch.tensor([[1.0, 2, 3], [0, 4, 5], [0, 0, 6]])
    assert sums_by_separation(torch.stack([upper, 10 * upper])).tolist() == [[11, 7, 3], [110, 70, 30]]
    assert sums_by_separation(torch.ones(2, 2, dtype=torch.bool).triu(1)).tolist() == [0, 1]


def test_what_a_gpu_computes():
    points = torch.randn(2, 3, 30, 3, generator=torch.Generator().manual_seed(0)).cumsum(-2) * 3
    points[0, 0, 4] = points[0, 0, 5]
    weight = torch.randn(2, 3, 30, 30, generator=torch.Generator().manual_seed(1))
    results = []
    for compute in (distances, Distances.apply):
        given = points.clone().requires_grad_()
        found = compute(given)
        (found * weight).sum().backward()
        results.append((found.detach(), given.grad))
    (wanted, wanted_gradient), (found, gradient) = results
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-4, atol=1e-5)
    far = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(Distances.apply, far)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees():
    points = torch.randn(2, 30, 3).cumsum(1) * 3
    torch.testing.assert_close(distances(points.cuda()).cpu(), distances(points), rtol=1e-6, atol=1e-6)
    coarse = distances(points.bfloat16().cuda())
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse.cpu(), distances(points.bfloat16().float()), rtol=1e-6, atol=1e-6)


def test_a_straight_chain_by_hand() -> None:
    """Residues 3 A apart on a line; the fourth one is not resolved."""
    points = torch.tensor([[[3.0 * place, 0, 0] for place in range(9)]])
    mask = torch.tensor([[place != 3 for place in range(9)]])
    values, known = local_structure(distances(points), upper_pairs(mask))
    assert values.shape == known.shape == (1, 9, LOCAL_FEATURES)
    for column, (further, usual, deviation) in enumerate(AHEAD):
        expected = [place != 3 and place + further != 3 and place + further < 9 for place in range(9)]
        assert known[0, :, column].tolist() == expected
        for place in range(9):
            if expected[place]:
                assert values[0, place, column].item() == pytest.approx((3 * further - usual) / deviation)
    # within 10 A: three on each side, of which the fourth residue is missing
    counts = [2, 3, 4, None, 5, 5, 4, 4, 3]
    assert known[0, :, -1].tolist() == [count is not None for count in counts]
    for place, count in enumerate(counts):
        if count is not None:
            assert values[0, place, -1].item() == pytest.approx((count - USUAL) / DEVIATION)
