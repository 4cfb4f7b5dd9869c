"""The store of runs: `protcli runs`, `protcli sync` and `protcli ui`."""

from typing import Annotated

import typer

LATEST_RUNS = 30


def runs(
    experiment: Annotated[str | None, typer.Option(help="Only the runs of this MLflow experiment.")] = None,
    every: Annotated[bool, typer.Option("--all", help=f"Show all, not the latest {LATEST_RUNS}.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue every lost training, one after the other.")] = False,
    clean: Annotated[bool, typer.Option(help="Remove the temporary files that killed processes left here.")] = False,
) -> None:
    """List the runs, and which of them were lost: their process was killed before it could end them."""
    from protcli.cli.terminal import print_table, terminal
    from protcli.errors import ProtcliError
    from protcli.experiments.pages import Table
    from protcli.tracking.keys import Metric, Param, Tag
    from protcli.tracking.run import find_runs, remove_leftovers

    console = terminal()
    listed = find_runs(experiment)
    lost = [run for run in listed if run.is_lost and Param.MODEL in run.params]
    if clean:
        typer.echo(f"folders of killed processes removed on this machine: {remove_leftovers()}")
    if resume:
        from protcli.cli.progress import show_training
        from protcli.experiments.train import launch, processes_to_start
        from protcli.experiments.train import resume as resume_run

        failures = 0
        for run in lost:
            try:
                if (processes := processes_to_start(run_id=run.id)) > 1:
                    failures += bool(launch(["train", "--resume", run.id], processes))
                else:
                    show_training(resume_run(run.id))
            except ProtcliError as error:  # the others may go on
                failures += 1
                typer.echo(f"Error: {error}", err=True)
        if failures:
            raise ProtcliError(f"{failures} of {len(lost)} lost trainings cannot be continued, for the reasons above")
        if not lost:
            typer.echo("no training is lost")
    if clean or resume:
        return
    rows = tuple(
        (
            run.id,
            run.name,
            "LOST" if run.is_lost else run.status,
            f"{run.metrics[Metric.BEST_MSE]:.2f}" if Metric.BEST_MSE in run.metrics else "",
            str(max(run.history(Metric.VALID_MSE), default="")) if run.status != "FINISHED" else "",
            run.tags.get(Tag.ERROR, ""),
        )
        for run in (listed if every else listed[-LATEST_RUNS:])
    )
    headings = ("run", "name", "status", "best MSE (Å²)", "epochs", "reason")
    hidden = len(listed) - len(rows)
    note = f"{hidden} older runs are not shown: --all shows them" if hidden else ""
    print_table(console, Table("", headings, rows, note))
    if lost:
        typer.echo(f"lost trainings: {len(lost)}; `protcli runs --resume` continues them, each in its own run")


def sync() -> None:
    """Bring to MLflow what could not be written there.

    These are the records of runs whose tracking server was away, and the runs that were trained with --offline in this
    folder, which are copied to MLFLOW_TRACKING_URI.
    """
    from itertools import chain

    from protcli.errors import ProtcliError
    from protcli.tracking.sync import sync_journals, sync_offline

    done = failed = 0
    for each in chain(sync_journals(), sync_offline()):
        if isinstance(each, ProtcliError):
            failed += 1
            typer.echo(f"Error: {each}", err=True)
        else:
            done += 1
            typer.echo(each)
    if failed:
        raise typer.Exit(1)
    if not done:
        typer.echo("nothing waits to be delivered or copied")


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Start the MLflow UI on the store that runs are written to."""
    from protcli.tracking.ui import serve_ui

    serve_ui(host, port)
