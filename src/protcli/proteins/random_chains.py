"""Random chains as compact as a given one: what a structure is worth that knows only the size of the protein."""

import numpy as np

STEP = 3.8  # A between C-alpha atoms that follow each other
PULLS = np.linspace(-1.5, 1.5, 61)  # towards the middle, in units of the random step


def radius_of_gyration(coords: np.ndarray) -> float:
    """Root mean square distance from the centre, in the unit of the coordinates [L, 3]."""
    return float(np.sqrt(((coords - coords.mean(axis=0)) ** 2).sum(axis=1).mean()))


def random_chain(length: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    """A random walk with a given radius of gyration in A: float64 [length, 3], centred.

    Its steps are drawn towards the middle, or away from it, as much as it takes; then it is scaled to the very radius,
    so that they are about STEP long. It may cross itself.
    """
    steps = rng.normal(size=(length, 3))
    walks = [_walk(steps, pull, max(radius, STEP)) for pull in PULLS]
    best = min(walks, key=lambda walk: abs(np.log(radius_of_gyration(walk) / radius)))
    best = best - best.mean(axis=0)
    return best * (radius / radius_of_gyration(best))


def _walk(steps: np.ndarray, pull: float, radius: float) -> np.ndarray:
    place, places = np.zeros(3), []
    for step in steps:
        places.append(place)
        drawn = step - pull * place / radius
        place = place + STEP * drawn / np.linalg.norm(drawn)
    return np.array(places)
