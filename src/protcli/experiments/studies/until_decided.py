"""Run a suite look by look, and stop when its primary comparison is decided."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from protcli.errors import ProtcliError
from protcli.experiments.comparing.trained_runs import read_runs
from protcli.experiments.studies.analysis import Analysis
from protcli.experiments.studies.run_suite import Begun, Ended, Said, run_suite
from protcli.experiments.studies.suite import Suite
from protcli.experiments.studies.suite_runs import find_suite_runs


@dataclass(frozen=True)
class Looked:
    """The primary comparison at one of the declared looks: what may be claimed, and whether that decides it."""

    seeds: int
    sentence: str
    is_decided: bool


def run_until_decided(suite: Suite, name: str, **options: Any) -> Generator[Begun | Said | Ended | Looked, None, None]:
    """Run a suite to its first look, then to the next, until its primary comparison is decided or no look is left.

    Args:
        suite: with declared looks.
        name: as it was named to `find_suite`.
        options: of `run_suite`, except for `seeds`.

    Raises:
        ProtcliError: the suite declares no looks, or as `run_suite` does.
    """
    if not suite.looks:
        raise ProtcliError(
            f"suite {suite.name} declares no looks: add `looks: [3, 5, 8]` and `primary: [cell, other cell]` to its "
            "file before it is run; stopping when the figures please would claim differences that do not exist"
        )
    for seeds in suite.looks:
        run_id, failed = None, False
        for event in run_suite(suite, seeds=seeds, **options):
            run_id = event.run_id if isinstance(event, Begun) else run_id
            failed = failed or (isinstance(event, Ended) and event.outcome.is_failure)
            yield event
        if failed:  # the same command goes on when it is mended
            return
        suite_runs = find_suite_runs(name, run_id)
        primary = Analysis(suite_runs, read_runs(suite_runs.runs)).primary
        if primary is None:
            raise ProtcliError(f"the primary comparison of suite {suite.name} has no finished runs")
        is_decided = primary.is_claimed or primary.is_equal
        yield Looked(seeds, primary.sentence, is_decided)
        if is_decided:
            return
