"""Features of residues, by hand."""

import math

import pytest
import torch

from protcli.proteins.local_structure import AHEAD, DEVIATION, LOCAL_FEATURES, USUAL, local_structure
from protcli.proteins.maps import distances, upper_pairs


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


def test_a_helix_and_a_strand_are_told_apart() -> None:
    """Ideal ones: 1.5 A and 100 degrees a residue at 2.3 A from the axis; 3.4 A a residue in a zigzag."""
    places = torch.arange(20.0)
    turn = places * math.radians(100)
    helix = torch.stack([2.3 * turn.cos(), 2.3 * turn.sin(), 1.5 * places], dim=-1)
    strand = torch.stack([0.9 * (places % 2), torch.zeros(20), 3.4 * places], dim=-1)
    values, _ = local_structure(distances(torch.stack([helix, strand])), upper_pairs(torch.ones(2, 20).bool()))
    ahead = values[:, 5, :3]
    assert (ahead[0] < 0).all()
    assert (ahead[1] > 0.5).all()


def test_real_chains_have_them_about_zero_with_deviation_one(real_data) -> None:
    from protcli.proteins.batches import collate
    from protcli.proteins.formats.proteinnet import read_proteinnet

    batch = collate(list(read_proteinnet(real_data / "validation")), atom="ca", crop=256)
    values, known = local_structure(distances(batch.coords), upper_pairs(batch.mask))
    for column in range(LOCAL_FEATURES):
        own = values[..., column][known[..., column]]
        assert abs(own.mean().item()) < 0.5
        assert 0.6 < own.std().item() < 1.5
