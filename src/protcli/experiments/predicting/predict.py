"""Predict distance maps from sequences, with a registered model or a run's best weights."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from protcli.atomic import atomic_write
from protcli.errors import ProtcliError
from protcli.experiments.runs.restored import best_model, recorded_config
from protcli.figures.maps import draw_map
from protcli.models.external import memory_as_user_error
from protcli.proteins.formats.fasta import read_fasta
from protcli.proteins.protein import Protein
from protcli.tracking.bundle import read_bundle
from protcli.tracking.registry import Registry
from protcli.tracking.runs import find_run
from protcli.training.engine import find_device
from protcli.training.predictor import Predictor

LONGEST_NAME = 200  # characters in a file name without its extension: file systems allow 255, some fewer
SEQUENCE_ID = "sequence"  # the id of the sequence given with --sequence


@dataclass(frozen=True)
class PredictedMap:
    """One map on disk.

    Attributes:
        id: of the sequence.
        length: in residues.
        npz: file with `distance` float32 [L, L] in A, `sequence`, `id`, `model` and `run`.
        png: picture of the map.
    """

    id: str
    length: int
    npz: Path
    png: Path


def predict(
    out: Path,
    *,
    model: str | None = None,
    run_id: str | None = None,
    sequence: str | None = None,
    fasta: Path | None = None,
    profile: Path | None = None,
    device: str = "auto",
) -> Iterator[PredictedMap]:
    """Write each sequence's predicted map as NPZ and PNG, and yield it; write none if any input is refused.

    Args:
        out: folder, created if missing.
        model, run_id: the address of a registered version, or a run whose best weights are used; give one of the two.
        sequence, fasta: one sequence, or a file of several; give one of the two.
        profile: for one sequence, a table [L, 21] as .npy or text; for several, an .npz with a table per id. None
            makes profiles from the sequences alone.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: no such model or run, a sequence or profile that the model cannot use, or a folder that cannot be
            written to.
    """
    if (model is None) == (run_id is None):
        raise ProtcliError("give the model: --model models:/NAME@champion, or --run-id ID")
    if (sequence is None) == (fasta is None):
        raise ProtcliError("give the protein: --sequence LETTERS, or --fasta FILE")
    if fasta is not None:
        entries = read_fasta(fasta)
        records = [(entry.id, f"{fasta}, line {entry.line}: {entry.id}", entry.sequence) for entry in entries]
    else:
        records = [(SEQUENCE_ID, SEQUENCE_ID, sequence or "")]
    files = _files([name for name, _, _ in records])
    profiles = _read_profiles(profile, [name for name, _, _ in records]) if profile is not None else {}
    predictor, model_name, run_id = _open(model, run_id, device)
    chains = [predictor.chain(place, letters, profiles.get(name)) for name, place, letters in records]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with memory_as_user_error(predictor.spec, "free some, or choose another --device"):
            maps = predictor.distances(chains)
            for file, (name, _, _), chain, distance in zip(files, records, chains, maps, strict=True):
                yield _write(out / file, name, chain, distance, model_name, run_id)
    except OSError as error:
        raise ProtcliError(f"{out} cannot be written to: {error.strerror}") from error


def _open(model: str | None, run_id: str | None, device: str) -> tuple[Predictor, str, str]:
    """The model, its name and its run."""
    with tempfile.TemporaryDirectory(prefix="protcli-") as scratch:
        folder = Path(scratch)
        if model is not None:
            registry = Registry()
            version = registry.find(model)
            bundle = read_bundle(registry.download(version, folder))
            predictor = Predictor(bundle.saved, bundle.longest_chain, find_device(device))
            return predictor, version.uri, version.run_id
        assert run_id is not None
        run = find_run(run_id)
        config = recorded_config(run, folder)
        predictor = Predictor(best_model(run, config, folder), config.evaluated_length, find_device(device))
        return predictor, config.spec.name, run.id


def _files(names: list[str]) -> list[str]:
    """File names without extension, in characters that every system allows. Raises ProtcliError if two coincide."""
    files: dict[str, str] = {}
    for name in names:
        file = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"
        if len(file) > LONGEST_NAME:
            raise ProtcliError(f"the name {name[:20]}... has {len(file)} characters, its files allow {LONGEST_NAME}")
        if other := next((taken for taken in files if taken.casefold() == file.casefold()), None):
            raise ProtcliError(f"{files[other]} and {name} would both be written to {file}.npz: rename one of them")
        files[file] = name
    return list(files)


def _read_profiles(path: Path, names: list[str]) -> Mapping[str, Any]:
    """Profile tables by sequence id."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                tables = {name: arrays[name] for name in arrays.files}
            if missing := [name for name in names if name not in tables]:
                raise ProtcliError(f"{path} has no profile of {missing[0]}; it has {', '.join(tables) or 'none'}")
            return tables
        if len(names) > 1:
            raise ProtcliError(
                f"{path} is the profile of one sequence, but there are {len(names)}: give an .npz with a table per id"
            )
        if path.suffix == ".npy":
            return {names[0]: np.load(path, allow_pickle=False)}
        text = path.read_text(encoding="utf-8").replace(",", " ")
        if not text.strip():
            raise ProtcliError(f"{path} is empty: give a table [L, 21] of numbers")
        return {names[0]: np.loadtxt(text.splitlines(), ndmin=2)}
    except OSError as error:
        raise ProtcliError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, BadZipFile, EOFError) as error:
        raise ProtcliError(f"{path} is not a table of numbers: {' '.join(str(error).split())}") from error


def _write(stem: Path, name: str, chain: Protein, distance: np.ndarray, model: str, run_id: str) -> PredictedMap:
    npz, png = (stem.with_name(f"{stem.name}.{kind}") for kind in ("npz", "png"))
    with atomic_write(npz) as partial, partial.open("wb") as file:
        np.savez_compressed(file, distance=distance, sequence=chain.sequence, id=name, model=model, run=run_id)
    with atomic_write(png) as partial:
        draw_map(partial, distance, title=f"{name}, {len(chain)} residues, predicted by {model}")
    return PredictedMap(name, len(chain), npz, png)
