"""A table with one row per protein, which reproduces every pooled figure bit for bit."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from protcli.atomic import atomic_write
from protcli.proteins.metrics import PairErrors
from protcli.proteins.subset import Proteins


def write_protein_table(
    path: Path,
    split: Proteins,
    errors: PairErrors,
    sepmean: PairErrors,
    atom: str,
    further: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a CSV with one row per protein, in the order of the split; its sums give all pooled errors bit for bit.

    Lengths and resolved residues are counted over the whole chain, everything else over its evaluated residues, in A
    and A^2. A field is empty if a protein lacks the quantity, such as mean errors without a resolved pair.

    Args:
        path: of the file.
        split: the proteins.
        errors, sepmean: errors of the model and of the baseline, on all of them.
        atom: the atom that distances are measured between.
        further: additional columns [N] by heading.
    """
    columns = {
        "pairs": errors.count,
        "squared": errors.squared,
        "absolute": errors.absolute,
        "mse": errors.protein_mse,
        "rmse": errors.protein_mse**0.5,
        "mae": errors.protein_mae,
        "sepmean_squared": sepmean.squared,
        "sepmean_absolute": sepmean.absolute,
        "sepmean_mse": sepmean.protein_mse,
        **(further or {}),
    }
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "class", "family", "length", "resolved", *columns])
        for protein, *figures in zip(split, *(column.tolist() for column in columns.values()), strict=True):
            rows.writerow(
                [protein.id, protein.category, protein.family, len(protein), int(protein.resolved(atom).sum())]
                + [figure if np.isfinite(figure) else "" for figure in figures]
            )


def proteins_by_class(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The rows of each of ProteinNet's classes, such as `10#` and `FM#`: bool [N]; none if they have no class."""
    category = table["class"].to_numpy()
    classes = sorted(set(category) - {""}, key=lambda name: (not name.isdigit(), name))
    return {f"{name}#": category == name for name in classes}


def read_table(path: Path) -> pd.DataFrame:
    """Read a table back: floats bit for bit (pandas' parser has not always done so), NaN for an empty field."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for heading in table.columns.difference(["id", "class", "family"]):
        whole = table[heading].str.fullmatch(r"\d+").all()
        table[heading] = table[heading].replace("", "nan").astype(int if whole else float)
    return table
