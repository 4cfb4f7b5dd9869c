"""protcli predict."""

from pathlib import Path
from typing import Annotated

import typer

from protcli.cli.options import Device


def predict(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    model: Annotated[
        str | None, typer.Option(help="Registered model: models:/NAME@champion or models:/NAME/NUMBER.")
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="Use the best weights of this run instead.")] = None,
    sequence: Annotated[str | None, typer.Option(help="One letter per residue; X for an unknown residue.")] = None,
    fasta: Annotated[Path | None, typer.Option(help="FASTA file of sequences instead.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="Profile table [L, 21] as .npy or text; for several sequences, an .npz with one per name."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Predict the distance map of each sequence and write it as NPZ and PNG.

    Without --profile, the profile is built from the sequence alone.
    """
    from protcli.experiments.predicting.predict import predict

    for written in predict(
        out, model=model, run_id=run_id, sequence=sequence, fasta=fasta, profile=profile, device=device
    ):
        typer.echo(f"{written.id}, {written.length} residues: {written.npz} and {written.png.name}")
