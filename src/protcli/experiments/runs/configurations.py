"""Group runs by configuration: everything that decides a result except the data and the seed."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from protcli.tracking.keys import File, Param
from protcli.tracking.run import Run

COSTS = (Param.PARAMETERS, Param.GMAC)  # follow from the other settings, so they do not name a model


@dataclass(frozen=True, eq=False)
class Configuration:
    """Runs that differ only in their seeds.

    Attributes:
        name: the model's and, if several configurations share it, the settings in which they differ.
        runs: the latest run of each seed, sorted by seed.
        repeated: earlier runs of a seed. Counting a seed twice would shorten intervals. The latest run counts whatever
            it scored, because choosing among them would be choosing by luck.
    """

    name: str
    runs: tuple[Run, ...]
    repeated: tuple[Run, ...]


def by_configuration(runs: Sequence[Run]) -> list[Configuration]:
    """Training runs by configuration, in order of first appearance."""
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(sorted(settings_of(run).items())), []).append(run)
    names = distinguish([dict(group) for group in groups])
    return [
        Configuration(name, *latest_of_seeds(members)) for name, members in zip(names, groups.values(), strict=True)
    ]


def seed_of(run: Run) -> int:
    """The seed of weights, dropout, data order and crops."""
    return int(run.params[Param.SEED])


def latest_of_seeds(runs: Iterable[Run]) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """The latest run of each seed, sorted by seed, and the others."""
    latest: dict[int, Run] = {}
    repeated = []
    for run in sorted(runs, key=lambda run: run.started):
        if earlier := latest.get(seed_of(run)):
            repeated.append(earlier)
        latest[seed_of(run)] = run
    return tuple(latest[seed] for seed in sorted(latest)), tuple(repeated)


def settings_of(run: Run) -> dict[str, str]:
    """What decides a run's results besides its data and seed: model, recipe, precision, the user's own code."""
    params = {
        key: value
        for key, value in run.params.items()
        if key in (Param.MODEL, Param.PRECISION) or key.startswith((Param.MODEL_SECTION, Param.RECIPE_SECTION))
    }
    if File.MODEL in run.files():
        code = run.path(File.MODEL).read_bytes()
        params[File.MODEL] = hashlib.sha256(code).hexdigest()[:8]
    return params


def _short(key: str) -> str:
    """`epochs` of `recipe.epochs`."""
    return key if key == File.MODEL else key.partition(".")[2]


def distinguish(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """A name for each configuration: its model and, if several share it, the settings in which they differ."""
    names = []
    for own in configurations:
        namesakes = [other for other in configurations if other[Param.MODEL] == own[Param.MODEL]]
        keys = sorted({key for other in namesakes for key in other} - {Param.MODEL, *COSTS})
        differing = [key for key in keys if len({other.get(key, "") for other in namesakes}) > 1]
        names.append(", ".join([own[Param.MODEL], *(f"{_short(key)} {own.get(key) or 'none'}" for key in differing)]))
    return names
