"""Configurations: settings and the runs of their seeds, with the one definition of their errors and failures."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from typing import TypeVar

import numpy as np

from protcli.experiments.evaluate import validation_of
from protcli.experiments.scores import Scores, epochs_of
from protcli.experiments.statistics.contrasts import FEWEST_SEEDS
from protcli.experiments.statistics.epochs import at_chosen_epoch, collapsed, failure_bound
from protcli.experiments.statistics.estimates import Estimate, over_seeds
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.run import Run

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
COSTS = (Param.PARAMETERS, Param.GMAC)  # follow from the other settings, so they do not name a model


def why_not_finished(run: Run) -> str:
    """Why a run is not a finished training run, as a clause; empty if it is one."""
    for kind, what, command in ((Tag.SUITE, "runs", "suite report"), (Tag.SWEEP, "trials", "sweep --report")):
        if (name := run.tags.get(kind)) and Tag.PARENT not in run.tags:
            return f"it holds the {what} of {kind} {name}; see `protcli {command} {name}`"
    if Tag.PRUNED in run.tags:
        return "it is a trial of a sweep that was pruned"
    if run.status != "FINISHED":
        return f"it is {run.status}" + (f" ({run.tags[Tag.ERROR]})" if run.tags.get(Tag.ERROR) else "")
    if Param.DIGEST not in run.params:
        return "it is not a training run of protcli"
    if Metric.BEST_MSE not in run.metrics:
        return "it has no validation MSE"
    if Param.EVALUATED_LENGTH not in run.params:
        return f"it was trained by an earlier protcli, which did not record {Param.EVALUATED_LENGTH}"
    if File.VALIDATION_ERRORS not in run.files():
        return f"its artifacts lack {File.VALIDATION_ERRORS}: an earlier protcli trained it, or the file was deleted"
    return ""


def has_diverged(run: Run) -> bool:
    """Whether a training ended because its loss was no longer finite: a result without figures."""
    return run.status != "FINISHED" and bool(run.tags.get(Tag.DIVERGED)) and Param.DIGEST in run.params


def finished_runs(runs: Iterable[Run]) -> tuple[list[Run], dict[Run, str]]:
    """The finished training runs, and the others, each with the reason why it is not one."""
    reasons = {run: why_not_finished(run) for run in runs}
    return [run for run in reasons if not reasons[run]], {run: reason for run, reason in reasons.items() if reason}


def seed_of(run: Run) -> int:
    """The seed of weights, dropout, data order and crops."""
    return int(run.params[Param.SEED])


def best_epoch_of(run: Run) -> int:
    """The epoch with the lowest validation MSE."""
    return int(run.metrics[Metric.BEST_EPOCH])


def best_mse_of(run: Run) -> float:
    """Validation MSE of that epoch, whose weights the run has, in Å²; lower than that of an epoch others chose."""
    return run.metrics[Metric.BEST_MSE]


def commit_of(run: Run) -> str:
    """The commit of the protcli that trained it, shortened; `-dirty` if files differed from it."""
    commit, dirty, _ = run.params.get(Param.COMMIT, "").partition("-dirty")
    return (commit[:12] or "unknown") + dirty


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What runs were trained and validated on: runs on the same data can be compared.

    Attributes:
        run: one of them; its parameters describe the data.
        keep: whether scores that are measured here are stored with their runs.
    """

    run: Run
    keep: bool = True
    _scores: dict[str, Scores] = field(default_factory=dict)

    def scores_of(self, run: Run) -> Scores:
        """What a run's best weights score on its validation proteins, read once, or measured if they have not been yet.

        Raises:
            ProtcliError: as `validation_of` does.
        """
        if run.id not in self._scores:
            self._scores[run.id] = validation_of(run, keep=self.keep)
        return self._scores[run.id]

    @property
    def families(self) -> np.ndarray:
        """The family of each validation protein: str [N]."""
        return self.scores_of(self.run).families

    @property
    def digest(self) -> str:
        """Of everything that makes runs comparable."""
        return self.run.params[Param.DIGEST]

    @property
    def is_synthetic(self) -> bool:
        """Whether its proteins are made up."""
        return self.run.params[Param.SYNTHETIC] == "True"

    @property
    def short(self) -> str:
        """For the title of a figure."""
        params, kind = self.run.params, "SYNTHETIC " if self.is_synthetic else ""
        return (
            f"{kind}{params[Param.DATA_NAME]}, {params[Param.TRAIN_SPLIT]}, {params[Param.ATOM].upper()}, first "
            f"{params[Param.EVALUATED_LENGTH]} residues"
        )

    @property
    def sentence(self) -> str:
        """For the reader of a table."""
        params = self.run.params
        kind = " (SYNTHETIC proteins, generated by protcli: for trying things out, not for claims)"
        return (
            f"Data {params[Param.DATA_NAME]}{kind if self.is_synthetic else ''}: trained on "
            f"{params[Param.TRAIN_PROTEINS]} proteins of {params[Param.TRAIN_SPLIT]}, measured on "
            f"{params[Param.VALID_PROTEINS]} of {params[Param.VALID_SPLIT]}; atom {params[Param.ATOM].upper()}, first "
            f"{params[Param.EVALUATED_LENGTH]} residues of each chain, digest {self.digest}."
        )


