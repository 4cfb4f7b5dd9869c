"""protcli promote."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from protcli.experiments.promoting.promote import Promotion


def promote(
    experiment: Annotated[
        str | None, typer.Option(help="Consider only runs of this experiment (default: all).")
    ] = None,
    suite: Annotated[str | None, typer.Option(help="Consider only runs of this suite.")] = None,
    model_name: Annotated[str, typer.Option(help="Name of the registered model.")] = "protein-distance",
    digest: Annotated[str | None, typer.Option(help="Data digest, if the runs used different data.")] = None,
    must_beat: Annotated[
        str | None,
        typer.Option(help="sepmean: champion only if it is shown to beat that baseline.", metavar="MODEL"),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Register the mean of all its seeds instead of the best seed.")
    ] = False,
    force: Annotated[
        str | None, typer.Option(help="Make the best run champion anyway, for this reason.", metavar="REASON")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would happen, without writing anything.")
    ] = False,
) -> None:
    """Register the best finished configuration and make it champion if it beats the current one.

    The best configuration has the lowest validation MSE, each seed at an epoch chosen on other protein families, mean
    over its seeds without those that collapsed. It becomes champion if the 95 % interval of the ratio of its MSE to
    that of the champion's configuration, over protein families and seeds, lies below 1. The best weights of its best
    seed are registered, or with --ensemble the mean of its seeds. The test split is not read.
    """
    from protcli.experiments.promoting.promote import promote

    result = promote(
        experiment=experiment,
        suite=suite,
        model_name=model_name,
        digest=digest,
        must_beat=must_beat,
        ensemble=ensemble,
        force=force,
        dry_run=dry_run,
    )
    _print(result)


def _print(result: "Promotion") -> None:
    from protcli.cli.terminal import print_table, terminal
    from protcli.tracking.keys import Param

    console = terminal()
    params = result.best.params
    console.print(
        f"Data {params[Param.DIGEST]} ({params[Param.DATA_NAME]}, {params[Param.TRAIN_SPLIT]}, atom "
        f"{params[Param.ATOM].upper()}, first {params[Param.EVALUATED_LENGTH]} residues); validation MSE in Å², "
        f"sepmean {result.sepmean_mse:.3f}",
        soft_wrap=True,
    )
    print_table(console, result.table)
    for sentence in _sentences(result):
        console.print(sentence, soft_wrap=True)


def _sentences(result: "Promotion") -> list[str]:
    from protcli.experiments.promoting.model_card import caution

    decision = result.decision
    sentences = []
    if result.repeated:
        sentences.append(f"{result.repeated} runs left out: later runs have the same configuration and seed.")
    sentences.append(f"Best: {result.candidate.best.name}, run {result.best.id}. {result.candidate.over_sepmean}")
    sentences.append(result.candidate.served)
    sentences += filter(None, [caution(result.configurations)])
    name = result.version.uri if result.version else f"a new version of {result.model_name}"
    registered = "has been" if result.is_new else "was already"
    becomes = "is" if decision.is_champion else "is challenger, not"
    if result.dry_run:
        registered = "would be" if result.is_new else "is already"
        becomes = "would be" if decision.is_champion else "would be challenger, not"
    sentences.append(f"It {registered} registered as {name} and {becomes} champion: {decision.reason}.")
    if result.champion is not None and not decision.is_champion:
        sentences.append(f"{result.champion.uri} {'would stay' if result.dry_run else 'stays'} champion.")
    if result.dry_run:
        sentences.append("Dry run: nothing was written.")
    return sentences
