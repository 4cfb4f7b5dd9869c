"""The configurations that may be promoted, the best first."""

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
        label: the model's name, and what tells it from others of that name among the candidates.
        runs: one a seed, the lowest validation MSE first.
    """

    label: str
    runs: tuple[RecordedRun, ...]

    @property
    def mse(self) -> float:
        """Validation MSE in A^2: each seed's best epoch, mean over seeds."""
        return fmean(map(best_mse, self.runs))

    @property
    def best(self) -> RecordedRun:
        """The run of its best seed."""
        return self.runs[0]


def best_mse(run: RecordedRun) -> float:
    """Validation MSE of a run's best epoch, in A^2."""
    return run.metrics[Metric.BEST_MSE]


def finished_candidates(experiment: str | None, suite: str | None) -> list[RecordedRun]:
    """The finished training runs of an experiment, of a suite, or of the whole store.

    Raises:
        ProtcliError: there is none; the sentence says where else to look.
    """
    found, _ = finished_runs(find_runs(experiment, tags={Tag.SUITE: suite} if suite else None))
    if found:
        return found
    if suite:
        known = sorted({run.tags[Tag.SUITE] for run in find_runs() if Tag.SUITE in run.tags})
        raise ProtcliError(
            f"there is no finished training run in suite {suite}: `protcli suite run` first; suites that have been "
            f"run here: {', '.join(known) or 'none'}"
        )
    where = f"experiment {experiment}" if experiment else "any experiment"
    raise ProtcliError(f"there is no finished training run in {where}: train one with protcli train")


def of_one_digest(runs: Sequence[RecordedRun], digest: str | None) -> list[RecordedRun]:
    """The runs on one set of data: the only one there is, or that whose digest begins as given.

    Raises:
        ProtcliError: there are several, or none of that digest; the sentence lists them.
    """
    counts = Counter(run.params[Param.DIGEST] for run in runs)
    if digest is not None:
        counts = Counter({found: n for found, n in counts.items() if found.startswith(digest)})
    if len(counts) != 1:
        every = Counter(run.params[Param.DIGEST] for run in runs)
        listed = "; ".join(f"{found} ({_data_of(runs, found)}): {count(n, 'run')}" for found, n in every.most_common())
        fault = f"no run has data digest {digest}" if not counts else "the runs have several data sets"
        raise ProtcliError(f"{fault}: name one of them with --digest: {listed}")
    (chosen,) = counts
    return [run for run in runs if run.params[Param.DIGEST] == chosen]


def _data_of(runs: Sequence[RecordedRun], digest: str) -> str:
    params = next(run.params for run in runs if run.params[Param.DIGEST] == digest)
    return (
        f"{params[Param.DATA_NAME]}, {params[Param.TRAIN_SPLIT]}, {params[Param.ATOM]}, first "
        f"{params[Param.EVALUATED_LENGTH]} residues"
    )


def rank(configurations: Sequence[Configuration]) -> tuple[Candidate, ...]:
    """The lowest mean MSE first."""
    candidates = [Candidate(found.name, tuple(sorted(found.runs, key=best_mse))) for found in configurations]
    return tuple(sorted(candidates, key=lambda candidate: candidate.mse))


def caution(candidates: Sequence[Candidate]) -> str:
    """What is to be said where the best was tried less often than others; nothing where it was not."""
    seeds, most = len(candidates[0].runs), max(len(candidate.runs) for candidate in candidates)
    if seeds == most or candidates[0].best.params[Param.MODEL] == File.SEPMEAN:  # which has no seed
        return ""
    return (
        f"It was chosen by the mean over {count(seeds, 'seed')}, where others have up to {most}: train as many "
        "before you rely on the order."
    )


def chosen_from(candidates: Sequence[Candidate]) -> str:
    """Among what the best was chosen, and how, as a sentence."""
    best = candidates[0]
    runs = sum(len(candidate.runs) for candidate in candidates)
    return (
        f"the lowest validation MSE, {best.mse:.3f} Å² as the mean over {count(len(best.runs), 'seed')}, of "
        f"{count(len(candidates), 'configuration')} ({count(runs, 'run')}) on data "
        f"{best.best.params[Param.DIGEST]}; of its seeds the best, {best.best.params[Param.SEED]}, with "
        f"{best_mse(best.best):.3f} Å²"
    )


def count(number: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
