"""How often the intervals and claims of a comparison are right, on simulated runs whose truth is known.

    python benchmarks/coverage.py [--cases 2000] [CASE...]

Each case simulates comparisons of two models: proteins of very unequal length and hardness, families, errors in
proportion to a protein's hardness, seeds that train to different levels, trainings that collapse. It prints how often
the 95 % interval holds the true ratio, and how often a difference is claimed that does not exist. Nothing of the
simulation is known to the statistics, which assume neither a distribution nor a variance.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from functools import partial

import numpy as np

from protcli.experiments.statistics.contrasts import (
    ALPHA,
    FEWEST_SEEDS,
    Contrast,
    contrast,
    holm,
    improvement_over_sepmean,
    level_of_looks,
    level_of_promotion,
)
from protcli.experiments.statistics.epochs import collapsed, cross_fitted, halves
from protcli.experiments.statistics.estimates import over_families
from protcli.proteins.metrics import PairErrors

PROTEINS = 111
CROP = 256


@dataclass(frozen=True)
class World:
    """What varies in a simulated comparison; deviations are standard deviations of the logarithm of an error.

    Attributes:
        proteins: how many.
        largest_family: families have 1 to so many members.
        ratio: true MSE of the first model over the second's.
        seeds: of either model.
        scatter: of the level that a seed trains to, in either model.
        own: of how hard a model finds a family, beyond what all models find.
        noise: of a run's error on one protein.
        collapses: share of the first model's runs that collapse, to three times the error.
        crop: residues of a chain that count.
    """

    proteins: int = PROTEINS
    largest_family: int = 1
    ratio: float = 1.0
    seeds: tuple[int, int] = (5, 5)
    scatter: tuple[float, float] = (0.03, 0.03)
    own: float = 0.15
    noise: float = 0.1
    collapses: float = 0.0
    crop: int = CROP


@dataclass(frozen=True, eq=False)
class Proteins:
    """Pairs, family and hardness of each protein."""

    count: np.ndarray
    families: np.ndarray
    hardness: np.ndarray


def proteins_of(world: World, rng: np.random.Generator) -> Proteins:
    """Chains of 30 to 700 residues, log-normal around 150; longer ones are harder; families are alike in both."""
    sizes = rng.integers(1, world.largest_family + 1, world.proteins)
    family = np.repeat(np.arange(world.proteins), sizes)[: world.proteins]
    of_family = rng.normal(size=(2, family.max() + 1))
    length = np.clip(np.exp(5 + 0.6 * of_family[0][family] + rng.normal(0, 0.05, len(family))), 30, 700)
    hardness = np.log(60) + 0.8 * np.log(length / 150) + 0.6 * of_family[1][family] + rng.normal(0, 0.1, len(family))
    kept = np.minimum(length, world.crop).astype(np.int64)
    return Proteins(kept * (kept - 1) // 2, family, hardness)


def runs_of(
    world: World,
    proteins: Proteins,
    rng: np.random.Generator,
    *,
    seeds: int,
    ratio: float = 1.0,
    scatter: float,
    collapses: float = 0.0,
) -> list[PairErrors]:
    """The runs of one model."""
    own = rng.normal(0, world.own, proteins.families.max() + 1)[proteins.families]
    # exp of what is random averages to one, so that `ratio` is the true one
    level = proteins.hardness + np.log(ratio) + own - (world.own**2 + world.noise**2 + scatter**2) / 2
    runs = []
    for _ in range(seeds):
        failed = np.log(3) if rng.random() < collapses else 0.0
        log = level + rng.normal(0, scatter) + rng.normal(0, world.noise, len(level)) + failed
        squared = np.exp(log) * proteins.count
        runs.append(PairErrors(proteins.count, squared, squared))
    return runs


def two_models(world: World, rng: np.random.Generator) -> tuple[Proteins, list[PairErrors], list[PairErrors]]:
    """The runs of both models on the same proteins."""
    proteins = proteins_of(world, rng)
    first, second = (
        runs_of(world, proteins, rng, seeds=world.seeds[k], scatter=world.scatter[k], ratio=ratio, collapses=collapses)
        for k, (ratio, collapses) in enumerate(((world.ratio, world.collapses), (1.0, 0.0)))
    )
    return proteins, first, second


def trained(runs: Sequence[PairErrors]) -> list[PairErrors]:
    """Those that did not collapse."""
    marks = collapsed([errors.mse for errors in runs])
    return [errors for errors, mark in zip(runs, marks, strict=True) if not mark]


def compared(proteins: Proteins, first: Sequence[PairErrors], second: Sequence[PairErrors]) -> Contrast:
    """The comparison as protcli makes it."""
    return contrast([trained(first), trained(second)], [1, -1], proteins.families)


def is_refused(first: Sequence[PairErrors], second: Sequence[PairErrors]) -> bool:
    """Whether nothing is claimed, since too few seeds are left."""
    return min(len(trained(first)), len(trained(second))) < FEWEST_SEEDS


def is_claimed(proteins: Proteins, first: Sequence[PairErrors], second: Sequence[PairErrors]) -> bool:
    """Whether a difference is claimed, whichever."""
    return not is_refused(first, second) and compared(proteins, first, second).p <= ALPHA


@dataclass(frozen=True)
class Rates:
    """Shares of simulated comparisons; NaN where a case has none.

    Attributes:
        covered: whose interval holds the truth, of those that are not refused.
        false: in which a difference is claimed that does not exist.
        found: in which one that exists is claimed.
        refused: about which nothing is said.
    """

    covered: float = np.nan
    false: float = np.nan
    found: float = np.nan
    refused: float = 0.0


def interval_case(world: World, cases: int, rng: np.random.Generator) -> Rates:
    """Coverage at the world's ratio, and false claims at a ratio of 1."""
    covered = false = found = refused = 0
    for _ in range(cases):
        proteins, first, second = two_models(world, rng)
        if is_refused(first, second):
            refused += 1
        else:
            interval = compared(proteins, first, second).interval()
            covered += interval.low <= np.log(world.ratio) <= interval.high
            found += is_claimed(proteins, first, second) and (interval.value < 0) == (world.ratio < 1)
        false += is_claimed(*two_models(replace(world, ratio=1.0), rng))
    return Rates(
        covered / (cases - refused), false / cases, np.nan if world.ratio == 1 else found / cases, refused / cases
    )


