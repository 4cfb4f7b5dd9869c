"""The run that holds a sweep's trials: what it says, and its files."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial

from protcli.experiments.config import RunConfig, read_config
from protcli.experiments.sweeps.space import Sweep, range_words
from protcli.experiments.sweeps.trials import PARENT, TrialQueue, mse_of, number_of
from protcli.figures.sweep import draw_history, draw_importances
from protcli.models.zoo import config_dict
from protcli.process import scratch_folder
from protcli.tracking.keys import File, Metric, Param, Tag
from protcli.tracking.run import Run, create_run, find_run

PARENT_POLLS, POLL_SECONDS = 120, 0.5  # for which a process waits for the one that created the study to make the run
COLUMNS = {  # of the table, by Optuna's names
    "user_attrs_number": "number", "state": "state", "params_lr": "lr", "params_batch_size": "batch_size",
    "user_attrs_epochs": "epochs", "user_attrs_steps": "steps", "params_steps": "steps_chosen", "value": "valid_mse",
    "user_attrs_run": "run_id",
}  # fmt: skip


def parent_run(sweep: Sweep, queue: TrialQueue) -> Run:
    """The run that holds the trials' runs. Of several processes, the one that created the study makes it.

    Raises:
        ProtcliError: it is deleted, or the MLflow store is not the one that the sweep was begun in.
    """
    for _ in range(0 if queue.is_new else PARENT_POLLS):
        if known := queue.parent:
            return find_run(known)
        time.sleep(POLL_SECONDS)
    share, own, space = sweep.tuning.held_out, sweep.own_recipe, sweep.space
    tags = {
        Tag.SWEEP: sweep.name, Tag.SWEEP_MODEL: sweep.model, Tag.SWEEP_IDENTITY: sweep.identity,
        Tag.SWEEP_STUDY: queue.name, Tag.SWEEP_HELD_OUT: str(share), Tag.SWEEP_WANTED: str(queue.wanted),
        Tag.SWEEP_COUNTED: "0",
    }  # fmt: skip
    log = create_run(f"sweep {sweep.name}: {sweep.model}", f"sweep-{sweep.name}", tags)
    log.log_params(
        {
            Param.MODEL: sweep.config.spec.name,
            **{f"{Param.MODEL_SECTION}{key}": value for key, value in config_dict(sweep.config.spec).items()},
            Param.SWEEP_LR: range_words(space.lr),
            Param.SWEEP_BATCH_SIZE: ", ".join(map(str, space.batch_size)),
            Param.SWEEP_STEPS: range_words(space.steps),
            Param.SWEEP_HELD_OUT: share,
            Param.SWEEP_SEED: sweep.seed,
            Param.SWEEP_OWN: f"lr {own.lr:g}, batch_size {own.batch_size}, steps {own.steps}",
        }
    )
    _store_config(log, sweep.config, File.OWN_CONFIG)
    queue.study().set_user_attr(PARENT, log.id)  # now it is complete
    return log


def publish(parent: Run, queue: TrialQueue) -> None:
    """Write the table of trials, the figures, the best recipe and the note of a sweep as it is now."""
    best, table = queue.best, queue.study().trials_dataframe().reindex(columns=list(COLUMNS))
    table = table.rename(columns=COLUMNS).dropna(subset="run_id").sort_values("number", kind="stable")
    with scratch_folder() as scratch:
        folder = scratch / File.SWEEP
        folder.mkdir()
        table.convert_dtypes().to_csv(folder / "trials.csv", index=False)
        if best is not None:
            draw_history(folder / "history.png", queue.numbered)
            if np.isfinite(table.valid_mse[table.state == "COMPLETE"]).sum() > 1:
                draw_importances(folder / "importances.png", queue.numbered)
            config = read_sweep_config(parent, File.OWN_CONFIG).with_settings(
                lr=best.params["lr"], batch_size=best.params["batch_size"], epochs=best.user_attrs["refit_epochs"],
                held_out=0.0,
            )  # fmt: skip
            _store_config(parent, config, File.BEST_CONFIG)
        parent.log_artifact(folder, File.SWEEP)
    parent.set_tags({Tag.SWEEP_COUNTED: queue.counted})
    if best is not None:
        parent.set_tags({Tag.SWEEP_BEST: number_of(best)})
        parent.log_metrics({Metric.SWEEP_BEST: mse_of(best)}, step=queue.counted)
    parent.set_note(_note(parent, queue, best))


def read_sweep_config(parent: Run, name: str) -> RunConfig:
    """A sweep's model with its own or its best recipe, from its run's files. Raises ProtcliError if they are gone."""
    if File.MODEL in parent.files():
        parent.path(File.MODEL)  # beside the configuration
    return read_config(parent.path(name))


def _store_config(run: Run, config: RunConfig, name: str) -> None:
    """Store a configuration, and the user's own model beside it."""
    if source := config.spec.source:
        run.log_text(source.read_text(encoding="utf-8", errors="backslashreplace"), File.MODEL)
        config = replace(config, model_file=Path(File.MODEL))
    run.log_text(config.to_yaml(), name)


def _note(parent: Run, queue: TrialQueue, best: FrozenTrial | None) -> str:
    states = [row.state.name for row in queue.rows]
    diverged = sum(row.value == np.inf for row in queue.rows)
    name, share = parent.tags[Tag.SWEEP], float(parent.tags[Tag.SWEEP_HELD_OUT])
    paragraphs = [
        f"# {parent.name}",
        f"{queue.counted} of {queue.wanted} trials count: {states.count('COMPLETE')} finished ({diverged} of them "
        f"diverged), {states.count('PRUNED')} pruned. Trial 0 is the model's own recipe. The trials were measured on "
        f"families held out of the training split (a share of {share:g}), never on the validation split. Each counts "
        "once, though processes that share a sweep may now and then train the same one.",
    ]
    if best is not None:
        about = best.user_attrs
        paragraphs += [
            f"**Best: trial {number_of(best)}, MSE {best.value:.2f} Å² on the families held out**: learning rate "
            f"{best.params['lr']:.3g}, batch size {best.params['batch_size']}, {about['steps']} steps "
            f"({about['epochs']} epochs without those families, {about['refit_epochs']} epochs with them).",
            f"To train it on the whole training split: `protcli train --config {File.BEST_CONFIG} --experiment "
            f"sweep-{name}` (from this run's artifacts), then `protcli promote --experiment sweep-{name}`.",
        ]
    return "\n\n".join(paragraphs)
