"""Metrics against hand values, plain loops, biotite and scikit-learn; nothing but resolved pairs counts."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from biotite.structure import AtomArray
from biotite.structure import lddt as biotite_lddt
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, precision_score, root_mean_squared_error

from protcli.models.sepmean import SepMean, SepMeanConfig
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.map_scores import MapScores, contact_precision, lddt, residue_lddt, separation_errors
from protcli.proteins.maps import distances, separation, symmetrize, upper_pairs
from protcli.proteins.metrics import PairErrors
from protcli.training.loop import evaluate


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
    # four residues on a line, 4, 6 and 8 A apart; the last one is predicted 3 A too far away
    predicted, true = (
        distances(torch.tensor([[[0.0, 0, 0], [4, 0, 0], [10, 0, 0], [last, 0, 0]]])) for last in (21, 18)
    )
    # of the last residue, 14 and 8 A are near pairs, 18 A is not; 3 A is within one tolerance of four
    expected = torch.tensor([[1.0, (1 + 1 + 0.25) / 3, (1 + 1 + 0.25) / 3, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(residue_lddt(predicted, true, torch.ones(1, 4, dtype=torch.bool)), expected)
    assert residue_lddt(predicted, true, torch.tensor([[True, False, False, True]])).isnan().all()


def test_pooled_errors_are_scikit_learns():
    predicted, true, mask = walks(0, 5, 23)
    scores, pairs = MapScores.of(predicted, true, mask).metrics, upper_pairs(mask)
    for name, error in (("mse", mean_squared_error), ("mae", mean_absolute_error), ("rmse", root_mean_squared_error)):
        assert scores[name] == pytest.approx(error(true[pairs], predicted[pairs]), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_lddt_is_biotites(seed):
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(2, 60, 3, generator=generator).cumsum(1) * 2
    predicted = true + torch.randn(2, 60, 3, generator=generator)
    mask = torch.rand(2, 60, generator=generator) < 0.8
    ours = lddt(distances(predicted), distances(true), mask)
    for index in range(2):
        kept = mask[index]
        atoms = AtomArray(int(kept.sum()))
        atoms.coord, atoms.res_id = true[index, kept].numpy(), np.arange(len(atoms))
        atoms.atom_name[:], atoms.element[:] = "CA", "C"
        assert ours[index].item() == pytest.approx(biotite_lddt(atoms, predicted[index, kept].numpy()), abs=1e-6)


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
    # of the first two, of the first five, of all ten pairs
    assert [found[f"short_{share}"].tolist() for share in ("L5", "L2", "L")] == [[1 / 2], [2 / 5], [2 / 10]]
    assert all(math.isnan(value) for name, value in found.items() if not name.startswith("short"))
    mask[0, 8] = False  # nine residues, seven pairs: floor(9 / 5) is one pair, floor(9 / 2) four, nine are not there
    found = contact_precision(predicted, true, mask)
    assert [found[f"short_{share}"].tolist() for share in ("L5", "L2", "L")] == [[1], [1 / 4], [1 / 7]]


def test_tied_pairs_share_the_last_places():
    true, _, mask = short_case()
    by_separation = separation(10).float()[None]
    # of the four tied pairs of separation 6 one is a contact, of the three of separation 7 one
    found = contact_precision(by_separation, true, mask)
    assert found["short_L2"].tolist() == [pytest.approx((1 + 1 / 3) / 5)]
    means = []  # over all orders of the tied
    for order in permutations(range(4)):
        predicted = by_separation.clone()
        predicted[0, torch.arange(4), torch.arange(4) + 6] += torch.tensor(order) * 1e-3
        means.append(contact_precision(predicted, true, mask)["short_L5"].item())
    assert found["short_L5"].tolist() == [pytest.approx(1 / 4)] == [pytest.approx(np.mean(means))]


def test_precision_is_scikit_learns():
    predicted, true, mask = walks(4, proteins=5, length=90)
    found = contact_precision(predicted, true, mask)
    gap = separation(90)
    ranges = {"long": gap >= 24, "medium": (gap >= 12) & (gap <= 23), "short": (gap > 5) & (gap < 12)}
    for index, pairs in enumerate(upper_pairs(mask)):
        for name, inside in ranges.items():
            chosen = pairs & inside
            contacts = true[index][chosen] < 8
            for share, k in (("L", 1), ("L2", 2), ("L5", 5)):
                nearest = torch.zeros_like(contacts)
                nearest[predicted[index][chosen].argsort()[: int(mask[index].sum()) // k]] = True
                expected = precision_score(contacts, nearest)
                assert found[f"{name}_{share}"][index].item() == pytest.approx(expected, abs=1e-6)


def test_errors_by_separation_against_a_plain_loop():
    predicted, true, mask = walks(1, proteins=3, length=20)
    squared, absolute, count = np.zeros((3, 20))
    for b, i, j in upper_pairs(mask).nonzero().tolist():
        error = float(predicted[b, i, j]) - float(true[b, i, j])
        squared[j - i] += error**2
        absolute[j - i] += abs(error)
        count[j - i] += 1
    first, last = (separation_errors(*(of[part] for of in (predicted, true, mask))) for part in ([0, 1], [2]))
    found = first + last
    assert found.count.tolist() == count.tolist()
    np.testing.assert_allclose([found.squared, found.absolute], [squared, absolute], rtol=1e-5)


def assert_same(found: MapScores | PairErrors, expected: MapScores | PairErrors) -> None:
    for name, column in expected.columns().items():
        np.testing.assert_allclose(found.columns()[name], column, rtol=1e-6, err_msg=name)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), proteins=st.integers(1, 5), length=st.integers(2, 40), padding=st.integers(0, 30),
    filling=st.sampled_from([0.0, 1e30, math.nan, math.inf, -math.inf]), batch_size=st.integers(1, 6),
)  # fmt: skip
def test_padding_batch_size_and_what_is_masked_change_nothing(seed, proteins, length, padding, filling, batch_size):
    predicted, true, mask = walks(seed, proteins, length)
    expected, by_separation = MapScores.of(predicted, true, mask), separation_errors(predicted, true, mask)
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
    total = sum((separation_errors(*part) for part in parts[1:]), separation_errors(*parts[0]))
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
def test_without_a_pair_there_is_no_figure_and_contacts_may_be_ranked_by_something_else():
    """By the true distances they are all found; nothing but the precision changes."""
    true, predicted = distances(12 * torch.randn(2, 2, 60, 3, generator=torch.Generator().manual_seed(0)))
    mask = torch.ones(2, 60, dtype=torch.bool)
    figures = MapScores.of(predicted, true, torch.zeros_like(mask)).metrics
    assert figures.pop("legacy_sse_pm2") == 0
    assert all(math.isnan(value) for value in figures.values())
    plain, ranked = MapScores.of(predicted, true, mask), MapScores.of(predicted, true, mask, true)
    assert (ranked.precision["long_L5"] == 1).all()
    assert (plain.precision["long_L5"] < 1).all()
    np.testing.assert_array_equal(plain.lddt, ranked.lddt)
    np.testing.assert_array_equal(plain.errors.squared, ranked.errors.squared)


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