def score_case(shape: tuple[float, float], families: int, cases: int, rng: np.random.Generator) -> Rates:
    """The mean of a score between 0 and 1 that families of 1 to 5 proteins nearly share: lDDT, P@L."""
    covered = refused = 0
    for _ in range(cases):
        family = np.repeat(np.arange(families), rng.integers(1, 6, families))
        # the noise lies between 0 and 1, too, and leaves the mean as it is
        values = 0.9 * rng.beta(*shape, families)[family] + 0.1 * rng.beta(*shape, len(family))
        found = over_families(values, family)
        refused += np.isnan(found.low)
        covered += found.low <= shape[0] / sum(shape) <= found.high
    return Rates(covered / (cases - refused) if refused < cases else np.nan, refused=refused / cases)


def many_case(world: World, cases: int, rng: np.random.Generator, models: int = 27) -> Rates:
    """Of many equal models compared with the first: how often any difference is claimed."""
    false = 0
    for _ in range(cases):
        proteins = proteins_of(world, rng)
        runs = [runs_of(world, proteins, rng, seeds=world.seeds[0], scatter=world.scatter[0]) for _ in range(models)]
        false += min(holm([compared(proteins, each, runs[0]).p for each in runs[1:]])) <= ALPHA
    return Rates(false=false / cases)


def best_case(world: World, candidates: int, cases: int, rng: np.random.Generator) -> Rates:
    """Of configurations as good as sepmean: how often the best of them is said to beat it."""
    false = 0
    for _ in range(cases):
        proteins = proteins_of(world, rng)
        best = best_of(world, proteins, candidates, rng)
        (sepmean,) = runs_of(replace(world, own=0, noise=0), proteins, rng, seeds=1, scatter=0)
        gain = improvement_over_sepmean(best, sepmean, proteins.families, level=1 - ALPHA / candidates)
        false += gain.low > 0
    return Rates(false=false / cases)


def best_of(world: World, proteins: Proteins, candidates: int, rng: np.random.Generator) -> list[PairErrors]:
    """The runs, but for the collapsed ones, of the equal model with the lowest mean."""
    models = [
        trained(runs_of(world, proteins, rng, seeds=world.seeds[0], scatter=world.scatter[0]))
        for _ in range(candidates)
    ]
    return min(models, key=lambda runs: float(np.mean([errors.mse for errors in runs])))


def rounds_case(world: World, cases: int, rng: np.random.Generator, candidates: int = 10, rounds: int = 20) -> Rates:
    """The best of equal configurations against an equal champion, again and again: how often any is called better."""
    false = 0
    for _ in range(cases):
        proteins = proteins_of(world, rng)
        champion = best_of(world, proteins, 1, rng)
        for number in range(1, rounds + 1):
            best = best_of(world, proteins, candidates, rng)
            found = contrast([best, champion], [1, -1], proteins.families)
            if found.value < 0 and found.p <= level_of_promotion(number) / candidates:
                false += 1
                break
    return Rates(false=false / cases)


def epoch_case(world: World, cases: int, rng: np.random.Generator, epochs: int = 25) -> Rates:
    """A model whose epochs are all as good as a baseline, but err on other proteins: how often it is called better."""
    false = 0
    for _ in range(cases):
        proteins = proteins_of(world, rng)
        half = halves(proteins.count, proteins.families)
        (baseline,) = runs_of(replace(world, own=0, noise=0), proteins, rng, seeds=1, scatter=0)
        runs = [
            cross_fitted(runs_of(world, proteins, rng, seeds=epochs, scatter=0), half) for _ in range(world.seeds[0])
        ]
        found = contrast([runs, [baseline]], [1, -1], proteins.families)
        false += found.p <= ALPHA and found.value < 0
    return Rates(false=false / cases)


