"""The field's scores against hand values, plain loops, biotite and scikit-learn; nothing but resolved pairs counts."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from biotite.structure import lddt as biotite_lddt
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score

from protcli.proteins.map_scores import MapScores, SeparationErrors, contact_precision, lddt, residue_lddt
from protcli.proteins.maps import distances, separation, symmetrize, upper_pairs


def walks(seed: int, proteins: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predicted and true maps of two sets of compact walks [B, L, L], and a mask [B, L] with gaps."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(proteins, length, 3, generator=generator).cumsum(1) * 1.5
    predicted = true + torch.randn(proteins, length, 3, generator=generator) * 1.5
    mask = torch.rand(proteins, length, generator=generator) < 0.8
    mask[:, :2] = True
    return distances(predicted), distances(true), mask


def test_near_pairs_by_hand():
    # residues on a line at 0, 3, 12.5: d = 3, 12.5 and 9.5, predicted 4, 10 and 13
    true = distances(torch.tensor([[0.0, 3, 12.5]])[..., None] * torch.tensor([1.0, 0, 0]))
    predicted = symmetrize(2 * torch.tensor([[[0.0, 4, 10], [0, 0, 13], [0, 0, 0]]]))
    mask = torch.ones(1, 3, dtype=torch.bool)
    scores = MapScores.of(predicted, true, mask)
    assert MapScores.of(true, true, mask).lddt.tolist() == [1]
    assert {cutoff: errors.count.tolist() for cutoff, errors in scores.near.items()} == {8: [1], 12: [2], 15: [3]}
    metrics = scores.metrics
    assert [metrics[f"mae_{cutoff}"] for cutoff in (8, 12, 15)] == [1, (1 + 3.5) / 2, (1 + 3.5 + 2.5) / 3]
    assert [metrics[f"mse_{cutoff}"] for cutoff in (8, 12, 15)] == [1, (1 + 12.25) / 2, (1 + 12.25 + 6.25) / 3]
    assert metrics["mse"] == metrics["mse_15"]
    assert metrics["drmsd"] == pytest.approx(math.sqrt(19.5 / 3), rel=1e-12)
    # errors 1, 2.5 and 3.5 over pairs below 15 A: none is below 0.5 or 1, one below 2, three below 4
    assert metrics["lddt"] == (0 + 0 + 1 + 3) / (4 * 3)


@pytest.mark.parametrize("seed", range(3))
def test_lddt_is_biotites(seed):
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(2, 60, 3, generator=generator).cumsum(1) * 2
    predicted = true + torch.randn(2, 60, 3, generator=generator)
    mask = torch.rand(2, 60, generator=generator) < 0.8
    ours = lddt(distances(predicted), distances(true), mask)
    for index in range(2):
        kept = mask[index]
        reference = atoms(true[index, kept].numpy())
        assert ours[index].item() == pytest.approx(biotite_lddt(reference, predicted[index, kept].numpy()), abs=1e-6)


def atoms(coord):
    from biotite.structure import AtomArray

    array = AtomArray(len(coord))
    array.coord, array.res_id = coord, np.arange(len(coord))
    array.atom_name[:], array.element[:] = "CA", "C"
    return array


def short_case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ten residues: 4, 3, 2 and 1 pairs of separation 6 to 9, all of the short range; two of them are contacts."""
    true = torch.full((1, 10, 10), 20.0)
    true[0, 0, 6] = true[0, 1, 8] = 7.9
    true[0, 2, 8] = 8.0  # no contact
    return true, torch.full((1, 10, 10), 30.0), torch.ones(1, 10, dtype=torch.bool)


def test_precision_by_hand():
    true, predicted, mask = short_case()
    for rank, (i, j) in enumerate([(2, 8), (0, 6), (3, 9), (0, 7), (1, 8)]):
        predicted[0, i, j] = 3.0 + rank
    predicted[0, 0, 1] = 0.0  # no pair of the range
    found = contact_precision(predicted, true, mask)
    assert found["short_L5"].tolist() == [1 / 2]  # of the first two
    assert found["short_L2"].tolist() == [2 / 5]
    assert found["short_L"].tolist() == [2 / 10]  # all ten pairs
    assert all(math.isnan(value) for name, value in found.items() if not name.startswith("short"))
    mask[0, 8] = False  # nine residues, seven pairs: floor(9 / 5) is one pair, floor(9 / 2) four
    found = contact_precision(predicted, true, mask)
    assert found["short_L5"].tolist() == [1]
    assert found["short_L2"].tolist() == [1 / 4]
    assert found["short_L"].tolist() == [1 / 7]  # nine asked for, seven there


