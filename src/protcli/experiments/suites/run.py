"""Train every model of a suite with every seed, in child runs of one parent; go on with a suite that was stopped."""

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.suites.report import find_suite_report, latest_runs
from protcli.experiments.suites.suite import Suite
from protcli.experiments.sweeps.record import read_sweep_config
from protcli.experiments.sweeps.space import Sweep, make_sweeps
from protcli.experiments.tasks import (
    RunFinished,
    Task,
    TaskEvent,
    Train,
    is_resumable,
    open_parent,
    run_tasks,
    settled,
    train_process,
)
from protcli.experiments.train import with_steps
from protcli.models.summary import summarize
from protcli.proteins.dataset import open_dataset
from protcli.tracking.keys import File, Tag
from protcli.tracking.run import Run, create_run, find_runs, project_run
from protcli.training.engine import find_device, start_engine
from protcli.version import git_commit


@dataclass(frozen=True)
class SuiteStarted:
    """The parent run exists. Of `total` trainings, `done` had already finished; `run_id` is the parent's."""

    run_id: str
    total: int
    done: int


@dataclass(frozen=True)
class InterimAnalysis:
    """The primary comparison at one of the declared looks: what may be claimed, and whether that decides it."""

    seeds: int
    sentence: str
    is_decided: bool


SuiteEvent = SuiteStarted | TaskEvent | InterimAnalysis


def suite_configs(suite: Suite, **settings: Any) -> list[RunConfig]:
    """Each cell's configuration, with the digest that the data of all its runs must have, and the suite's steps.

    Args:
        suite: with its final recipes.
        settings: those of all runs, see `RunConfig.with_settings`; None leaves one as it is.

    Raises:
        ProtcliError: settings that cannot be used.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    opened = cache(open_dataset)  # once for each crop
    configs = []
    for cell in suite.cells:
        config = RunConfig(spec=cell.spec, model_file=cell.model_file).with_settings(**given).with_absolute_source()
        start_engine(find_device(config.run.device), config.run.precision)  # refuses what there is not
        if cell.model_file is not None:
            summarize(config.spec, config.spec.recipe.crop)  # finds a fault in the file before others have trained
        data = opened(
            config.data.source, train_split=config.data.train_split, atom=config.data.atom,
            evaluated_length=config.evaluated_length, features=config.spec.features,
        )  # fmt: skip
        config = config.with_features(data.features).with_settings(train_split=data.train.name, digest=data.digest)
        configs.append(with_steps(config, data, suite.steps) if suite.steps else config)
    return configs


def suite_sweeps(suite: Suite, configs: Sequence[RunConfig]) -> list[Sweep]:
    """The sweeps of a suite's cells. Raises as `make_sweeps` does."""
    models = [(cell.name, config) for cell, config in zip(suite.cells, configs, strict=True)]
    return make_sweeps(suite.name, models, suite.tuning, steps=suite.steps)


def tuned_configs(suite: Suite, configs: Sequence[RunConfig]) -> tuple[list[RunConfig], dict[str, Any]]:
    """The configurations with the recipes that were best in the suite's sweep, and tags that say how it was made.

    Raises:
        ProtcliError: a cell has no complete sweep with this data, or the numbers of trials differ.
    """
    remedy = "run `protcli suite tune` with the same data and options"
    trials, recipes = {}, {}
    for sweep in suite_sweeps(suite, configs):
        parents = find_runs(tags={Tag.SWEEP_IDENTITY: sweep.identity})
        parent = max(parents, key=lambda run: int(run.tags[Tag.SWEEP_COUNTED]), default=None)
        if parent is None or Tag.SWEEP_BEST not in parent.tags:
            raise ProtcliError(
                f"suite {suite.name} takes its recipes from its sweep, and {sweep.model} has none: {remedy}"
            )
        trials[sweep.model] = counted = int(parent.tags[Tag.SWEEP_COUNTED])
        if counted < suite.tuning.trials:
            raise ProtcliError(
                f"the sweep of {sweep.model} has {counted} of the {suite.tuning.trials} trials that suite {suite.name} "
                f"asks for: {remedy}"
            )
        best = read_sweep_config(parent, File.BEST_CONFIG).spec.recipe
        recipes[sweep.model] = {"lr": best.lr, "batch_size": best.batch_size, "epochs": best.epochs}
    if len(set(trials.values())) > 1:
        listed = ", ".join(f"{model} {count}" for model, count in trials.items())
        raise ProtcliError(f"the cells of suite {suite.name} have unequal numbers of trials ({listed}): {remedy}")
    tuned = [
        config.with_settings(**recipes.get(cell.name, {})) for cell, config in zip(suite.cells, configs, strict=True)
    ]
    return tuned, {Tag.TUNED_TRIALS: max(trials.values()), Tag.TUNED_HELD_OUT: suite.tuning.held_out}