@dataclass(eq=False)
class Configuration:
    """Settings and the runs of their seeds, which differ in nothing else; what they score is read when it is needed.

    Attributes:
        name: the model's and, if several configurations share it, the settings in which they differ.
        runs: the latest finished run of each seed, sorted by seed.
        data: what they were trained on, shared by all configurations on it.
        diverged: the latest runs of other seeds, which diverged, so that they have no figures.
        repeated: earlier runs of a seed. Counting a seed twice would shorten intervals. The latest run counts whatever
            it scored, because choosing among them would be choosing by luck.
        colour_group: configurations in one group are drawn in one colour; empty for one without a group.
    """

    name: str
    runs: tuple[Run, ...]
    data: TrainingData
    diverged: tuple[Run, ...] = ()
    repeated: tuple[Run, ...] = ()
    colour_group: str = ""

    @property
    def scores(self) -> list[Scores]:
        """What the best weights of each run score on validation. Raises ProtcliError as `validation_of` does."""
        return [self.data.scores_of(run) for run in self.runs]

    @cached_property
    def epochs(self) -> list[list[PairErrors]]:
        """Validation errors of each run after each epoch. Raises ProtcliError as `epochs_of` does."""
        return [epochs_of(run) for run in self.runs]

    @cached_property
    def all_errors(self) -> list[PairErrors]:
        """Validation errors of each run, at the epoch that is best for other families; see `at_chosen_epoch`."""
        return [at_chosen_epoch(epochs, self.data.families) for epochs in self.epochs]

    @cached_property
    def _is_kept(self) -> list[bool]:
        return [not mark for mark in collapsed([errors.mse for errors in self.all_errors])]

    @property
    def errors(self) -> list[PairErrors]:
        """As `all_errors`, of the runs that did not collapse: what every comparison and ranking stands on."""
        return list(compress(self.all_errors, self._is_kept))

    @property
    def last_errors(self) -> list[PairErrors]:
        """Those after the last epoch."""
        return [epochs[-1] for epochs in compress(self.epochs, self._is_kept)]

    @property
    def kept(self) -> tuple[Run, ...]:
        """The runs that did not collapse."""
        return tuple(compress(self.runs, self._is_kept))

    @property
    def seeds(self) -> int:
        """How many seeds were trained, those that diverged among them."""
        return len(self.runs) + len(self.diverged)

    @property
    def collapsed(self) -> int:
        """How many of the finished runs collapsed."""
        return self._is_kept.count(False)

    @property
    def failed(self) -> int:
        """How many runs collapsed or diverged."""
        return self.collapsed + len(self.diverged)

    @property
    def failures(self) -> str:
        """`1 of 5 (up to 66 %)`: runs that collapsed or diverged, and the failure rate that this leaves possible."""
        return f"{self.failed} of {self.seeds} (up to {100 * failure_bound(self.failed, self.seeds):.0f} %)"

    @cached_property
    def mse(self) -> Estimate:
        """Pooled validation MSE in Å²: mean over the seeds that did not collapse."""
        return over_seeds([errors.mse for errors in self.errors])

    @property
    def median(self) -> float:
        """Its median over all seeds; a run that diverged is infinitely bad."""
        return float(np.median([*(errors.mse for errors in self.all_errors), *[np.inf] * len(self.diverged)]))

    @property
    def last_mse(self) -> Estimate:
        """As `mse`, after the last epoch."""
        return over_seeds([errors.mse for errors in self.last_errors])

    @property
    def params(self) -> dict[str, str]:
        """Parameters of its first run; the others differ only in what the seed and the machine decide."""
        return self.runs[0].params

    @property
    def is_fitted(self) -> bool:
        """Whether it was fitted in one pass, so that there is no seed to vary."""
        return all(run.params[Param.PARAMETERS] == "0" for run in self.runs)

    @property
    def is_baseline(self) -> bool:
        """Whether it is `sepmean`."""
        return self.params[Param.MODEL] == File.SEPMEAN

    @property
    def has_few_seeds(self) -> bool:
        """Whether too few seeds did not collapse to claim anything about the architecture."""
        return len(self.errors) < FEWEST_SEEDS and not self.is_fitted

    @property
    def is_improving(self) -> bool:
        """Whether every seed's best epoch is its last, so that more epochs would have scored better."""
        ends = list(map(len, self.epochs))
        return ends == list(map(best_epoch_of, self.runs)) and not self.is_fitted and ends[0] > 1

    @property
    def best_epochs(self) -> str:
        """`13`, or `9 to 25` where the seeds differ."""
        epochs = sorted(map(best_epoch_of, self.runs))
        return " to ".join(map(str, dict.fromkeys((epochs[0], epochs[-1]))))

    @property
    def best_run(self) -> Run:
        """The run whose best weights have the lowest validation MSE."""
        return min(self.kept, key=best_mse_of)

    @property
    def commits(self) -> set[str]:
        """The commits of protcli that trained its runs."""
        return set(map(commit_of, self.runs))

    def histories(self, metric: str) -> list[dict[int, float]]:
        """A metric of each run by epoch."""
        return [run.history(metric) for run in self.runs]

    @property
    def seconds(self) -> float:
        """Seconds per epoch, mean over epochs and seeds."""
        return float(np.mean([value for history in self.histories(Metric.SECONDS) for value in history.values()]))

    @property
    def peak_memory(self) -> float:
        """The peak over its seeds, in GB; NaN if it was not measured."""
        return max(run.metrics.get(Metric.PEAK_MEMORY, np.nan) for run in self.runs)


