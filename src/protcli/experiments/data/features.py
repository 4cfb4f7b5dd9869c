"""Give the chains of a store numbers for each residue that were made elsewhere, as embeddings of a language model."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from protcli.errors import ProtcliError, truncate
from protcli.experiments.data.rewrite import rewrite
from protcli.experiments.pages import Progress
from protcli.proteins.formats.features import FeatureFiles
from protcli.proteins.protein import Protein
from protcli.proteins.store import open_store


def add_features(path: str | Path, files: Sequence[Path], out: str | Path) -> Generator[Progress]:
    """Write a new store in which all chains of a store have features, yielding progress; see `rewrite`.

    Files may hold arrays of other chains too: a note in the new store counts them.

    Raises:
        ProtcliError: as `FeatureFiles` and `rewrite` do; chains have none, or one has another number of features.
    """
    arrays, store = FeatureFiles(*files), open_store(path)
    ids = dict.fromkeys(id for name in store.splits for id in store.split(name).ids)
    if missing := [id for id in ids if arrays.name_of(id) is None]:
        raise ProtcliError(
            f"{arrays.source} has no array of {len(missing):,} of the {len(ids):,} chains of {path}, the first of them "
            f"{truncate(missing[0])}: give one for each, by its id"
        )
    others = len(arrays) - len(set(map(arrays.name_of, ids)))

    def change(proteins: Iterable[Protein]) -> Iterator[Protein]:
        for protein in proteins:
            yield replace(protein, features=arrays.read(protein.id, len(protein)))

    yield from rewrite(path, out, change, f"features from {arrays.source}, which has {others:,} of other chains")
