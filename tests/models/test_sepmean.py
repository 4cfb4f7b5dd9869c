"""The baseline against hand-computed and independent values."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from protcli.models.sepmean import SepMean, SepMeanConfig
from protcli.proteins.batches import Batch, ProteinBatches
from protcli.proteins.maps import distances, upper_pairs


def line(positions: list[float], resolved: list[bool], residues) -> Batch:
    """One chain along the x axis."""
    mask = torch.tensor([resolved])
    coords = torch.zeros(1, len(positions), 3)
    coords[0, :, 0] = torch.tensor(positions) * mask[0]
    return Batch(("line",), residues([len(positions)], len(positions)), coords, mask)


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


def test_unfitted_is_not_a_number(residues):
    assert SepMean(SepMeanConfig())(residues([4], 4)).distance.isnan().all()


def test_errors_of_the_fit(residues):
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
    halves = [
        Batch(whole.ids[part], whole.residues, whole.coords[part], whole.mask[part])
        for part in (slice(0, 1), slice(1, 4))
    ]
    model.fit(halves)
    torch.testing.assert_close(model.mean, expected)


@pytest.mark.slow
@pytest.mark.skipif("PROTCLI_REAL_DATA" not in os.environ, reason="PROTCLI_REAL_DATA names no folder of real data")
def test_real_chains():
    """RMSE over pairs i < j, CA, crop 256, of an independent program: 9.698 A on validation, 10.562 A on testing."""
    from protcli.proteins.formats.proteinnet import read_proteinnet

    folder = Path(os.environ["PROTCLI_REAL_DATA"])

    def batches(split):
        return ProteinBatches(
            proteins=list(read_proteinnet(folder / split)), atom="ca", crop=256, batch_size=32
        ).epoch()

    model = SepMean(SepMeanConfig())
    model.fit(batches("training_95"))
    for split, rmse in (("validation", 9.698), ("testing", 10.562)):
        total, count = 0.0, 0
        for batch in batches(split):
            pairs = upper_pairs(batch.mask)
            error = (model(batch.residues).distance - distances(batch.coords))[pairs].double()
            total, count = total + error.square().sum().item(), count + error.numel()
        assert (total / count) ** 0.5 == pytest.approx(rmse, abs=5e-4)
