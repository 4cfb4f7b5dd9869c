"""The configurations of a suite's cells, with their own recipes or with those that were best in the suite's sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.running.steps import with_steps
from protcli.experiments.studies.suite import Suite
from protcli.experiments.tuning.record import read_best_config
from protcli.experiments.tuning.sweep import Sweep, make_sweeps
from protcli.proteins.dataset import SAMPLE, Dataset, open_dataset
from protcli.tracking.keys import Tag
from protcli.tracking.run import Run, find_runs


def suite_configs(
    suite: Suite, data: str, train_split: str | None, atom: str, precision: str, device: str
) -> list[RunConfig]:
    """Each cell's configuration, with the digest that the data of all its runs must have, and the suite's steps."""
    configs = []
    opened: dict[int, Dataset] = {}
    for cell in suite.cells:
        crop = cell.spec.recipe.crop
        if crop not in opened:
            opened[crop] = open_dataset(data, train_split=train_split, atom=atom, evaluated_length=crop)
        config = RunConfig(spec=cell.spec, model_file=cell.model_file).with_settings(
            train_split=opened[crop].train.name,
            atom=atom,
            digest=opened[crop].digest,
            source=data if data == SAMPLE else str(Path(data).absolute()),
            precision=precision,
            device=device,
        )
        configs.append(with_steps(config, opened[crop], suite.steps) if suite.steps else config)
    return configs


def suite_sweeps(suite: Suite, configs: Sequence[RunConfig]) -> list[Sweep]:
    """The sweeps of a suite's cells. Raises as `make_sweeps` does."""
    names = [cell.name for cell in suite.cells]
    return make_sweeps(suite.name, list(zip(names, configs, strict=True)), suite.tuning, steps=suite.steps)


def tuned_configs(suite: Suite, configs: Sequence[RunConfig]) -> tuple[list[RunConfig], dict[str, Any]]:
    """The configurations with the recipes that were best in the suite's sweep, and tags that say how it was made.

    Raises:
        ProtcliError: a cell has no complete sweep with this data, or the numbers of trials differ.
    """
    sweeps = {sweep.model: sweep for sweep in suite_sweeps(suite, configs)}
    remedy = "run `protcli suite tune` with the same data and options"
    parents = {model: _parent(sweep) for model, sweep in sweeps.items()}
    if missing := [model for model, parent in parents.items() if parent is None or Tag.SWEEP_BEST not in parent.tags]:
        raise ProtcliError(f"suite {suite.name} takes its recipes from its sweep, and {missing[0]} has none: {remedy}")
    found = {model: parent for model, parent in parents.items() if parent is not None}
    trials = {model: int(parent.tags[Tag.SWEEP_COUNTED]) for model, parent in found.items()}
    for model, counted in trials.items():
        if counted < suite.tuning.trials:
            raise ProtcliError(
                f"the sweep of {model} has {counted} of the {suite.tuning.trials} trials that suite {suite.name} asks "
                f"for: {remedy}"
            )
    if len(set(trials.values())) > 1:
        listed = ", ".join(f"{model} {count}" for model, count in trials.items())
        raise ProtcliError(f"the cells of suite {suite.name} have unequal numbers of trials ({listed}): {remedy}")
    tuned = list(configs)
    for index, cell in enumerate(suite.cells):
        if parent := found.get(cell.name):
            best = read_best_config(parent).spec.recipe
            tuned[index] = configs[index].with_settings(lr=best.lr, batch_size=best.batch_size, epochs=best.epochs)
    return tuned, {Tag.TUNED_TRIALS: next(iter(trials.values())), Tag.TUNED_HELD_OUT: suite.tuning.held_out}


def _parent(sweep: Sweep) -> Run | None:
    """The run that holds a sweep's trials."""
    found = find_runs(tags={Tag.SWEEP_IDENTITY: sweep.identity})
    return max(found, key=lambda run: int(run.tags[Tag.SWEEP_COUNTED]), default=None)