def test_tied_pairs_share_the_last_places():
    true, predicted, mask = short_case()
    by_separation = separation(10).float()[None]
    # of the four tied pairs of separation 6 one is a contact, of the three of separation 7 one
    found = contact_precision(by_separation, true, mask)
    assert found["short_L5"].tolist() == [pytest.approx(1 / 4)]
    assert found["short_L2"].tolist() == [pytest.approx((1 + 1 / 3) / 5)]
    # it is the mean over all orders of the tied
    means = []
    for order in permutations(range(4)):
        predicted = by_separation.clone()
        sixth = torch.tensor(order) * 1e-3
        predicted[0, torch.arange(4), torch.arange(4) + 6] += sixth
        means.append(contact_precision(predicted, true, mask)["short_L5"].item())
    assert found["short_L5"].item() == pytest.approx(np.mean(means))


def test_precision_is_scikit_learns():
    predicted, true, mask = walks(4, proteins=5, length=90)
    found = contact_precision(predicted, true, mask)
    gap = separation(90)
    for index in range(5):
        pairs = upper_pairs(mask)[index]
        for name, inside in (
            ("long", gap >= 24),
            ("medium", (gap >= 12) & (gap <= 23)),
            ("short", (gap > 5) & (gap < 12)),
        ):
            chosen = pairs & inside
            contacts = true[index][chosen] < 8
            for share, k in (("L", 1), ("L2", 2), ("L5", 5)):
                top = int(mask[index].sum()) // k
                nearest = torch.zeros_like(contacts)
                nearest[predicted[index][chosen].argsort()[:top]] = True
                expected = precision_score(contacts, nearest)
                assert found[f"{name}_{share}"][index].item() == pytest.approx(expected, abs=1e-6)


def test_errors_by_separation_against_a_plain_loop():
    predicted, true, mask = walks(1, proteins=3, length=20)
    squared, absolute, count = np.zeros(20), np.zeros(20), np.zeros(20, dtype=int)
    for b, i, j in upper_pairs(mask).nonzero().tolist():
        error = float(predicted[b, i, j]) - float(true[b, i, j])
        squared[j - i] += error**2
        absolute[j - i] += abs(error)
        count[j - i] += 1
    found = SeparationErrors.of(predicted[:2], true[:2], mask[:2]) + SeparationErrors.of(
        predicted[2:], true[2:], mask[2:]
    )
    assert found.count.tolist() == count.tolist()
    np.testing.assert_allclose(found.squared, squared, rtol=1e-5)
    np.testing.assert_allclose(found.absolute, absolute, rtol=1e-5)


def assert_same(found: MapScores, expected: MapScores) -> None:
    for name, column in expected.columns().items():
        np.testing.assert_allclose(found.columns()[name], column, rtol=1e-6, err_msg=name)
    for name, value in expected.metrics.items():
        assert found.metrics[name] == pytest.approx(value, rel=1e-6, nan_ok=True), name


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    proteins=st.integers(1, 5),
    length=st.integers(2, 40),
    padding=st.integers(0, 30),
    filling=st.sampled_from([0.0, 1e30, math.nan, math.inf, -math.inf]),
    batch_size=st.integers(1, 6),
)
def test_padding_batch_size_and_what_is_masked_change_nothing(seed, proteins, length, padding, filling, batch_size):
    predicted, true, mask = walks(seed, proteins, length)
    expected, by_separation = MapScores.of(predicted, true, mask), SeparationErrors.of(predicted, true, mask)
    size = (proteins, length + padding, length + padding)
    wide_mask = torch.zeros(size[:2], dtype=torch.bool)
    wide_mask[:, :length] = mask
    wide = []
    for maps in (predicted, true):
        wide.append(torch.full(size, filling))
        wide[-1][:, :length, :length] = maps
        wide[-1][~upper_pairs(wide_mask)] = filling
    parts = list(zip(*(of.split(batch_size) for of in (*wide, wide_mask)), strict=True))
    assert_same(MapScores.concatenate(MapScores.of(*part) for part in parts), expected)
    total = sum((SeparationErrors.of(*part) for part in parts[1:]), SeparationErrors.of(*parts[0]))
    np.testing.assert_allclose(total.squared[:length], by_separation.squared, rtol=1e-6)
    assert total.count[:length].tolist() == by_separation.count.tolist()
    assert not total.count[length:].any()


