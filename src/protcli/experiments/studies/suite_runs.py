"""What has been trained of a suite: found again in MLflow, cell by cell and seed by seed."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.experiments.studies.suite import Suite, find_suite, read_suite, suite_names
from protcli.tracking.keys import File, Tag
from protcli.tracking.runs import RecordedRun, find_run, find_runs


@dataclass(frozen=True, eq=False)
class SuiteRuns:
    """What has been trained of a suite.

    Attributes:
        suite: as it was run.
        parent: the run that holds the others.
        finished: by cell, one run a seed.
        missing: what is not finished and why, in sentences.
        others: runs that hold what was trained of a suite of that name with other settings or data.
    """

    suite: Suite
    parent: RecordedRun
    finished: dict[str, tuple[RecordedRun, ...]]
    missing: tuple[str, ...]
    others: tuple[RecordedRun, ...] = ()

    @property
    def runs(self) -> list[RecordedRun]:
        """All finished ones, cell by cell."""
        return [run for runs in self.finished.values() for run in runs]


def find_suite_runs(name: str, run_id: str | None = None) -> SuiteRuns:
    """The runs of a suite that has been run, or is being run.

    Args:
        name: of the suite, or its YAML file. A file says what is asked of the runs, if it has the cells that were run.
        run_id: of the run that holds the others; None takes the latest of that suite.

    Raises:
        ProtcliError: there is no such run, it holds no suite of that name and those cells, or nothing of it has
            finished yet.
    """
    suite, parent, others = _find_parent(name, run_id)
    latest: dict[tuple[str, str], RecordedRun] = {}
    for child in find_runs(tags={Tag.PARENT: parent.id}):
        key = child.tags.get(Tag.CELL, ""), child.tags.get(Tag.SUITE_SEED, "")
        if key not in latest or child.status == "FINISHED" or latest[key].status != "FINISHED":
            latest[key] = child
    seeds = max(
        [int(parent.tags.get(Tag.SEEDS, suite.seeds)), *(int(seed) + 1 for _, seed in latest if seed.isdigit())]
    )
    finished: dict[str, tuple[RecordedRun, ...]] = {}
    missing = []
    for cell in suite.cells:
        runs = {seed: latest.get((cell.name, str(seed))) for seed in range(seeds)}
        finished[cell.name] = tuple(run for run in runs.values() if run is not None and run.status == "FINISHED")
        lacking: dict[str, list[int]] = {}
        for seed, run in runs.items():
            if run is None or run.status != "FINISHED":
                lacking.setdefault(_why(run), []).append(seed)
        for reason, of in lacking.items():
            missing.append(f"{cell.name}, seed{'s' * (len(of) > 1)} {', '.join(map(str, of))}: {reason}")
    if not any(finished.values()):
        raise ProtcliError(f"nothing of suite {suite.name} has finished yet (run {parent.id}): {'; '.join(missing)}")
    return SuiteRuns(suite, parent, finished, tuple(missing), others)


def _find_parent(name: str, run_id: str | None) -> tuple[Suite, RecordedRun, tuple[RecordedRun, ...]]:
    """The suite that is asked for, the run that holds its runs, and those that hold other runs of its name."""
    path = Path(name)
    own = find_suite(name) if path.suffix in (".yaml", ".yml") else None
    title, folder = (own.name, path.parent) if own else (name, Path())
    if not title.replace("-", "").replace("_", "").isalnum():
        raise ProtcliError(f"there is no suite {name!r}: choose {', '.join(suite_names())}, or name a .yaml file")
    parents = [run for run in find_runs(tags={Tag.SUITE: title}) if Tag.PARENT not in run.tags]
    if not parents:
        raise ProtcliError(f"suite {title} has not been run here: `protcli suite run {name}` first")
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
        f"{name} has other cells than what was run as suite {title} ({_run_ids(candidates)}): `protcli suite run "
        f"{name}` first, or `protcli suite report {title}` for what was run"
    )


def _suite_of(run: RecordedRun, title: str, folder: Path) -> Suite:
    """As it was when the run was last gone on with."""
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        text = run.download(File.SUITE, Path(scratch)).read_text(encoding="utf-8")
    return read_suite(title, text, f"{File.SUITE} of run {run.id}", folder)


def _run_ids(runs: Sequence[RecordedRun]) -> str:
    return f"run{'s' * (len(runs) > 1)} {', '.join(run.id for run in runs)}"


def _why(run: RecordedRun | None) -> str:
    if run is None:
        return "not begun"
    error = run.tags.get(Tag.ERROR, "")
    return f"{run.status} (run {run.id})" + (f": {error}" if error else "")
