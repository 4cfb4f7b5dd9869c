"""Find a suite's runs in MLflow, by cell and seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protcli.errors import ProtcliError, shown
from protcli.experiments.runs.finished import why_not_finished
from protcli.experiments.studies.suite import Suite, find_suite, read_suite, suite_names
from protcli.tracking.keys import File, Tag
from protcli.tracking.run import Run, find_run, find_runs


@dataclass(frozen=True, eq=False)
class SuiteRuns:
    """The runs of a suite.

    Attributes:
        suite: as it was run.
        parent: the run that holds the others.
        finished: by cell, one run per seed.
        diverged: by cell, the runs that ended because their loss was no longer finite; they would diverge again.
        missing: what else is not finished and why, in sentences.
        others: parent runs of suites with the same name but other settings or data.
    """

    suite: Suite
    parent: Run
    finished: dict[str, tuple[Run, ...]]
    diverged: dict[str, tuple[Run, ...]]
    missing: tuple[str, ...]
    others: tuple[Run, ...] = ()

    @property
    def runs(self) -> list[Run]:
        """All finished runs, cell by cell."""
        return [run for runs in self.finished.values() for run in runs]


def find_suite_runs(name: str, run_id: str | None = None) -> SuiteRuns:
    """The runs of a suite that has been run, or is being run.

    Args:
        name: of the suite, or its YAML file. A file decides what is reported, if its cells are those that were run.
        run_id: the run that holds the others; None takes the latest of that suite.

    Raises:
        ProtcliError: there is no such run, it holds no suite with that name and those cells, or none of its runs has
            finished yet.
    """
    suite, parent, others = _find_parent(name, run_id)
    latest: dict[tuple[str, str], Run] = {}
    for child in find_runs(tags={Tag.PARENT: parent.id}):
        key = child.tags.get(Tag.CELL, ""), child.tags.get(Tag.SUITE_SEED, "")
        if key not in latest or child.status == "FINISHED" or latest[key].status != "FINISHED":
            latest[key] = child
    seeds = max(
        [int(parent.tags.get(Tag.SEEDS, suite.seeds)), *(int(seed) + 1 for _, seed in latest if seed.isdigit())]
    )
    finished: dict[str, tuple[Run, ...]] = {}
    diverged: dict[str, tuple[Run, ...]] = {}
    missing = []
    for cell in suite.cells:
        runs = {seed: latest.get((cell.name, str(seed))) for seed in range(seeds)}
        diverged[cell.name] = tuple(run for run in runs.values() if run is not None and run.tags.get(Tag.DIVERGED))
        reasons = {seed: _why_missing(run) for seed, run in runs.items() if run not in diverged[cell.name]}
        finished[cell.name] = tuple(run for seed, run in runs.items() if run is not None and reasons.get(seed) == "")
        seeds_by_reason: dict[str, list[int]] = {}
        for seed, reason in reasons.items():
            if reason:
                seeds_by_reason.setdefault(reason, []).append(seed)
        for reason, unfinished in seeds_by_reason.items():
            plural = "s" * (len(unfinished) > 1)
            missing.append(f"{cell.name}, seed{plural} {', '.join(map(str, unfinished))}: {reason}")
    if not any(finished.values()):
        reasons_of_all = [*missing, *(f"{cell}: {len(runs)} runs diverged" for cell, runs in diverged.items() if runs)]
        raise ProtcliError(f"no run of suite {suite.name} has finished (run {parent.id}): {'; '.join(reasons_of_all)}")
    return SuiteRuns(suite, parent, finished, diverged, tuple(missing), others)


def _find_parent(name: str, run_id: str | None) -> tuple[Suite, Run, tuple[Run, ...]]:
    """The requested suite, the parent of its runs, and the other parents of suites with its name."""
    path = Path(name)
    own = find_suite(name) if path.suffix in (".yaml", ".yml") else None
    title, folder = (own.name, path.parent) if own else (name, Path())
    if not title.replace("-", "").replace("_", "").isalnum():
        raise ProtcliError(f"there is no suite {shown(name)}: choose {', '.join(suite_names())}, or name a .yaml file")
    parents = [run for run in find_runs(tags={Tag.SUITE: title}) if Tag.PARENT not in run.tags]
    if not parents:
        raise ProtcliError(f"suite {title} has not been run here: run it with `protcli suite run {name}`")
    candidates = parents
    if run_id is not None:
        candidates = [find_run(run_id)]
        if candidates[0].id not in {run.id for run in parents}:
            raise ProtcliError(f"run {run_id} does not hold the runs of suite {title}: name the suite's own run")
    for run in reversed(candidates):
        kept = _suite_of(run, title, folder)
        if own is None or own.makeup == kept.makeup:
            return own or kept, run, tuple(other for other in parents if other.id != run.id)
    raise ProtcliError(
        f"{name} has other cells than what was run as suite {title} ({_run_ids(candidates)}): run it with `protcli "
        f"suite run {name}`, or report what was run with `protcli suite report {title}`"
    )


def _suite_of(run: Run, title: str, folder: Path) -> Suite:
    """The suite as it was when the run was last started or continued."""
    text = run.path(File.SUITE).read_text(encoding="utf-8")
    return read_suite(title, text, f"{File.SUITE} of run {run.id}", folder)


def _run_ids(runs: Sequence[Run]) -> str:
    return f"run{'s' * (len(runs) > 1)} {', '.join(run.id for run in runs)}"


def _why_missing(run: Run | None) -> str:
    """Why a training of a suite cannot be reported; empty where it can."""
    if run is None:
        return "not started"
    if run.status != "FINISHED":
        error = run.tags.get(Tag.ERROR, "")
        return f"{run.status} (run {run.id})" + (f": {error}" if error else "")
    reason = why_not_finished(run)
    return f"run {run.id}: {reason}" if reason else ""
