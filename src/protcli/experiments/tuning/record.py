"""The run that holds a sweep's trials: what it says, and its files."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from protcli.experiments.config import RunConfig, read_config
from protcli.experiments.tuning.ledger import Ledger, TrialRow
from protcli.experiments.tuning.space import shown_range
from protcli.experiments.tuning.sweep import Sweep
from protcli.figures.sweep import draw_history, draw_importances
from protcli.models.zoo import config_dict
from protcli.process import scratch_folder, this_process
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.run import Run, create_run, find_run

WAIT, POLL = 60.0, 0.5  # seconds for which a process waits for the one that created the study to make the run
COLUMNS = ("number", "state", "lr", "batch_size", "epochs", "steps", "steps_chosen", "valid_mse", "run_id")


def parent_run(sweep: Sweep, ledger: Ledger) -> Run:
    """The run that holds the trials' runs. Of several processes, the one that created the study makes it.

    Raises:
        ProtcliError: it is deleted, or the MLflow store is not the one that the sweep was begun in.
    """
    waited = 0.0
    while not ledger.is_new and ledger.parent is None and waited < WAIT:
        time.sleep(POLL)
        waited += POLL
    if known := ledger.parent:
        return find_run(known)
    tags = {
        Tag.SWEEP: sweep.name, Tag.SWEEP_MODEL: sweep.model, Tag.SWEEP_IDENTITY: sweep.identity,
        Tag.SWEEP_STUDY: ledger.name, Tag.SWEEP_HELD_OUT: str(sweep.held_out),
        Tag.SWEEP_WANTED: str(ledger.trials), Tag.SWEEP_COUNTED: "0",
    }  # fmt: skip
    log = create_run(f"sweep {sweep.name}: {sweep.model}", sweep.experiment, tags)
    own, space = sweep.own, sweep.space
    log.log_params(
        {
            Param.MODEL: sweep.config.spec.name,
            **{f"{Param.MODEL_SECTION}{key}": value for key, value in config_dict(sweep.config.spec).items()},
            Param.SWEEP_LR: shown_range(space.lr),
            Param.SWEEP_BATCH_SIZE: ", ".join(map(str, space.batch_size)),
            Param.SWEEP_STEPS: shown_range(space.steps),
            Param.SWEEP_HELD_OUT: sweep.held_out,
            Param.SWEEP_SEED: sweep.seed,
            Param.SWEEP_OWN: f"lr {own.lr:g}, batch_size {own.batch_size}, steps {own.steps}",
        }
    )
    _store_config(log, sweep.config, File.OWN_CONFIG)
    ledger.set_parent(log.id)  # now it is complete
    return log


@contextmanager
def running(log: Run, ledger: Ledger, command: str) -> Iterator[None]:
    """The parent run while this process trains its trials; its files and its status are written at the end."""
    log.end("RUNNING")
    log.set_tags({Tag.PROCESS: this_process(), Tag.COMMAND: command, Tag.SWEEP_WANTED: ledger.trials})
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, GeneratorExit):
        status = "KILLED"
        raise
    finally:
        publish(find_run(log.id), ledger)
        log.end(status)


def publish(parent: Run, ledger: Ledger) -> None:
    """Write the table of trials, the figures, the best recipe and the note of a sweep as it is now."""
    best, rows = ledger.best, ledger.rows
    with scratch_folder() as scratch:
        folder = scratch / File.SWEEP
        folder.mkdir()
        _table(rows).to_csv(folder / "trials.csv", index=False)
        if best is not None:
            draw_history(folder / "history.png", ledger.numbered)
            if sum(math.isfinite(row.mse) for row in rows if row.state == "COMPLETE") > 1:
                draw_importances(folder / "importances.png", ledger.numbered)
            own = read_own_config(parent)
            _store_config(parent, best_config(own, best), File.BEST_CONFIG)
        parent.log_artifact(folder, File.SWEEP)
    parent.set_tags({Tag.SWEEP_COUNTED: ledger.counted})
    if best is not None:
        parent.set_tags({Tag.SWEEP_BEST: best.number})
        parent.log_metrics({Metric.SWEEP_BEST: best.mse}, step=ledger.counted)
    parent.set_note(_note(parent, ledger, best))


def best_config(own: RunConfig, best: TrialRow) -> RunConfig:
    """The best trial's recipe, for the whole training split and the real validation split."""
    return own.with_settings(
        lr=best.params["lr"], batch_size=best.params["batch_size"], epochs=best.about["refit_epochs"], held_out=0.0
    )


def read_own_config(parent: Run) -> RunConfig:
    """A sweep's model with its own recipe, from its run's files. Raises ProtcliError if they are gone."""
    return _read(parent, File.OWN_CONFIG)


def read_best_config(parent: Run) -> RunConfig:
    """The best recipe of a sweep, from its run's files. Raises ProtcliError if there is none."""
    return _read(parent, File.BEST_CONFIG)


def _read(parent: Run, name: str) -> RunConfig:
    if File.MODEL in parent.files():
        parent.path(File.MODEL)
    return read_config(parent.path(name))


def _store_config(log: Run, config: RunConfig, name: str) -> None:
    """Store a configuration, and the user's own model beside it."""
    if source := config.spec.source:
        log.log_text(source.read_text(encoding="utf-8", errors="backslashreplace"), File.MODEL)
        config = config.with_model_file(Path(File.MODEL))
    log.log_text(config.to_yaml(), name)


def _table(rows: list[TrialRow]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (
                row.number, row.state, row.params.get("lr"), row.params.get("batch_size"), row.about.get("epochs"),
                row.about.get("steps"), row.params.get("steps"), row.mse, row.run_id,
            )
            for row in rows
        ],
        columns=list(COLUMNS),
    )  # fmt: skip


def _note(parent: Run, ledger: Ledger, best: TrialRow | None) -> str:
    states = [row.state for row in ledger.rows]
    diverged = sum(math.isinf(row.mse) for row in ledger.rows)
    name, share = parent.tags[Tag.SWEEP], float(parent.tags[Tag.SWEEP_HELD_OUT])
    paragraphs = [
        f"# {parent.name}",
        f"{ledger.counted} of {ledger.trials} trials count: {states.count('COMPLETE')} finished ({diverged} of them "
        f"diverged), {states.count('PRUNED')} pruned. Trial 0 is the model's own recipe. The trials were measured on "
        f"families held out of the training split (a share of {share:g}), never on the validation split.",
    ]
    if best is not None:
        paragraphs += [
            f"**Best: trial {best.number}, MSE {best.mse:.2f} Å² on the families held out**: learning rate "
            f"{best.params['lr']:.3g}, batch size {best.params['batch_size']}, {best.about['steps']} steps "
            f"({best.about['epochs']} epochs without those families, {best.about['refit_epochs']} epochs with them).",
            f"To train it on the whole training split: `protcli train --config {File.BEST_CONFIG} --experiment "
            f"sweep-{name}` (from this run's artifacts), then `protcli promote --experiment sweep-{name}`.",
        ]
    return "\n\n".join(paragraphs)
