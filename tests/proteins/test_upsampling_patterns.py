"""Checkerboard and blockiness against plain loops and maps that are made to have them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protcli.proteins.maps import distances, pair_mask, separation, symmetrize
from protcli.proteins.upsampling_patterns import BORDER, PERIODS, InnerPairs, UpsamplingPatterns


def whole(maps: torch.Tensor) -> UpsamplingPatterns:
    """Of maps [B, L, L] whose residues are all resolved."""
    batch, length, _ = maps.shape
    return InnerPairs(torch.ones(batch, length, dtype=torch.bool), torch.full((batch,), length)).patterns(maps)


def random_walks(seed: int, proteins: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """True maps [B, L, L] and a mask [B, L] with gaps."""
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randn(proteins, length, 3, generator=generator).cumsum(1) * 2.2
    return distances(coords), torch.rand(proteins, length, generator=generator) < 0.8


def test_against_plain_loops():
    lengths, size = [45, 52], 52
    maps, mask = random_walks(0, 2, size)
    mask[0, 45:] = False
    found = InnerPairs(mask, torch.tensor(lengths)).patterns(maps)
    for s in PERIODS:
        table, steps = [[[] for _ in range(s)] for _ in range(s)], [[] for _ in range(s)]
        for distance, resolved, length in zip(maps.double().numpy(), mask.numpy(), lengths, strict=True):
            pairs = np.outer(resolved, resolved) & ~np.eye(size, dtype=bool)
            rest = np.zeros_like(distance)
            for gap in range(-size + 1, size):
                inside = np.diagonal(pairs, gap)
                mean = np.diagonal(distance, gap)[inside].mean() if inside.any() else 0
                for i in range(max(-gap, 0), size - max(gap, 0)):
                    rest[i, i + gap] = distance[i, i + gap] - mean
            looked_at = range(BORDER, length - BORDER)
            for i in looked_at:
                for j in looked_at:
                    if pairs[i, j]:
                        box = np.s_[max(i - s, 0) : i + s + 1, max(j - s, 0) : j + s + 1]
                        table[i % s][j % s].append(rest[i, j] - rest[box][pairs[box]].mean())
                        if i + 1 in looked_at and pairs[i + 1, j]:
                            steps[i % s].append((distance[i + 1, j] - distance[i, j]) ** 2)
        means = [np.mean(values) for row in table for values in row if values]
        assert found.checkerboard[s] == pytest.approx(np.sqrt(np.mean(np.square(means))), rel=1e-6)
        step_means = [np.mean(values) for values in steps if values]
        assert found.blockiness[s] == pytest.approx(max(step_means) / np.mean(step_means), rel=1e-6)


def wave(length: int, period: int, amplitude: float) -> torch.Tensor:
    """amplitude (cos(2 pi i / s) + cos(2 pi j / s)): [1, L, L]."""
    one = amplitude * torch.cos(2 * torch.pi * torch.arange(length) / period)
    return symmetrize(one[:, None] + one)[None]


@pytest.mark.parametrize("period", PERIODS)
def test_a_known_pattern_on_a_map_without_one(period):
    length = 256
    smooth = 3.8 * separation(length).sqrt()[None]
    patterns = whole(smooth + wave(length, period, 0.5))
    # rms of 0.5 (cos + cos) is 0.5, at s = 2 (cos is +1, -1) 0.5 sqrt(2); a box 2s + 1 wide holds 1/(2s + 1) of it
    expected = 0.5 * (math.sqrt(2) if period == 2 else 1) * (1 - 1 / (2 * period + 1))
    assert patterns.checkerboard[period] == pytest.approx(expected, rel=0.03)
    assert max(whole(smooth).checkerboard.values()) < 1e-6
    for s, value in whole(wave(length, period, 0.5)).checkerboard.items():
        assert patterns.checkerboard[s] == pytest.approx(value, abs=1e-5)
    shorter = [value for s, value in patterns.checkerboard.items() if s < period]
    assert max(shorter, default=0) < 0.3 * expected


def test_flat_blocks_and_smooth_maps():
    coarse = torch.rand(6, 16, 16, generator=torch.Generator().manual_seed(0))
    blocks = coarse.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)  # nearest-neighbour upsampling
    # one step in eight is not zero, so the largest phase is eight times the mean
    assert whole(blocks).blockiness[8] == pytest.approx(8, rel=1e-6)
    assert whole(blocks).blockiness[2] == pytest.approx(2, rel=1e-6)
    bilinear = torch.nn.functional.interpolate(coarse[:, None], scale_factor=8, mode="bilinear")[:, 0]
    assert whole(bilinear).blockiness[8] < 1.7
    walks, _ = random_walks(2, proteins=20, length=128)
    assert max(whole(walks).blockiness[s] for s in (2, 4, 8)) < 1.1


@pytest.mark.filterwarnings("error")
def test_a_chain_without_an_inside_does_not_contribute():
    maps, _ = random_walks(3, proteins=2, length=60)
    mask = torch.arange(60) < torch.tensor([60, 32])[:, None]
    both = InnerPairs(mask, mask.sum(1)).patterns(maps)
    assert both.metrics == pytest.approx(whole(maps[:1]).metrics, rel=1e-9)
    for patterns in (InnerPairs(mask[1:], mask[1:].sum(1)).patterns(maps[1:]), whole(maps[:, :20, :20])):
        assert all(math.isnan(value) for value in patterns.metrics.values())


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6), length=st.integers(30, 50), padding=st.integers(0, 40),
    filling=st.sampled_from([0.0, 1e30, math.nan, math.inf]), batch_size=st.integers(1, 3),
)  # fmt: skip
def test_padding_batch_size_and_what_is_masked_change_nothing(seed, length, padding, filling, batch_size):
    maps, mask = random_walks(seed, 3, length)
    expected = InnerPairs(mask, torch.full((3,), length)).patterns(maps).metrics
    wide_mask = torch.nn.functional.pad(mask, (0, padding))
    wide = torch.nn.functional.pad(maps, (0, padding, 0, padding)).masked_fill(~pair_mask(wide_mask), filling)
    parts = [
        InnerPairs(part, torch.full((len(part),), length)).patterns(of)
        for part, of in zip(wide_mask.split(batch_size), wide.split(batch_size), strict=True)
    ]
    found = sum(parts[1:], parts[0]).metrics
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True), name
