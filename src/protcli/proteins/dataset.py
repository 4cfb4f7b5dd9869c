"""The data of one run: proteins, atom and number of residues evaluated."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from protcli.errors import ProtcliError, choose
from protcli.proteins import SAMPLE
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.protein import ATOMS
from protcli.proteins.store import TESTING, VALIDATION, Store, open_store
from protcli.proteins.subset import Proteins, hold_out, join, parts_of
from protcli.proteins.synthetic import sample_store

_RESERVED = {VALIDATION: "choosing between models", TESTING: "the final measurement"}  # splits not to train on


@dataclass(frozen=True)
class Dataset:
    """What a model is trained and validated on, and the part of each protein that is used.

    Attributes:
        store: store of the splits; its test split is not used here.
        train: proteins for training models and fitting baselines.
        valid: proteins for choosing between models: the validation split, or families held out of the training split.
        atom: `ca` or `cb`, the atoms that distances are measured between.
        evaluated_length: number of residues, from the first, evaluated in each chain.
        features: numbers from elsewhere of each residue; 0 if they are not read.
    """

    store: Store
    train: Proteins
    valid: Proteins
    atom: str
    evaluated_length: int
    features: int = 0

    @property
    def digest(self) -> str:
        """32 hexadecimal digits that change with any protein of both, the atom or the evaluated length."""
        identity = "\n".join((self.train.digest, self.valid.digest, self.atom, str(self.evaluated_length)))
        return hashlib.sha256(identity.encode()).hexdigest()[:32]

    def fitting(self, batch_size: int) -> ProteinBatches:
        """The training proteins for fitting baselines: in stored order, each protein from its first residue."""
        return ProteinBatches(proteins=self.train, atom=self.atom, batch_size=batch_size, crop=self.evaluated_length)

    def validation(self, batch_size: int) -> ProteinBatches:
        """The validation proteins in stored order, each protein from its first residue."""
        return replace(self.fitting(batch_size), proteins=self.valid)


def find_store(source: str) -> Store:
    """The built-in sample for `sample`, else the store in that folder. Raises ProtcliError as `open_store` does."""
    return sample_store() if source == SAMPLE else open_store(Path(source))


def find_validation(store: Store, train_split: str | None, held_out: float) -> Proteins:
    """The proteins that a run is validated on; arguments and errors as for `open_dataset`. No other split is opened."""
    return hold_out(_training_split(store, train_split), held_out)[1] if held_out else store.split(VALIDATION)


def open_dataset(
    source: str, *, train_split: str | None, atom: str, evaluated_length: int, held_out: float = 0.0, features: int = 0
) -> Dataset:
    """Open the data of a run.

    Args:
        source: `sample` or the folder of a store.
        train_split: name of the split, or of several with commas between; None takes the store's only split whose name
            begins with `training`.
        atom: `ca` or `cb`.
        evaluated_length: residues, at least 2.
        held_out: share of the training proteins to hold out, by whole families, for validation. The validation split is
            then not opened. 0 holds out none.
        features: see `require_features`.

    Raises:
        ProtcliError: the store or split does not exist, a split is named twice, none is named but there are several,
            one is reserved for evaluation, a file is damaged, the atom is missing, no families can be held out, or as
            `require_features` does.
    """
    choose("atom", atom, ATOMS)
    if evaluated_length < 2:
        raise ProtcliError(f"{evaluated_length} residues contain no pair: give --evaluate-length 2 or more")
    if not 0 <= held_out < 1:
        raise ProtcliError(f"--held-out is {held_out}: give 0 or more, and less than 1")
    store = find_store(source)
    whole = _training_split(store, train_split)
    train, valid = hold_out(whole, held_out) if held_out else (whole, store.split(VALIDATION))
    for proteins in (train, valid):
        proteins.verify()
        require_atom(proteins, atom, store)
        features = require_features(proteins, features, store)
    return Dataset(store, train, valid, atom, evaluated_length, features)


def _training_split(store: Store, given: str | None) -> Proteins:
    """The proteins of the splits named, else of the store's only training split."""
    names = [name for name in store.splits if name.startswith("training")] if given is None else given.split(",")
    if given is None and len(names) != 1:
        available = ", ".join(names) or f"none among {', '.join(store.splits)}"
        raise ProtcliError(
            f"{store.path} does not have exactly one training split ({available}): choose one with --train-split"
        )
    for name in names:
        if name in _RESERVED:
            raise ProtcliError(f"split {name} is reserved for {_RESERVED[name]}: train on another split")
        if names.count(name) > 1:
            raise ProtcliError(f"--train-split {given} names {name} twice")
    return join([store.split(name) for name in names])


def require_atom(split: Proteins, atom: str, store: Store) -> None:
    """Raise ProtcliError if no chain has two residues with the atom (a C-alpha-only store has no C-beta)."""
    if not any(protein.resolved(atom).sum() > 1 for protein in split):
        raise ProtcliError(
            f"no chain of {split.name} in {store.path} has two residues with the atom {atom}: "
            "choose another with --atom, or use other data"
        )


def require_features(proteins: Proteins, wanted: int, store: Store) -> int:
    """The number of features of each residue; the proteins are read without any if none are wanted.

    Args:
        proteins, store: they, and where they are from.
        wanted: features that a model reads; True for any number of them.

    Raises:
        ProtcliError: the proteins have none, or another number.
    """
    for split in parts_of(proteins)[0]:
        if not wanted:
            split.features = 0
        elif not split.features:
            raise ProtcliError(
                f"{split.name} in {store.path} has no features: give it some with `protcli data features`, or use a "
                "model without --set features"
            )
        elif wanted is not True and wanted != split.features:
            raise ProtcliError(
                f"{split.name} in {store.path} has {split.features:,} features for each residue, but {wanted:,} are "
                "read: use data with features of the same kind"
            )
        wanted = split.features
    return wanted
