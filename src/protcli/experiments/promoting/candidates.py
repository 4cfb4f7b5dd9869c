"""The configurations that may be promoted, best first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from protcli.errors import ProtcliError
from protcli.experiments.runs.configurations import Configuration, by_configuration, settings_of
from protcli.experiments.runs.finished import finished_runs, has_diverged
from protcli.experiments.statistics.contrasts import FEWEST_SEEDS
from protcli.experiments.statistics.failures import collapsed
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.run import Run, find_runs


@dataclass(frozen=True, eq=False)
class Candidate:
    """One configuration that may be promoted.

    Attributes:
        label: the model's name, and the settings in which it differs from candidates with the same name.
        runs: one per seed, the lowest validation MSE first.
        diverged: how many more seeds diverged, so that they have no figures.
    """

    label: str
    runs: tuple[Run, ...]
    diverged: int = 0

    @property
    def trained(self) -> tuple[Run, ...]:
        """The runs that did not collapse; only they are averaged and compared."""
        marks = collapsed([best_mse(run) for run in self.runs])
        return tuple(run for run, mark in zip(self.runs, marks, strict=True) if not mark)

    @property
    def collapsed(self) -> int:
        """How many of its runs collapsed."""
        return len(self.runs) - len(self.trained)

    @property
    def mse(self) -> float:
        """Validation MSE in A^2: each seed's best epoch, mean over the seeds that did not collapse."""
        return fmean(map(best_mse, self.trained))

    @property
    def best(self) -> Run:
        """The run with the best seed."""
        return self.runs[0]

    @property
    def is_fitted(self) -> bool:
        """Whether it was fitted in one pass, so that there is no seed to vary."""
        return self.best.params[Param.PARAMETERS] == "0"

    @property
    def is_baseline(self) -> bool:
        """Whether it is `sepmean`."""
        return self.best.params[Param.MODEL] == File.SEPMEAN

    @property
    def has_few_seeds(self) -> bool:
        """Whether too few seeds did not collapse to claim anything about the architecture."""
        return len(self.trained) < FEWEST_SEEDS and not self.is_fitted

    @property
    def seeds(self) -> str:
        """`3 seeds`, `4 seeds, 1 of them collapsed or diverged`, or `fitted`."""
        if self.is_fitted:
            return "fitted"
        failed = f", {self.failed} of them collapsed or diverged" if self.failed else ""
        return count(len(self.runs) + self.diverged, "seed") + failed

    @property
    def failed(self) -> int:
        """How many of its seeds collapsed or diverged."""
        return self.collapsed + self.diverged


def best_mse(run: Run) -> float:
    """Validation MSE of a run's best epoch, in A^2."""
    return run.metrics[Metric.BEST_MSE]


def same_configuration(run: Run, other: Run) -> bool:
    """Whether two runs have the same data and settings, so that at most their seeds differ."""
    return run.params[Param.DIGEST] == other.params[Param.DIGEST] and settings_of(run) == settings_of(other)


def configuration_of(run: Run) -> Candidate:
    """The configuration of a run: it and every finished run in the store that differs in the seed alone."""
    on_its_data = [other for other in find_runs() if other.params.get(Param.DIGEST) == run.params[Param.DIGEST]]
    finished, unfinished = finished_runs(on_its_data)
    others = [*finished, *filter(has_diverged, unfinished)]
    (candidate,) = rank(
        by_configuration([run, *(other for other in others if other.id != run.id and same_configuration(run, other))])
    )
    return candidate


def found_candidates(experiment: str | None, suite: str | None) -> list[Run]:
    """The training runs of an experiment, of a suite, or of the whole store that finished or diverged.

    Raises:
        ProtcliError: none has finished; the message says where else to look.
    """
    runs, others = finished_runs(find_runs(experiment, tags={Tag.SUITE: suite} if suite else None))
    if runs:
        return [*runs, *filter(has_diverged, others)]
    if suite:
        known = sorted({run.tags[Tag.SUITE] for run in find_runs() if Tag.SUITE in run.tags})
        raise ProtcliError(
            f"suite {suite} has no finished training run: run it with `protcli suite run`; suites that have been run "
            f"here: {', '.join(known) or 'none'}"
        )
    where = f"experiment {experiment}" if experiment else "any experiment"
    raise ProtcliError(f"there is no finished training run in {where}: train one with `protcli train`")