def run_suite(
    suite: Suite, configs: Sequence[RunConfig], *, seeds: int | None = None, jobs: int = 1, command: str = "",
    train: Train = train_process,
) -> Generator[SuiteStarted | TaskEvent, None, None]:  # fmt: skip
    """Run the missing trainings of a suite; a training that fails stops no other.

    All runs are children of one parent run. The parent is identified by what decides the results (cells with their
    settings and recipes, data digests, atom, precision), so a suite that was stopped, or needs more seeds, continues
    there. A finished training is not repeated, and a stopped one is resumed in its own run. The seeds are 0, 1, ...;
    trainings run seed by seed, so that an incomplete suite can already be compared.

    Args:
        suite: with its final recipes.
        configs: of its cells, see `suite_configs`.
        seeds: how many; None takes the suite's own number.
        jobs: trainings at the same time; they share the processor's threads.
        command: the command that repeats this, for the record.
        train: how a training is started.

    Raises:
        ProtcliError: settings that cannot be used, another process is running the suite, or it is to be tuned first.
            A KeyboardInterrupt stops the trainings, which keep their checkpoints, and leaves the parent KILLED.
    """
    seeds = suite.seeds if seeds is None else seeds
    for option, count in (("--seeds", seeds), ("--jobs", jobs)):
        if count < 1:
            raise ProtcliError(f"{option} is {count}: give 1 or more")
    about: dict[str, Any] = {}
    if suite.tuned:
        configs, about = tuned_configs(suite, configs)
    makeup = "\n".join([suite.name, *(config.identity for config in configs), *map(str, about.values())])
    identity = hashlib.sha256(makeup.encode()).hexdigest()[:32]
    threads = max(1, torch.get_num_threads() // jobs)
    tasks = [
        Task(
            f"{cell.name}, seed {seed}",
            config.with_settings(seed=seed, threads=threads),
            {Tag.SUITE: suite.name, Tag.CELL: cell.name, Tag.SUITE_SEED: str(seed)},
        )
        for seed in range(seeds)
        for cell, config in zip(suite.cells, configs, strict=True)
    ]
    parent = _parent(suite, identity)
    missing = _missing(parent, tasks)
    tags = {
        Tag.SUITE: suite.name, Tag.IDENTITY: identity, Tag.COMMAND: command, Tag.SEEDS: seeds,
        Tag.SUITE_DATA: configs[0].data.source, Tag.SUITE_COMMIT: git_commit(), **about,
    }  # fmt: skip
    with open_parent(parent, tags) as failures:
        parent.rename(f"suite {suite.name}")
        parent.set_note(f"# Suite {suite.name}\n\n{suite.question}\n\nIts runs are nested under this one.")
        parent.log_text(suite.source, File.SUITE)
        yield SuiteStarted(parent.id, len(tasks), len(tasks) - len(missing))
        for event in run_tasks(parent, missing, jobs, train):
            if isinstance(event, RunFinished) and event.is_failure:
                failures.append(f"{event.name}: {event.reason}")
            yield event


def _parent(suite: Suite, identity: str) -> Run:
    """The run that holds this suite's runs.

    Raises:
        ProtcliError: another process is running the suite.
    """
    if not (earlier := find_runs(tags={Tag.SUITE: suite.name, Tag.IDENTITY: identity})):
        return project_run() or create_run(f"suite {suite.name}", f"suite-{suite.name}")
    run = earlier[-1]
    if run.is_being_written:
        raise ProtcliError(
            f"suite {suite.name} is being run by process {run.tags[Tag.PROCESS]} (run {run.id}): wait for it, or "
            "stop it"
        )
    if project := project_run(besides=run.id):
        project.set_tags({Tag.CONTINUES: run.id})
    return run


def _missing(parent: Run, tasks: Sequence[Task]) -> list[Task]:
    """The tasks that have no result yet; one that was stopped goes on in its own run."""
    latest = latest_runs(parent)
    missing = []
    for task in tasks:
        last = latest.get((task.tags[Tag.CELL], task.tags[Tag.SUITE_SEED]))
        if last is not None:
            last = settled(last)
            if last.status == "FINISHED" or last.tags.get(Tag.DIVERGED):  # it would diverge again
                continue
        missing.append(replace(task, stopped=last if last and is_resumable(last) else None))
    return missing


def run_until_decided(
    suite: Suite, name: str, configs: Sequence[RunConfig], **options: Any
) -> Generator[SuiteEvent, None, None]:
    """Run a suite to its first look, then to the next, until its primary comparison is decided or no look is left.

    Args:
        suite: with declared looks.
        name: as it was named to `find_suite`.
        configs: of its cells, see `suite_configs`.
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
        for event in run_suite(suite, configs, seeds=seeds, **options):
            match event:
                case SuiteStarted():
                    run_id = event.run_id
                case RunFinished():
                    failed |= event.is_failure
            yield event
        if failed:  # the same command goes on when it is mended
            return
        report = find_suite_report(name, run_id)
        if report.primary is None:
            raise ProtcliError(f"the primary comparison of suite {suite.name} has no finished runs")
        yield InterimAnalysis(seeds, report.primary.sentence, report.is_decided)
        if report.is_decided:
            return
