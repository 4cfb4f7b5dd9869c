"""protcli promote."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from protcli.experiments.promoting.promote import Promotion


def promote(
    experiment: Annotated[str | None, typer.Option(help="Look in this experiment only; else in all.")] = None,
    suite: Annotated[str | None, typer.Option(help="Look in the runs of this suite only.")] = None,
    model_name: Annotated[str, typer.Option(help="Of the registered model.")] = "protein-distance",
    digest: Annotated[str | None, typer.Option(help="Of the data, where the runs have several.")] = None,
    force: Annotated[str | None, typer.Option(help="Make the best one champion, and why.", metavar="REASON")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Register the best finished run; make it champion if it beats the present one.

    The best is the configuration of the lowest validation MSE (mean over seeds), and of that the best seed. It becomes
    champion if the 95 % interval of its difference from the champion, by a bootstrap over the same validation
    proteins, lies below zero. The test split is not read.
    """
    from protcli.experiments.promoting.promote import promote

    _print(
        promote(experiment=experiment, suite=suite, model_name=model_name, digest=digest, force=force, dry_run=dry_run)
    )


def _print(result: "Promotion") -> None:
    from rich.table import Table

    from protcli.cli.terminal import terminal
    from protcli.experiments.promoting.candidates import best_mse
    from protcli.tracking.keys import Param

    console = terminal()
    best = result.best
    params = best.params
    console.print(
        f"Data {params[Param.DIGEST]} ({params[Param.DATA_NAME]}, {params[Param.TRAIN_SPLIT]}, atom "
        f"{params[Param.ATOM].upper()}, first {params[Param.EVALUATED_LENGTH]} residues); validation MSE in Å², "
        f"sepmean's {result.sepmean_mse:.3f}",
        soft_wrap=True,
    )
    table = Table()
    for heading in ("configuration", "seeds", "mean", "of sepmean", "best seed", "its run"):
        table.add_column(heading, justify="left" if heading in ("configuration", "its run") else "right")
    for candidate in result.candidates:
        table.add_row(
            candidate.label,
            str(len(candidate.runs)),
            f"{candidate.mse:.3f}",
            f"{candidate.mse / result.sepmean_mse:.4f}",
            f"{best_mse(candidate.best):.3f}",
            candidate.best.id[:8],
        )
    console.print(table)
    for sentence in _sentences(result):
        console.print(sentence, soft_wrap=True)


def _sentences(result: "Promotion") -> list[str]:
    from protcli.experiments.promoting.candidates import caution

    said = []
    if result.repeated:
        said.append(f"{result.repeated} left out that repeat a configuration and seed: the latest one counts.")
    said.append(f"Best: {result.candidates[0].label}, run {result.best.id}. {result.verdict}")
    said += filter(None, [caution(result.candidates)])
    name = result.version.uri if result.version else f"a new version of {result.model_name}"
    if result.dry_run:
        registered = "would be registered" if result.is_new else "is registered already"
        becomes = "would be champion" if result.is_champion else "would be challenger, not champion"
    else:
        registered = "has been registered" if result.is_new else "was registered already"
        becomes = "is champion" if result.is_champion else "is challenger, not champion"
    said.append(f"It {registered} as {name} and {becomes}: {result.reason}.")
    if result.champion is not None and not result.is_champion:
        said.append(f"{result.champion.uri} {'would stay' if result.dry_run else 'stays'} champion.")
    if result.dry_run:
        said.append("Dry run: nothing was written.")
    return said
