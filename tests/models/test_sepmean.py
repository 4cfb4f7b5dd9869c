"""The baseline against hand-computed and independent values."""

import numpy as np
import pytest
import torch

from protcli.models.sepmean import SepMean, SepMeanConfig, SepMeanLength, SepMeanLengthConfig
from protcli.proteins.batches import Batch, ProteinBatches
from protcli.proteins.maps import distances, upper_pairs


def line(positions: list[float], resolved: list[bool], residues) -> Batch:
    """One chain along the x axis."""
    mask = torch.tensor([resolved])
    coords = torch.zeros(1, len(positions), 3)
    coords[0, :, 0] = torch.tensor(positions) * mask[0]
    return Batch(
        ("line",), residues([len(positions)], len(positions)), coords, mask, torch.zeros_like(mask, dtype=torch.int64)
    )


def test_mean_at_each_separation_by_hand(residues):
    model = SepMean(SepMeanConfig(separations=6))
    batches = [line([0, 1, 3, 9], [True] * 4, residues), line([0, 4, 0, 0], [True, True, False, False], residues)]
    model.fit(batches)
    # |i-j| = 1: 1, 2, 6 and 4; 2: 3 and 8; 3: 9; none beyond
    torch.testing.assert_close(model.mean, torch.tensor([0, 13 / 4, 11 / 2, 9, 9, 9]))
    distance = model(residues([8, 2], 8)).distance
    assert distance.shape == (2, 8, 8)
    assert distance[1, 0].tolist() == [0, 3.25, 5.5, 9, 9, 9, 9, 9]
    assert torch.equal(distance, distance.mT)


def test_gap_takes_the_value_before(residues):
    model = SepMean(SepMeanConfig(separations=5))
    model.fit([line([0, 2, 7, 10], [True, True, False, True], residues)])  # 1: 2; 2: 8; 3: 10
    assert model.mean.tolist() == [0, 2, 8, 10, 10]
    model.fit([line([0, 2, 7, 10], [True, False, False, True], residues)])  # 3 alone
    assert model.mean.tolist() == [0, 0, 0, 10, 10]


def test_unfitted_is_not_a_number_and_errors_of_the_fit(residues):
    assert SepMean(SepMeanConfig())(residues([4], 4)).distance.isnan().all()
    with pytest.raises(ValueError, match="no pair of resolved residues"):
        SepMean(SepMeanConfig()).fit([])
    with pytest.raises(ValueError, match=r"maps of 4 residues need --set separations=4 \(now 3\)"):
        SepMean(SepMeanConfig(separations=3)).fit([line([0, 1, 2, 3], [True] * 4, residues)])


def test_agrees_with_a_plain_loop_whatever_the_batches(batch):
    whole = batch([30, 41, 25, 41], 41, seed=3)
    coords, mask = whole.coords.double().numpy(), whole.mask.numpy()
    sums, counts = np.zeros(41), np.zeros(41)
    for xyz, resolved in zip(coords, mask, strict=True):
        for i in np.flatnonzero(resolved):
            for j in np.flatnonzero(resolved):
                if i < j:
                    sums[j - i] += np.linalg.norm(xyz[i] - xyz[j])
                    counts[j - i] += 1
    expected = torch.from_numpy(sums / np.maximum(counts, 1)).float()
    model = SepMean(SepMeanConfig(separations=41))
    model.fit([whole])
    torch.testing.assert_close(model.mean, expected)
    parts = (slice(0, 1), slice(1, 4))
    model.fit(
        [
            Batch(whole.ids[part], whole.residues, whole.coords[part], whole.mask[part], whole.secondary[part])
            for part in parts
        ]
    )
    torch.testing.assert_close(model.mean, expected)
    wide = SepMeanLength(SepMeanLengthConfig(separations=41, width=1e6, prior=1e-9))  # sees all lengths alike
    wide.fit([whole])
    torch.testing.assert_close(wide(whole.residues).distance, model(whole.residues).distance)


def test_the_mean_at_each_length_by_hand(residues):
    """Lengths far apart on the scale of the kernel: each has its own mean, but for the prior's pairs."""
    model = SepMeanLength(SepMeanLengthConfig(separations=32, prior=0.5))
    short, long = [2.0 * i for i in range(8)], [4.0 * i for i in range(32)]
    model.fit([line(short, [True] * 8, residues), line(long, [True] * 32, residues)])
    plain = (7 * 2 + 31 * 4) / 38
    found = model(residues([8, 32], 32)).distance
    assert found[0, 0, 1].item() == pytest.approx((7 * 2 + 0.5 * plain) / 7.5, rel=1e-6)
    assert found[1, 0, 1].item() == pytest.approx((31 * 4 + 0.5 * plain) / 31.5, rel=1e-3)  # interpolated
    assert found[0, 0, 20].item() == pytest.approx(80)  # no short chain reaches so far: the mean over all lengths
    between = model(residues([16], 32)).distance[0, 0, 1].item()
    assert 2.05 < between < 3.95
    assert torch.equal(found, found.mT)
    assert found.diagonal(dim1=1, dim2=2).abs().max() == 0
    assert torch.isnan(SepMeanLength(SepMeanLengthConfig())(residues([4], 4)).distance).all()


@pytest.mark.slow
def test_real_chains(real_data):
    """Against independent programs, on pairs i < j, CA, crop 256.

    RMSE 9.698 A on validation, 10.562 A on testing; by length, with another kernel, 0.984 of the MSE on validation.
    """
    from protcli.proteins.formats.proteinnet import read_proteinnet

    proteins = {name: list(read_proteinnet(real_data / name)) for name in ("training_95", "validation", "testing")}

    def batches(name):
        return ProteinBatches(proteins=proteins[name], atom="ca", crop=256, batch_size=32).epoch()

    def mse(model, name):
        maps = ((batch, (model(batch.residues).distance - distances(batch.coords)).double()) for batch in batches(name))
        return torch.cat([error[upper_pairs(batch.mask)] for batch, error in maps]).square().mean().item()

    plain, by_length = SepMean(SepMeanConfig()), SepMeanLength(SepMeanLengthConfig())
    for model in (plain, by_length):
        model.fit(batches("training_95"))
    for split, rmse in (("validation", 9.698), ("testing", 10.562)):
        assert mse(plain, split) ** 0.5 == pytest.approx(rmse, abs=5e-4)
    assert mse(by_length, "validation") / mse(plain, "validation") == pytest.approx(0.984, abs=0.004)
