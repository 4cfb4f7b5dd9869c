"""Counts who has read a test set: the more often it guides choices, the less its metrics mean."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import ViewType

from protcli.tracking.keys import Tag
from protcli.tracking.registry import Registry
from protcli.tracking.run import Run
from protcli.tracking.store import open_store

DIGITS = 16  # digest digits in tag names
NO_CHAMPION = "no champion"


@dataclass(frozen=True)
class Readings:
    """How often one test set has been read in the whole store, including by deleted runs.

    Attributes:
        total: all readings.
        by_others: readings by runs that were not champion at the time.
    """

    total: int
    by_others: int

    def __str__(self) -> str:
        readings = "1 reading" if self.total == 1 else f"{self.total} readings"
        return f"{readings}, {self.by_others} of them by models that were not champion"


def record_reading(run: Run, digest: str, members: str = "") -> Readings:
    """Record on a run that it reads the test set with this digest; count all readings including this one.

    `members` are those of the ensemble that reads it, see `Registry.of_run`.

    Each reading is its own tag, so that concurrent readings are not lost.
    """
    names = sorted({version.name for version in Registry().of_run(run.id, members=members) if version.is_champion})
    reader = f"champion of {', '.join(names)}" if names else NO_CHAMPION
    moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(4)}"
    run.set_tags({_mark(digest): "yes", f"{_mark(digest)}.{moment}": reader})
    return count_readings(digest)


def count_readings(digest: str) -> Readings:
    """How often the test set with this digest has been read."""
    client = open_store()
    experiments = [experiment.experiment_id for experiment in client.search_experiments(view_type=ViewType.ALL)]
    readers: list[str] = []
    token = None
    while True:
        page = client.search_runs(
            experiments, f"tags.`{_mark(digest)}` = 'yes'", run_view_type=ViewType.ALL, page_token=token
        )
        for run in page:
            readers += (value for key, value in run.data.tags.items() if key.startswith(f"{_mark(digest)}."))
        if not (token := page.token):
            return Readings(len(readers), readers.count(NO_CHAMPION))


def _mark(digest: str) -> str:
    return f"{Tag.TEST_READ}.{digest[:DIGITS]}"
