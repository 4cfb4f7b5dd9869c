"""Who has read a test set, and how often: the more often it is read to choose by, the less its figures mean."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities import ViewType

from protcli.tracking.keys import Tag
from protcli.tracking.registry import Registry
from protcli.tracking.runs import RecordedRun
from protcli.tracking.store import open_store

DIGITS = 16  # of the digest in the names of tags
NO_CHAMPION = "no champion"


@dataclass(frozen=True)
class Readings:
    """How often one test set has been read in the whole store, deleted runs included.

    Attributes:
        total: readings.
        by_others: those by a run that was not champion when it read.
    """

    total: int
    by_others: int

    def __str__(self) -> str:
        readings = "1 reading" if self.total == 1 else f"{self.total} readings"
        return f"{readings}, {self.by_others} of them by models that were not champion"


def record_reading(run: RecordedRun, digest: str) -> Readings:
    """Note on a run that it is about to read the test set of this digest, and count all readings, this one included.

    Each reading is a tag of its own, so that of two at once none is lost.
    """
    names = sorted({version.name for version in Registry().of_run(run.id) if version.is_champion})
    reader = f"champion of {', '.join(names)}" if names else NO_CHAMPION
    moment = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{secrets.token_hex(4)}"
    run.log().tags({_mark(digest): "yes", f"{_mark(digest)}.{moment}": reader})
    return count_readings(digest)


def count_readings(digest: str) -> Readings:
    """How often the test set of this digest has been read."""
    client = open_store()
    experiments = [found.experiment_id for found in client.search_experiments(view_type=ViewType.ALL)]
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
