"""How often a state is saved within an epoch."""

import time

import pytest

from protcli.errors import ProtcliError
from protcli.experiments import train as training
from protcli.experiments.train import CheckpointInterval


def saves(text: str | None, seconds_per_batch: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batches of 1,000 after which the state is saved, by a clock of its own."""
    now = [time.monotonic()]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    chosen, saved = CheckpointInterval.parse(text), []
    for number in range(1, 1001):
        now[0] += seconds_per_batch
        if chosen.is_due():
            chosen.reset()
            saved.append(number)
    return saved


def test_batches_or_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves("400", 99.0, monkeypatch) == [400, 800]
    assert saves("1", 0.1, monkeypatch) == list(range(1, 1001))
    assert saves("2m", 0.5, monkeypatch) == [240, 480, 720, 960]
    assert saves("0.5m", 7.0, monkeypatch)[:3] == [5, 10, 15]
    assert saves(None, 1.0, monkeypatch) == [600]  # ten minutes


@pytest.mark.parametrize("text", ["", "0", "-1", "0m", "10 m", "1e3", "10s", "m", "1.5", "٣", "1" * 12])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(ProtcliError, match=r"^--checkpoint-every is .*: give minutes, as 10m, or a number of batches"):
        CheckpointInterval.parse(text)
