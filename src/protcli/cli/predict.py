"""protcli predict."""

from pathlib import Path
from typing import Annotated

import typer

from protcli.cli.options import Database, Device


def predict(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="FASTA, a3m or Clustal alignments, PSI-BLAST matrices, ProteinNet text, PDB or mmCIF.",
            metavar="FILE...",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Registered model: models:/NAME@champion or models:/NAME/NUMBER (default: protcli's own)."),
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="Use the best weights of this run instead.")] = None,
    sequence: Annotated[
        str | None, typer.Option(help="A sequence instead of files: one letter per residue; X for an unknown residue.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="Profile table [L, 21] as .npy or text; for several sequences, an .npz with one per name."),
    ] = None,
    database: Database = None,
    features: Annotated[
        Path | None,
        typer.Option(
            help="Features [L, D], for a model that reads them: .npy for one sequence; for several, .npz or "
            "safetensors with a table per name."
        ),
    ] = None,
    write: Annotated[
        str, typer.Option(help="What to write: npz, png, rr (contacts), pdb, cif, html.", metavar="KIND,KIND,...")
    ] = "npz,png",
    device: Device = "auto",
) -> None:
    """Predict the distance map of each chain and write it.

    An alignment or a matrix gives the profile, or relatives found in a --database; otherwise it is made from the
    sequence alone. A structure's true map is drawn beside the predicted one.
    """
    from protcli.experiments.predicting.predict import predict
    from protcli.tracking.bundle import SHIPPED

    alone = 0
    for prediction, (first, *others) in predict(
        out, model=model, run_id=run_id, inputs=inputs or (), sequence=sequence, profile=profile, database=database,
        features=features, write=write, device=device,
    ):  # fmt: skip
        names = " and ".join([str(first), *(path.name for path in others)])
        beyond, measured = "", prediction.model.longest_chain
        if len(prediction) > measured:
            beyond = f" (the model was measured on the first {measured} of each chain)"
        typer.echo(f"{prediction.id}, {len(prediction)} residue{'s' * (len(prediction) > 1)}{beyond}: {names}")
        alone += not prediction.chain.has_profile
    if alone:
        remedy = "" if database else "; an alignment, or sequences to search with --database FILE, would show these"
        typer.echo(f"From the sequence alone, without relatives: {alone:,} of them{remedy}.")
    if not (model or run_id):
        card = SHIPPED / "README.md"
        typer.echo(f"Model: {prediction.model.name}, {card.read_text('utf-8').splitlines()[0]} ({card})")
    if prediction.has_distribution:
        calibration = prediction.model.calibration
        typer.echo(f"Confidence: {calibration.about if calibration else 'not calibrated'}.")
