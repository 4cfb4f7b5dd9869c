"""What is read from distograms, by hand and against sampled distances."""

import numpy as np
import pytest

from protcli.proteins.distograms import deviation, expected_lddt, probability_below

EDGES = np.array([2.0, 4.0, 8.0, 16.0])


def test_probabilities_below_a_distance_by_hand() -> None:
    one = np.array([0.5, 0.25, 0.25])
    for distance, expected in ((1, 0), (2, 0), (3, 0.25), (4, 0.5), (5, 0.5625), (8, 0.75), (12, 0.875), (99, 1)):
        assert probability_below(one, EDGES, distance) == pytest.approx(expected)
    both = np.array([one, one[::-1]])
    np.testing.assert_allclose(probability_below(both, EDGES, np.array([3.0, 8.0])), [0.25, 0.5])


def test_the_deviation_is_that_of_sampled_distances() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], size=4)
    for one, found in zip(probabilities, deviation(probabilities, EDGES), strict=True):
        bins = rng.choice(3, size=200_000, p=one)
        assert found == pytest.approx(rng.uniform(EDGES[bins], EDGES[bins + 1]).std(), rel=0.01)


def test_lddt_is_that_of_sampled_maps() -> None:
    """The expected share agrees with that of many maps drawn from the distributions, scored as lDDT defines it."""
    rng = np.random.default_rng(1)
    length = 6
    edges = np.arange(0.0, 31.0)
    probabilities = rng.dirichlet(np.full(30, 0.3), size=(length, length))
    probabilities = (probabilities + probabilities.transpose(1, 0, 2)) / 2
    distance = probabilities @ (edges[1:] - 0.5)
    kept, near = np.zeros(length), np.zeros(length)
    cumulative = probabilities.cumsum(axis=-1)
    for _ in range(4000):
        bins = (rng.random((length, length, 1)) > cumulative).sum(axis=-1).clip(max=29)
        true = edges[bins] + rng.random((length, length))
        counted = (true < 15) & ~np.eye(length, dtype=bool)
        within = sum((np.abs(true - distance) < tolerance) & counted for tolerance in (0.5, 1, 2, 4)) / 4
        kept, near = kept + within.sum(axis=1), near + counted.sum(axis=1)
    np.testing.assert_allclose(expected_lddt(probabilities, edges, distance), kept / near, atol=0.01)


def test_certain_and_far_pairs() -> None:
    edges = np.array([0.0, 5.0, 5.2, 40.0, 40.2])
    certain = np.zeros((3, 3, 4))
    certain[..., 1] = 1
    certain[2, :, :], certain[:, 2, :] = [0, 0, 0, 1], [0, 0, 0, 1]
    distance = certain @ ((edges[1:] + edges[:-1]) / 2)
    found = expected_lddt(certain, edges, distance)
    np.testing.assert_allclose(found[:2], 1)
    assert np.isnan(found[2])  # nothing is near
