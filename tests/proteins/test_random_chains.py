"""Random chains with the size of a protein."""

import itertools

import numpy as np
import pytest

from protcli.proteins.random_chains import STEP, radius_of_gyration, random_chain
from protcli.proteins.structure_scores import tm_score


@pytest.mark.parametrize(("length", "radius"), [(5, 4.0), (60, 10.5), (150, 15.0), (256, 18.5), (256, 45.0)])
def test_it_has_the_radius_and_about_the_steps_of_a_protein(length: int, radius: float) -> None:
    """From as compact as proteins of that length are to as stretched as a long helix."""
    chain = random_chain(length, radius, np.random.default_rng(0))
    assert chain.shape == (length, 3)
    assert radius_of_gyration(chain) == pytest.approx(radius)
    steps = np.linalg.norm(np.diff(chain, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert steps[0] == pytest.approx(STEP, rel=0.25)


def test_two_of_them_are_as_unlike_as_unrelated_structures() -> None:
    chains = [random_chain(150, 15.0, np.random.default_rng(seed)) for seed in range(6)]
    scores = [tm_score(first, second) for first, second in itertools.pairwise(chains)]
    assert 0.1 < np.mean(scores) < 0.25  # 0.17 is what its authors found
