"""Predict the chains of files with a model, and write what was asked for."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from protcli.errors import ProtcliError, truncate
from protcli.experiments.config import best_model, recorded_config
from protcli.experiments.predicting.writers import WITH_COORDINATES, WITH_PROBABILITIES, WRITERS, find_writers
from protcli.proteins.formats.features import FeatureFiles
from protcli.proteins.formats.files import decode, read_blocks
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.formats.sequences import (
    A3M_SUFFIXES,
    CLUSTAL_SUFFIXES,
    PSSM_SUFFIXES,
    read_alignments,
    read_fasta,
    read_pssm,
    suffix_of,
)
from protcli.proteins.formats.structures import is_structure, read_structure
from protcli.proteins.homology import SequenceDatabase
from protcli.proteins.profiles import alignment_profile
from protcli.proteins.protein import Protein
from protcli.tracking.bundle import shipped_model
from protcli.tracking.registry import MODEL_URI, Registry
from protcli.tracking.run import find_run
from protcli.training.engine import find_device
from protcli.training.predictor import ChainPrediction, Predictor

LONGEST_NAME = 200  # characters in a file name without its extension: file systems allow 255, some fewer
SEQUENCE_ID = "sequence"  # the id of the sequence given with --sequence
KINDS = (
    "FASTA, an alignment (.a3m, .afa, .aln, .clustal, .sto), a PSI-BLAST matrix (.pssm), ProteinNet text, or a "
    "structure (.pdb, .cif)"
)


@dataclass(frozen=True, eq=False)
class Query:
    """One chain to predict.

    Attributes:
        id: its name.
        place: where it comes from, for messages.
        sequence: as in the file, unchecked.
        profile: float [L, 21], or None if there is none.
        known: the chain with its true structure, if the file holds one.
    """

    id: str
    place: str
    sequence: str
    profile: np.ndarray | None = None
    known: Protein | None = None


def load(address: str = "", device: str = "auto") -> Predictor:
    """Load a trained model.

    Args:
        address: `models:/NAME@ALIAS` or `models:/NAME/NUMBER` in the registry, or the id of a run, whose best weights
            are taken; empty for the model that comes with protcli.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: there is no such model or run, or its weights are gone or damaged.
    """
    if not address:
        saved = shipped_model()
    elif "/" in address or ":" in address:
        registry = Registry()
        saved = registry.load(registry.find(address))
    else:
        run = find_run(address)
        saved = best_model(recorded_config(run), run)
    return Predictor(saved, find_device(device))


def predict(
    out: Path,
    *,
    model: str | None = None,
    run_id: str | None = None,
    inputs: Sequence[Path] = (),
    sequence: str | None = None,
    profile: Path | None = None,
    database: Path | None = None,
    features: Path | None = None,
    write: str = "npz,png",
    device: str = "auto",
) -> Iterator[tuple[ChainPrediction, list[Path]]]:
    """Write the prediction for each chain, and yield it with its files; write none if any input is refused.

    The inputs are read twice, so that what is wrong is found before anything is written, and many chains take no more
    memory than a few.

    Args:
        out: folder, created if missing.
        model, run_id: the address of a registered version, or a run whose best weights are used; neither for the model
            that comes with protcli.
        inputs: files that hold sequences, see `read_queries`; or
        sequence: one sequence.
        profile: for one sequence, a table [L, 21] as .npy or text; for several, an .npz with a table per id. None
            takes those of the files, or makes them from the sequences alone.
        database: FASTA file in which relatives of the chains without a profile are searched, to make them one.
        features: for one sequence, a table [L, D] as .npy; for several, an .npz or safetensors file with a table per
            id, or a folder of files; for a model that reads features.
        write: kinds of files, see `writers.WRITERS`.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: no such model or run, a file that cannot be read, a chain that the model cannot use, a kind of
            file that it cannot fill, or a folder that cannot be written to.
    """
    if model is not None and run_id is not None:
        raise ProtcliError("give --model or --run-id, not both")
    if (sequence is None) == (not inputs):
        raise ProtcliError("give the proteins: files that hold them, or --sequence LETTERS, one of the two")
    if model is not None and not MODEL_URI.fullmatch(model):
        raise ProtcliError(f"--model {model} is not a model address: give models:/NAME@ALIAS or models:/NAME/NUMBER")
    kinds = find_writers(write)
    profiles = None if profile is None else _read_profiles(profile)
    relatives = None if database is None else SequenceDatabase.read(database)
    arrays = (
        None if features is None else _read_profiles(features) if features.suffix == ".npy" else FeatureFiles(features)
    )
    with_coordinates = not WITH_COORDINATES.isdisjoint(kinds)
    predictor = load(model or run_id or "", device)

    def chains() -> Iterator[Protein]:
        queries: Iterable[Query] = chain.from_iterable(map(read_queries, inputs))
        if sequence is not None:
            queries = [Query(SEQUENCE_ID, SEQUENCE_ID, sequence)]
        for number, query in enumerate(queries):
            given = query.profile if profiles is None else _table_of(query, number, profiles, profile)
            numbers = None if arrays is None else _table_of(query, number, arrays, features)
            found = predictor.chain(query.place, query.sequence, given, numbers)
            if with_coordinates and len(found) < 2:
                raise ProtcliError(f"{query.place} has one residue: coordinates need two")
            known = query.known or found
            yield replace(found, id=query.id, coords=known.coords, mask=known.mask)

    files = _file_names(found.id for found in chains())
    if with_coordinates:
        predictor.model.require_coordinates()
    queries = chains() if relatives is None else relatives.give_profiles(chains())
    try:
        for file, prediction in zip(files, predictor.predict_all(queries), strict=True):
            if WITH_PROBABILITIES & set(kinds) and not prediction.has_distribution:  # of the first, if of any
                raise ProtcliError(f"{predictor.model.name} predicts distances alone: --write rr needs probabilities")
            out.mkdir(parents=True, exist_ok=True)
            paths = [out / f"{file}.{kind}" for kind in kinds]
            for kind, path in zip(kinds, paths, strict=True):
                WRITERS[kind](path, prediction)
            yield prediction, paths
    except OSError as error:
        raise ProtcliError(f"{out} cannot be written to: {error.strerror}") from error


def _file_names(ids: Iterable[str]) -> list[str]:
    """A file name without extension for each chain, in characters that every system allows.

    Raises:
        ProtcliError: a name is too long, or two chains have one file.
    """
    files, owners = [], dict[str, str]()
    for name in ids:
        file = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"
        if len(file) > LONGEST_NAME:
            raise ProtcliError(f"the name {name[:20]}... has {len(file)} characters, its files allow {LONGEST_NAME}")
        if other := owners.get(file.casefold()):  # some systems do not tell capital letters from small ones
            raise ProtcliError(f"{other} and {name} would both be written to {file}.*: rename one of them")
        owners[file.casefold()] = name
        files.append(file)
    return files


def _read_profiles(path: Path) -> Any:
    """The table in a file, or those of an .npz by their names. Raises ProtcliError if it holds none."""
    try:
        if path.suffix in (".npz", ".npy"):
            found = np.load(path, allow_pickle=False)
            return dict(found) if path.suffix == ".npz" else found
        text = path.read_text("utf-8").replace(",", " ")
        if not text.strip():
            raise ValueError("it is empty")
        return np.loadtxt(text.splitlines(), ndmin=2)
    except OSError as error:
        raise ProtcliError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # NumPy raises a dozen kinds for a damaged file
        raise ProtcliError(f"{path} is not a table of numbers: {truncate(error, 200)}") from error


def _table_of(query: Query, number: int, tables: Any, path: Path | None) -> Any:
    """The table of a chain, the number-th from 0, among those of a file. Raises ProtcliError if it has none."""
    if isinstance(tables, FeatureFiles):
        return tables.read(query.id, len(query.sequence))
    if not isinstance(tables, dict):
        if number:
            raise ProtcliError(f"{path} holds one table, but there are more: give an .npz with a table per id")
        return tables
    if query.id not in tables:
        raise ProtcliError(f"{path} has no profile of {query.id}; it has {truncate(', '.join(tables), 200)}")
    return tables[query.id]


def read_queries(path: Path) -> Iterator[Query]:
    """Read the chains of a file in order, one at a time if the file holds many.

    The name decides what kind of file it is and, if it does not, the first character.

    Raises:
        ProtcliError: the file cannot be read, or is broken, or is of no such kind.
    """
    suffix = suffix_of(path)
    if is_structure(path):
        for protein in read_structure(path):
            yield Query(protein.id, f"{path}, chain {protein.id}", protein.sequence, known=protein)
    elif suffix in (*A3M_SUFFIXES, *CLUSTAL_SUFFIXES):
        for alignment in read_alignments(path):
            yield Query(alignment.id, f"{path}: {alignment.id}", alignment.sequence, alignment_profile(alignment.rows))
    elif suffix in PSSM_SUFFIXES:
        yield Query(path.stem, str(path), *read_pssm(path))
    else:
        begins = decode(next(read_blocks(path), b"")[:4096]).lstrip("\0 \n\t")[:1]
        if begins == ">":
            for record in read_fasta(path):
                yield Query(record.id, f"{path}, line {record.line}: {record.id}", record.sequence)
        elif begins == "[":
            for protein in read_proteinnet(path, queries=True):
                known = protein if protein.mask.any() else None
                yield Query(protein.id, f"{path}: {protein.id}", protein.sequence, protein.profile, known)
        else:
            fault = "is of no kind that holds a sequence" if begins else "is empty"
            raise ProtcliError(f"{path} {fault}: expected {KINDS}")
