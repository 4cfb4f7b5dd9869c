"""protcli predict."""

from pathlib import Path
from typing import Annotated

import typer


def predict(
    out: Annotated[Path, typer.Option(help="The folder to write to.")],
    model: Annotated[str | None, typer.Option(help="models:/NAME@champion, or models:/NAME/NUMBER.")] = None,
    run_id: Annotated[str | None, typer.Option(help="A run, whose best weights are meant, instead.")] = None,
    sequence: Annotated[str | None, typer.Option(help="One letter a residue; X for one that is not known.")] = None,
    fasta: Annotated[Path | None, typer.Option(help="A file of sequences, instead.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="A table [L, 21] as .npy or text; for several sequences an .npz with one by name."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
) -> None:
    """Predict the distance map of each sequence, and write it as NPZ and PNG.

    Without --profile, the profile is made of the sequence alone.
    """
    from protcli.experiments.predicting.predict import predict

    for written in predict(
        out, model=model, run_id=run_id, sequence=sequence, fasta=fasta, profile=profile, device=device
    ):
        typer.echo(f"{written.id}, {written.length} residues: {written.npz} and {written.png.name}")
