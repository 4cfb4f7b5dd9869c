"""What keeping a run in MLflow costs: its share of an epoch on the built-in sample, with each model's own recipe.

Counted are the time in which an epoch is recorded, while the training waits, and the processor time of the thread that
delivers the metrics to a SQLite store, those of several epochs at once, as if the training waited for it too. Saving
weights and state, without which a stopped training could not go on, stands beside it. What a run takes besides its
epochs (baselines, pictures), it takes once; the store exists before.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

from row import Row, Setting
from timing import in_fresh_process

MODELS = {"improved": 15, "psp1": 2}  # epochs


def rows(setting: Setting) -> Iterator[Row]:
    for name, epochs in {"improved": 1}.items() if setting.smallest else MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            epoch, tracking, saving, once = in_fresh_process(train, name, epochs, folder)
        yield Row.of(f"{name}: an epoch", "s", epoch)
        yield Row.of(f"{name}: tracking, share of an epoch", "%", [100 * tracking / sum(epoch)], at_most=1)
        shares = [100 * each / whole for each, whole in zip(saving, epoch, strict=True)]
        yield Row.of(f"{name}: saving weights and state, share of an epoch", "%", shares)
        yield Row.of(f"{name}: a run besides its epochs", "s", [once])


def train(name: str, epochs: int, folder: str) -> tuple[list[float], float, list[float], float]:
    """Seconds of each epoch, of tracking them all, of saving each; and of all that comes before and after them."""
    for variable in [each for each in os.environ if each.startswith("MLFLOW_")]:
        del os.environ[variable]
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    os.chdir(folder)  # where MLflow keeps artifacts

    from protcli.process import importing

    with importing():  # as the command does
        from protcli.experiments import train as running
        from protcli.experiments.config import RunConfig
        from protcli.experiments.record import Record
        from protcli.models.zoo import find_model
        from protcli.tracking import journal
        from protcli.tracking.store import open_store
        from protcli.training.loop import Epoch

    spent = {"recording": 0.0, "sending": 0.0, "saving": 0.0}

    def timed(kind: str, work: Callable[..., object], clock: Callable[[], float]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            started = clock()
            try:
                return work(*arguments, **options)
            finally:
                spent[kind] += clock() - started

        return call

    whole = journal.send
    of_metrics = timed("sending", whole, time.thread_time)

    def send(client: object, run_id: str, write: dict[str, object]) -> object:
        return (of_metrics if write["write"] == "metrics" else whole)(client, run_id, write)

    counted = (
        (Record, "complete_epoch", timed("recording", Record.complete_epoch, time.perf_counter)),
        (journal, "send", send),
        (running, "save_weights", timed("saving", running.save_weights, time.perf_counter)),
        (running, "save_state", timed("saving", running.save_state, time.perf_counter)),
    )
    with ExitStack() as stack:
        for place, name_there, work in counted:
            stack.enter_context(mock.patch.object(place, name_there, work))
        config = RunConfig(spec=find_model(name)).with_settings(epochs=epochs)
        open_store()
        began = time.perf_counter()
        took: list[float] = []
        saving: list[float] = []
        started = began
        for event in running.train(config):
            if isinstance(event, running.Started):
                started = time.perf_counter()
            elif isinstance(event, Epoch):  # it has been recorded and saved by now
                took.append(time.perf_counter() - started)
                saving.append(spent["saving"] - sum(saving))
                started = time.perf_counter()
        once = time.perf_counter() - began - sum(took)
    assert Path(folder, "mlflow.db").is_file()
    return took, spent["recording"] + spent["sending"], saving, once


if __name__ == "__main__":
    from bench import alone

    alone(__file__)
