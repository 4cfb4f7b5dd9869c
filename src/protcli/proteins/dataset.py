"""The data of one run: which proteins, which atom, how many residues of each."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.protein import ATOMS
from protcli.proteins.store import TESTING, VALIDATION, Split, Store, open_store
from protcli.proteins.synthetic import sample_store

SAMPLE = "sample"  # names the built-in synthetic data set
_KEPT = {VALIDATION: "choosing between models", TESTING: "the final measurement"}  # what a split is not trained on for


@dataclass(frozen=True)
class Dataset:
    """Training and validation split of a store, and what of each protein is used.

    Attributes:
        store: where the splits come from; its test split is not touched here.
        train: proteins that models are trained on and baselines fitted to.
        valid: proteins that choose between models.
        atom: `ca` or `cb`, the atoms between which distances are taken.
        evaluated_length: of each chain so many residues, from the first, are looked at when a model is measured.
    """

    store: Store
    train: Split
    valid: Split
    atom: str
    evaluated_length: int

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that change with any protein of either split, the atom or the evaluated length."""
        identity = "\n".join((self.train.digest, self.valid.digest, self.atom, str(self.evaluated_length)))
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    def fitting(self, batch_size: int) -> ProteinBatches:
        """The training split in its stored order, each protein from its first residue: what a baseline is fitted to."""
        return self._evaluated(self.train, batch_size)

    def validation(self, batch_size: int) -> ProteinBatches:
        """The validation split in its stored order, each protein from its first residue."""
        return self._evaluated(self.valid, batch_size)

    def _evaluated(self, split: Split, batch_size: int) -> ProteinBatches:
        return ProteinBatches(proteins=split, atom=self.atom, batch_size=batch_size, crop=self.evaluated_length)


def find_store(source: str) -> Store:
    """The built-in sample for `sample`, else the store in that folder. Raises ProtcliError as `open_store` does."""
    return sample_store() if source == SAMPLE else open_store(Path(source))


def open_dataset(source: str, *, train_split: str | None, atom: str, evaluated_length: int) -> Dataset:
    """Open the data of a run.

    Args:
        source: `sample` or the folder of a store.
        train_split: its name; None takes the store's only split whose name begins with `training`.
        atom: `ca` or `cb`.
        evaluated_length: residues, at least 2.

    Raises:
        ProtcliError: no such store or split, several training splits to choose from, a training split that is kept for
            measuring, a split whose file is damaged, or one without that atom.
    """
    if atom not in ATOMS:
        raise ProtcliError(f"unknown atom {atom!r}: choose one of {', '.join(ATOMS)} with --atom")
    if evaluated_length < 2:
        raise ProtcliError(f"{evaluated_length} residues hold no pair: give --evaluate-length 2 or more")
    if train_split in _KEPT:
        raise ProtcliError(f"the split {train_split} is kept for {_KEPT[train_split]}: train on another split")
    store = find_store(source)
    if train_split is None:
        candidates = [name for name in store.splits if name.startswith("training")]
        if len(candidates) != 1:
            found = ", ".join(candidates) if candidates else f"none among {', '.join(store.splits)}"
            raise ProtcliError(f"{store.path} has no single training split ({found}): choose one with --train-split")
        train_split = candidates[0]
    train, valid = store.split(train_split), store.split(VALIDATION)
    for split in (train, valid):
        split.verify()
        require_atom(split, atom, store)
    return Dataset(store, train, valid, atom, evaluated_length)


def require_atom(split: Split, atom: str, store: Store) -> None:
    """Raise ProtcliError when no two residues of a chain have the atom (a C-alpha-only store has no C-beta)."""
    if not any(protein.resolved(atom).sum() > 1 for protein in split):
        raise ProtcliError(
            f"no two residues of a chain of {split.name} in {store.path} have the atom {atom}: "
            "choose another with --atom, or other data"
        )