def looks_case(world: World, cases: int, rng: np.random.Generator, looks: tuple[int, ...] = (3, 5, 8, 12)) -> Rates:
    """Equal models, looked at several times: how often a difference is claimed at any look."""
    level, false = level_of_looks(looks), 0
    for _ in range(cases):
        proteins, first, second = two_models(replace(world, seeds=(looks[-1], looks[-1])), rng)
        false += any(compared(proteins, first[:seeds], second[:seeds]).p <= level for seeds in looks)
    return Rates(false=false / cases)


QUIET = {"scatter": (0.005, 0.005), "noise": 0.02}
FEW = World(ratio=0.9, own=0.25)
SHAPES = {"lDDT": (6.0, 12.0), "P@L/5": (0.5, 1.5)}  # of beta distributions: about 0.33, and 0.25 with many zeros
CASES: dict[str, Callable[[int, np.random.Generator], Rates]] = {
    "3 seeds each": partial(interval_case, World(seeds=(3, 3))),
    "5 seeds each": partial(interval_case, World()),
    "3 seeds against 8": partial(interval_case, World(seeds=(3, 8), scatter=(0.05, 0.05))),
    **{
        f"{seeds} seeds each that scatter by {100 * scatter:.0f} %": partial(
            interval_case, World(seeds=(seeds, seeds), scatter=(scatter, scatter))
        )
        for scatter in (0.15, 0.3, 0.4)
        for seeds in (3, 5, 8)
    },
    "5 seeds each that scatter by 40 and 5 %": partial(interval_case, World(scatter=(0.4, 0.05))),
    "8 seeds each that scatter by 40 and 5 %": partial(interval_case, World(seeds=(8, 8), scatter=(0.4, 0.05))),
    "30 % better on every protein, quiet seeds": partial(interval_case, World(ratio=0.7, **QUIET)),
    "the same with 30 proteins": partial(interval_case, World(ratio=0.7, proteins=30, **QUIET)),
    "the same, chains cut at 128": partial(interval_case, World(ratio=0.7, crop=128, **QUIET)),
    "families of 1 to 5, 10 % better": partial(interval_case, World(ratio=0.9, largest_family=5, own=0.25)),
    "the same, quiet seeds": partial(interval_case, World(ratio=0.9, largest_family=5, own=0.25, **QUIET)),
    **{
        f"{families} families of one protein, 10 % better": partial(interval_case, replace(FEW, proteins=families))
        for families in (2, 3, 5, 7, 15, 30, 90)
    },
    "7 families of one protein, quiet seeds": partial(interval_case, replace(FEW, proteins=7, **QUIET)),
    "about 7 families of 1 to 5": partial(interval_case, replace(FEW, proteins=21, largest_family=5)),
    "10 % better, 10 % of its runs collapse": partial(interval_case, World(ratio=0.9, collapses=0.1)),
    "10 % better, 20 % of its runs collapse": partial(interval_case, World(ratio=0.9, collapses=0.2)),
    **{
        f"mean {name} of {families} families": partial(score_case, shape, families)
        for name, shape in SHAPES.items()
        for families in (2, 5, 9, 10, 14, 30, 90)
    },
    "any of 26 comparisons of equal models": partial(many_case, World(seeds=(3, 3))),
    "any of 4 looks at equal models": partial(looks_case, World()),
    "the same, where seeds decide": partial(looks_case, World(scatter=(0.1, 0.1), own=0.02, noise=0.02)),
    "best of 25 epochs of a model as good as a baseline": partial(epoch_case, World(seeds=(3, 3), own=0.0, noise=0.3)),
    **{
        f"best of {candidates} as good as sepmean": partial(best_case, World(seeds=(3, 3)), candidates)
        for candidates in (1, 10, 27)
    },
    "any of 20 promotions of the best of 10 equal ones": partial(rounds_case, World(seeds=(3, 3))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chosen", nargs="*", metavar="CASE", help=f"of: {', '.join(CASES)}".replace("%", "%%"))
    parser.add_argument("--cases", type=int, default=2000, help="simulated comparisons of each")
    options = parser.parse_args()
    if options.cases < 1:
        parser.error("--cases: give 1 or more")
    if unknown := [name for name in options.chosen if name not in CASES]:
        parser.error(f"there is no case {unknown[0]!r}: choose from {'; '.join(CASES)}")
    print(f"{options.cases} simulated comparisons each, {PROTEINS} proteins, nominal 95 % and 5 %\n")
    print("| case | interval holds the truth (%) | false claims (%) | true differences claimed (%) | refused (%) |")
    print("|---|---:|---:|---:|---:|")
    for name in options.chosen or CASES:
        rates = CASES[name](options.cases, np.random.default_rng(0))
        cells = ("" if np.isnan(rate) else f"{100 * rate:.1f}" for rate in astuple(rates))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
