"""protcli sync."""

import typer


def sync() -> None:
    """Bring to MLflow what could not be written there.

    These are the records of runs whose tracking server was away, and the runs that were trained with --offline in this
    folder, which are copied to MLFLOW_TRACKING_URI.
    """
    from itertools import chain

    from protcli.errors import ProtcliError
    from protcli.tracking.sync import sync_journals, sync_offline

    failed = 0
    done = 0
    for each in chain(sync_journals(), sync_offline()):
        if isinstance(each, ProtcliError):
            failed += 1
            typer.echo(f"Error: {each}", err=True)
        elif each.records is None:
            done += 1
            typer.echo(f"run {each.run_id}: copied from {each.offline}, which was trained offline")
        elif each.records:
            done += 1
            typer.echo(f"run {each.run_id}: {each.records} records delivered")
    if failed:
        raise typer.Exit(1)
    if not done:
        typer.echo("nothing waits to be delivered or copied")