def read_runs(configurations: Iterable[Configuration]) -> Iterator[Run]:
    """Read what one run after the other scores; one that has not been measured yet is measured, which takes a while.

    Raises:
        ProtcliError: see `validation_of`.
    """
    for configuration in configurations:
        for run in configuration.runs:
            configuration.data.scores_of(run)
            yield run


def by_configuration(runs: Iterable[Run], *, keep: bool = True) -> list[Configuration]:
    """The configurations of runs that have finished or diverged, one data set after the other, as they first appear.

    Args:
        runs: the runs.
        keep: whether scores that are measured are stored with their runs.
    """
    configurations = []
    for members in grouped(runs, lambda run: run.params[Param.DIGEST]).values():
        data = data_of(members, keep=keep)
        groups = grouped(members, lambda run: tuple(sorted(settings_of(run).items())))
        for name, group in zip(distinguish(list(map(dict, groups))), groups.values(), strict=True):
            by_seed = grouped(sorted(group, key=lambda run: run.started), seed_of)
            latest = [by_seed[seed][-1] for seed in sorted(by_seed)]
            configurations.append(
                Configuration(
                    name,
                    runs=tuple(run for run in latest if not has_diverged(run)),
                    data=data,
                    diverged=tuple(filter(has_diverged, latest)),
                    repeated=tuple(run for of_seed in by_seed.values() for run in of_seed[:-1]),
                )
            )
    return configurations


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items with the same key, in order of first appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def data_of(runs: Sequence[Run], *, keep: bool = True) -> TrainingData:
    """The data that all these runs are on, described by one that has been measured, or by the best one."""

    def rank(run: Run) -> tuple[bool, bool, float]:
        return has_diverged(run), Tag.VALID_MEASURED not in run.tags, run.metrics.get(Metric.BEST_MSE, np.inf)

    return TrainingData(min(runs, key=rank), keep)


def settings_of(run: Run) -> dict[str, str]:
    """What decides a run's results besides its data and seed: model, recipe, precision, the user's own code."""
    params = {
        key: value
        for key, value in run.params.items()
        if key in (Param.MODEL, Param.PRECISION) or key.startswith((Param.MODEL_SECTION, Param.RECIPE_SECTION))
    }
    if File.MODEL in run.files():
        params[File.MODEL] = hashlib.sha256(run.path(File.MODEL).read_bytes()).hexdigest()[:8]
    return params


def distinguish(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """A name for each configuration: its model and, if several share it, the settings in which they differ."""
    names = []
    for settings in configurations:
        namesakes = [other for other in configurations if other[Param.MODEL] == settings[Param.MODEL]]
        name = settings[Param.MODEL]
        for key in sorted(set().union(*namesakes) - {Param.MODEL, *COSTS}):
            if len({other.get(key, "") for other in namesakes}) > 1:
                short = key if key == File.MODEL else key.partition(".")[2]  # `epochs` of `recipe.epochs`
                name += f", {short} {settings.get(key) or 'none'}"
        names.append(name)
    return names