def of_one_digest(runs: Sequence[Run], digest: str | None) -> list[Run]:
    """The runs on one data set: the only one, or the one whose digest begins with `digest`.

    Raises:
        ProtcliError: there are several, or none with that digest; the message lists them.
    """
    counts = Counter(run.params[Param.DIGEST] for run in runs)
    if digest is not None:
        counts = Counter({full: n for full, n in counts.items() if full.startswith(digest)})
    if len(counts) != 1:
        all_counts = Counter(run.params[Param.DIGEST] for run in runs)
        listed = "; ".join(
            f"{full} ({_data_of(runs, full)}): {count(n, 'run')}" for full, n in all_counts.most_common()
        )
        fault = f"no run has data digest {digest}" if not counts else "the runs use several data sets"
        raise ProtcliError(f"{fault}: choose one with --digest: {listed}")
    (chosen,) = counts
    return [run for run in runs if run.params[Param.DIGEST] == chosen]


def on_validation_split(runs: Sequence[Run]) -> list[Run]:
    """The runs that were validated on a validation split, and not on families held out of the training split.

    Raises:
        ProtcliError: there is none.
    """
    validated = [run for run in runs if not float(run.params.get(Param.HELD_OUT, 0))]
    if not validated:
        raise ProtcliError(
            f"no run here was validated on a validation split, only on families held out of "
            f"{runs[0].params[Param.TRAIN_SPLIT]} (run {runs[0].id}): train the settings that they chose without "
            "--held-out, and promote that run"
        )
    return validated


def _data_of(runs: Sequence[Run], digest: str) -> str:
    params = next(run.params for run in runs if run.params[Param.DIGEST] == digest)
    return (
        f"{params[Param.DATA_NAME]}, {params[Param.TRAIN_SPLIT]}, {params[Param.ATOM]}, first "
        f"{params[Param.EVALUATED_LENGTH]} residues"
    )


def rank(configurations: Sequence[Configuration]) -> tuple[Candidate, ...]:
    """Candidates sorted by mean MSE over the seeds that did not collapse, the lowest first; a configuration whose runs
    all diverged is none."""
    candidates = []
    for configuration in configurations:
        finished = [run for run in configuration.runs if not has_diverged(run)]
        if finished:
            lost = len(configuration.runs) - len(finished)
            candidates.append(Candidate(configuration.name, tuple(sorted(finished, key=best_mse)), lost))
    return tuple(sorted(candidates, key=lambda candidate: candidate.mse))


def caution(candidates: Sequence[Candidate]) -> str:
    """A warning if runs of the best candidate collapsed, or if it has fewer seeds than others; empty otherwise."""
    best, sentences = candidates[0], []
    seeds, most = len(best.trained), max(len(candidate.trained) for candidate in candidates)
    if best.is_fitted:
        return ""
    if best.failed:
        runs = len(best.runs) + best.diverged
        sentences.append(f"{best.failed} of its {runs} runs collapsed or diverged, left out of its mean.")
    if len(best.runs) + best.diverged < max(len(candidate.runs) + candidate.diverged for candidate in candidates):
        sentences.append(
            f"It was chosen by the mean over {count(seeds, 'seed')}, but others have up to {most}: train as many "
            "before you rely on the ranking."
        )
    return " ".join(sentences)


def chosen_from(candidates: Sequence[Candidate]) -> str:
    """How the best configuration was chosen, and from what, as a clause."""
    best = candidates[0]
    runs = sum(len(candidate.runs) for candidate in candidates)
    collapsed_too = f" ({best.failed} more collapsed or diverged)" if best.failed else ""
    return (
        f"the lowest validation MSE, {best.mse:.3f} Å² as the mean over {count(len(best.trained), 'seed')}"
        f"{collapsed_too}, of {count(len(candidates), 'configuration')} ({count(runs, 'run')}) on data "
        f"{best.best.params[Param.DIGEST]}"
    )


def count(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
