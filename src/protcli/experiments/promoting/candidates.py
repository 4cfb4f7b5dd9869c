"""The configurations that may be promoted, best first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from protcli.errors import ProtcliError
from protcli.experiments.runs.configurations import Configuration
from protcli.experiments.runs.finished import finished_runs
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.runs import RecordedRun, find_runs


@dataclass(frozen=True)
class Candidate:
    """One configuration that may be promoted.

    Attributes:
        label: the model's name, and the settings in which it differs from candidates with the same name.
        runs: one per seed, the lowest validation MSE first.
    """

    label: str
    runs: tuple[RecordedRun, ...]

    @property
    def mse(self) -> float:
        """Validation MSE in A^2: each seed's best epoch, mean over seeds."""
        return fmean(map(best_mse, self.runs))

    @property
    def best(self) -> RecordedRun:
        """The run with the best seed."""
        return self.runs[0]


def best_mse(run: RecordedRun) -> float:
    """Validation MSE of a run's best epoch, in A^2."""
    return run.metrics[Metric.BEST_MSE]


def finished_candidates(experiment: str | None, suite: str | None) -> list[RecordedRun]:
    """The finished training runs of an experiment, of a suite, or of the whole store.

    Raises:
        ProtcliError: there is none; the message says where else to look.
    """
    runs, _ = finished_runs(find_runs(experiment, tags={Tag.SUITE: suite} if suite else None))
    if runs:
        return runs
    if suite:
        known = sorted({run.tags[Tag.SUITE] for run in find_runs() if Tag.SUITE in run.tags})
        raise ProtcliError(
            f"suite {suite} has no finished training run: run it with `protcli suite run`; suites that have been run "
            f"here: {', '.join(known) or 'none'}"
        )
    where = f"experiment {experiment}" if experiment else "any experiment"
    raise ProtcliError(f"there is no finished training run in {where}: train one with `protcli train`")


def of_one_digest(runs: Sequence[RecordedRun], digest: str | None) -> list[RecordedRun]:
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


def on_validation_split(runs: Sequence[RecordedRun]) -> list[RecordedRun]:
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


def _data_of(runs: Sequence[RecordedRun], digest: str) -> str:
    params = next(run.params for run in runs if run.params[Param.DIGEST] == digest)
    return (
        f"{params[Param.DATA_NAME]}, {params[Param.TRAIN_SPLIT]}, {params[Param.ATOM]}, first "
        f"{params[Param.EVALUATED_LENGTH]} residues"
    )


def rank(configurations: Sequence[Configuration]) -> tuple[Candidate, ...]:
    """Candidates sorted by mean MSE, the lowest first."""
    candidates = [
        Candidate(configuration.name, tuple(sorted(configuration.runs, key=best_mse)))
        for configuration in configurations
    ]
    return tuple(sorted(candidates, key=lambda candidate: candidate.mse))


def caution(candidates: Sequence[Candidate]) -> str:
    """A warning if the best candidate has fewer seeds than others; empty if it has not."""
    seeds, most = len(candidates[0].runs), max(len(candidate.runs) for candidate in candidates)
    if seeds == most or candidates[0].best.params[Param.MODEL] == File.SEPMEAN:  # sepmean has no seed
        return ""
    return (
        f"It was chosen by the mean over {count(seeds, 'seed')}, but others have up to {most}: train as many before "
        "you rely on the ranking."
    )


def chosen_from(candidates: Sequence[Candidate]) -> str:
    """How the best was chosen, and from what, as a clause."""
    best = candidates[0]
    runs = sum(len(candidate.runs) for candidate in candidates)
    return (
        f"the lowest validation MSE, {best.mse:.3f} Å² as the mean over {count(len(best.runs), 'seed')}, of "
        f"{count(len(candidates), 'configuration')} ({count(runs, 'run')}) on data "
        f"{best.best.params[Param.DIGEST]}; its best seed is {best.best.params[Param.SEED]}, with "
        f"{best_mse(best.best):.3f} Å²"
    )


def count(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
