"""Predict the chains of files with a registered model or a run's best weights, and write what was asked for."""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from protcli.errors import ProtcliError, truncate
from protcli.experiments.config import best_model, recorded_config
from protcli.experiments.predicting.writers import WITH_COORDINATES, WITH_PROBABILITIES, WRITERS, find_writers
from protcli.proteins.formats.files import read_blocks
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.formats.sequences import (
    A3M_SUFFIXES,
    CLUSTAL_SUFFIXES,
    PSSM_SUFFIXES,
    Alignment,
    read_a3m,
    read_clustal,
    read_fasta,
    read_pssm,
)
from protcli.proteins.formats.structures import is_structure, read_structure
from protcli.proteins.profiles import alignment_profile
from protcli.proteins.protein import Protein
from protcli.tracking.registry import Registry
from protcli.tracking.run import find_run
from protcli.training.engine import find_device
from protcli.training.predictor import ChainPrediction, Predictor

REGISTERED = "models:/"  # begins the address of a registered version
LONGEST_NAME = 200  # characters in a file name without its extension: file systems allow 255, some fewer
# what NumPy raises for a damaged file
NOT_A_TABLE = (
    *(ValueError, OverflowError, BadZipFile, EOFError, zlib.error, TokenError, SyntaxError, KeyError, RuntimeError),
    MemoryError,
)
SEQUENCE_ID = "sequence"  # the id of the sequence given with --sequence
KINDS = (
    "FASTA, an alignment (.a3m, .afa, .aln, .clustal), a PSI-BLAST matrix (.pssm), ProteinNet text, or a structure "
    "(.pdb, .cif)"
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


def load(address: str, device: str = "auto") -> Predictor:
    """Load a trained model.

    Args:
        address: `models:/NAME@ALIAS` or `models:/NAME/NUMBER` in the registry, or the id of a run, whose best weights
            are taken.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: there is no such model or run, or its weights are gone or damaged.
    """
    if address.startswith(REGISTERED):
        registry = Registry()
        return Predictor(registry.load(registry.find(address)), find_device(device))
    if "/" in address or ":" in address:
        raise ProtcliError(f"{address} is neither models:/NAME@ALIAS nor models:/NAME/NUMBER nor the id of a run")
    run = find_run(address)
    return Predictor(best_model(recorded_config(run), run), find_device(device))


def predict(
    out: Path,
    *,
    model: str | None = None,
    run_id: str | None = None,
    inputs: Sequence[Path] = (),
    sequence: str | None = None,
    profile: Path | None = None,
    write: str = "npz,png",
    device: str = "auto",
) -> Iterator[tuple[ChainPrediction, list[Path]]]:
    """Write the prediction for each chain, and yield it with its files; write none if any input is refused.

    The inputs are read twice, so that what is wrong is found before anything is written, and many chains take no more
    memory than a few.

    Args:
        out: folder, created if missing.
        model, run_id: the address of a registered version, or a run whose best weights are used; give one of the two.
        inputs: files that hold sequences, see `read_queries`; or
        sequence: one sequence.
        profile: for one sequence, a table [L, 21] as .npy or text; for several, an .npz with a table per id. None
            takes those of the files, or makes them from the sequences alone.
        write: kinds of files, see `writers.WRITERS`.
        device: see `training.engine.find_device`.

    Raises:
        ProtcliError: no such model or run, a file that cannot be read, a chain that the model cannot use, a kind of
            file that it cannot fill, or a folder that cannot be written to.
    """
    if (model is None) == (run_id is None):
        raise ProtcliError("give the model: --model models:/NAME@champion, or --run-id ID")
    if (sequence is None) == (not inputs):
        raise ProtcliError("give the proteins: files that hold them, or --sequence LETTERS")
    if model is not None and not model.startswith(REGISTERED):
        raise ProtcliError(f"--model {model} is not a model address: give models:/NAME@ALIAS or models:/NAME/NUMBER")
    kinds = find_writers(write)
    profiles = _read_profiles(profile) if profile is not None else {}
    with_coordinates = not WITH_COORDINATES.isdisjoint(kinds)
    predictor = load(str(model or run_id), device)

    def chains() -> Iterator[Protein]:
        for query in _with_profiles(_queries(inputs, sequence), profiles, profile):
            chain = predictor.chain(query.place, query.sequence, query.profile)
            if with_coordinates and len(chain) < 2:
                raise ProtcliError(f"{query.place} has one residue: coordinates need two")
            known = query.known or chain
            yield replace(chain, id=query.id, coords=known.coords, mask=known.mask)

    files: dict[str, str] = {}
    for chain in chains():
        _add_file(files, chain.id)
    if with_coordinates:
        predictor.model.require_coordinates()
    try:
        for file, prediction in zip(files, predictor.predict_all(chains()), strict=True):
            if WITH_PROBABILITIES & set(kinds) and not prediction.has_distribution:  # of the first, if of any
                raise ProtcliError(f"{predictor.model.name} predicts distances alone: --write rr needs probabilities")
            out.mkdir(parents=True, exist_ok=True)
            paths = [out / f"{file}.{kind}" for kind in kinds]
            for kind, path in zip(kinds, paths, strict=True):
                WRITERS[kind](path, prediction)
            yield prediction, paths
    except OSError as error:
        raise ProtcliError(f"{out} cannot be written to: {error.strerror}") from error


def _queries(inputs: Sequence[Path], sequence: str | None) -> Iterator[Query]:
    if sequence is not None:
        yield Query(SEQUENCE_ID, SEQUENCE_ID, sequence)
    for path in inputs:
        yield from read_queries(path)


def _with_profiles(queries: Iterator[Query], profiles: Mapping[str | None, Any], path: Path | None) -> Iterator[Query]:
    """The queries with the profiles of a file, if there is one. Raises ProtcliError if it lacks one."""
    for number, query in enumerate(queries):
        if not profiles:
            yield query
        elif None in profiles:
            if number:
                raise ProtcliError(
                    f"{path} is the profile of one sequence, but there are more: give an .npz with a table per id"
                )
            yield replace(query, profile=profiles[None])
        elif query.id in profiles:
            yield replace(query, profile=profiles[query.id])
        else:
            raise ProtcliError(
                f"{path} has no profile of {query.id}; it has {truncate(', '.join(map(str, profiles)), 200)}"
            )


def _add_file(files: dict[str, str], name: str) -> None:
    """Add a name under its file name without extension, in characters that every system allows.

    Raises:
        ProtcliError: the name is too long, or another name has the same file.
    """
    file = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"
    if len(file) > LONGEST_NAME:
        raise ProtcliError(f"the name {name[:20]}... has {len(file)} characters, its files allow {LONGEST_NAME}")
    if file.casefold() in {taken.casefold() for taken in files}:
        other = next(files[taken] for taken in files if taken.casefold() == file.casefold())
        raise ProtcliError(f"{other} and {name} would both be written to {file}.*: rename one of them")
    files[file] = name


def _read_profiles(path: Path) -> Mapping[str | None, Any]:
    """Profile tables by sequence id, or the only one, whatever the id, under None."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                tables: dict[str | None, Any] = {name: arrays[name] for name in arrays.files}
            if not tables:
                raise ProtcliError(f"{path} holds no profile")
            return tables
        if path.suffix == ".npy":
            return {None: np.load(path, allow_pickle=False)}
        text = path.read_text(encoding="utf-8").replace(",", " ")
        if not text.strip():
            raise ProtcliError(f"{path} is empty: give a table [L, 21] of numbers")
        return {None: np.loadtxt(text.splitlines(), ndmin=2)}
    except OSError as error:
        raise ProtcliError(f"cannot read {path}: {error.strerror or error}") from error
    except NOT_A_TABLE as error:
        reason = "it holds Python objects" if "pickle" in str(error) else truncate(error, 200)
        raise ProtcliError(f"{path} is not a table of numbers: {reason}") from error


def read_queries(path: Path) -> Iterator[Query]:
    """Read the chains of a file in order, one at a time if the file holds many.

    The name decides what kind of file it is and, if it does not, the first character.

    Raises:
        ProtcliError: the file cannot be read, or is broken, or is of no such kind.
    """
    yield from _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], Iterator[Query]]:
    """What reads a file of this kind."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if is_structure(path):
        return _of_structure
    for suffixes, read in READERS:
        if suffix in suffixes:
            return read
    begins = next(read_blocks(path), b"")[:4096].decode("utf-8-sig", "replace").lstrip()[:1]
    if not begins:
        raise ProtcliError(f"{path} is empty: expected {KINDS}")
    if begins not in (">", "["):
        raise ProtcliError(f"{path} is of no kind that holds a sequence: expected {KINDS}")
    return _of_fasta if begins == ">" else _of_proteinnet


def _of_structure(path: Path) -> Iterator[Query]:
    for protein in read_structure(path):
        yield Query(protein.id, f"{path}, chain {protein.id}", protein.sequence, None, protein)


def _of_alignment(path: Path, alignment: Alignment) -> Iterator[Query]:
    yield Query(alignment.id, f"{path}: {alignment.id}", alignment.sequence, alignment_profile(alignment.rows))


def _of_pssm(path: Path) -> Iterator[Query]:
    sequence, profile = read_pssm(path)
    yield Query(path.name.removesuffix(path.suffix), str(path), sequence, profile)


def _of_fasta(path: Path) -> Iterator[Query]:
    for record in read_fasta(path):
        yield Query(record.id, f"{path}, line {record.line}: {record.id}", record.sequence)


def _of_proteinnet(path: Path) -> Iterator[Query]:
    for protein in read_proteinnet(path):
        known = protein if protein.mask.any() else None
        yield Query(protein.id, f"{path}: {protein.id}", protein.sequence, protein.profile, known)


READERS: tuple[tuple[Sequence[str], Callable[[Path], Iterator[Query]]], ...] = (
    (A3M_SUFFIXES, lambda path: _of_alignment(path, read_a3m(path))),
    (CLUSTAL_SUFFIXES, lambda path: _of_alignment(path, read_clustal(path))),
    (PSSM_SUFFIXES, _of_pssm),
)  # by suffix