def test_pooled_figures_follow_from_the_columns():
    predicted, true, mask = walks(2, proteins=6, length=50)
    mask[3] = False  # a protein without a pair
    scores = MapScores.of(predicted, true, mask)
    columns, metrics = scores.columns(), scores.metrics
    for cutoff in (8, 12, 15):
        pairs = columns[f"pairs_{cutoff}"].sum()
        assert metrics[f"mse_{cutoff}"] == columns[f"squared_{cutoff}"].sum() / pairs
        assert metrics[f"mae_{cutoff}"] == columns[f"absolute_{cutoff}"].sum() / pairs
    for name in ("lddt", "drmsd", "precision_long_L5"):
        assert np.isnan(columns[name][3])
        assert metrics[name] == np.nanmean(columns[name])
    others = np.array([0, 1, 2, 4, 5])
    expected = {**metrics, "legacy_sse_pm2": metrics["legacy_sse_pm2"] * 6 / 5}  # a mean over all proteins
    some, one = ({name: column[rows] for name, column in columns.items()} for rows in (others, [4]))
    assert MapScores.from_columns(some).metrics == pytest.approx(expected, rel=1e-12)
    assert_same(MapScores.from_columns(one), MapScores.of(predicted[4:5], true[4:5], mask[4:5]))
    again = MapScores.from_columns(scores.columns("sepmean_"), "sepmean_")
    assert again.metrics == metrics


@pytest.mark.filterwarnings("error")
def test_without_a_pair_there_is_no_figure():
    predicted, true, mask = walks(2, proteins=2, length=30)
    figures = MapScores.of(predicted, true, torch.zeros_like(mask)).metrics
    assert figures.pop("legacy_sse_pm2") == 0
    assert all(math.isnan(value) for value in figures.values())


def test_contacts_may_be_ranked_by_something_else() -> None:
    """By the true distances they are all found; nothing but the precision changes."""
    rng = torch.Generator().manual_seed(0)
    coords = 12 * torch.randn(2, 60, 3, generator=rng)
    true, mask = distances(coords), torch.ones(2, 60, dtype=torch.bool)
    predicted = distances(12 * torch.randn(2, 60, 3, generator=rng))
    plain, ranked = MapScores.of(predicted, true, mask), MapScores.of(predicted, true, mask, true)
    assert (ranked.precision["long_L5"] == 1).all()
    assert (plain.precision["long_L5"] < 1).all()
    np.testing.assert_array_equal(plain.lddt, ranked.lddt)
    np.testing.assert_array_equal(plain.errors.squared, ranked.errors.squared)


def test_lddt_of_residues_by_hand() -> None:
    """Four residues on a line, 4, 6 and 8 A apart; the last one is predicted 3 A too far away."""
    true = distances(torch.tensor([[[0.0, 0, 0], [4, 0, 0], [10, 0, 0], [18, 0, 0]]]))
    predicted = distances(torch.tensor([[[0.0, 0, 0], [4, 0, 0], [10, 0, 0], [21, 0, 0]]]))
    mask = torch.ones(1, 4, dtype=torch.bool)
    # of the last residue, 14 and 8 A are near pairs, 18 A is not; 3 A is within one tolerance of four
    expected = torch.tensor([[1.0, (1 + 1 + 0.25) / 3, (1 + 1 + 0.25) / 3, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(residue_lddt(predicted, true, mask), expected)
    alone = residue_lddt(predicted, true, torch.tensor([[True, False, False, True]]))
    assert alone.isnan().all()
