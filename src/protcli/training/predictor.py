"""A trained network that answers for sequences as evaluation does: padded to one length, at its run's precision."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from protcli.errors import ProtcliError
from protcli.models.external import as_user_error
from protcli.proteins.batches import collate
from protcli.proteins.protein import ATOMS, Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN, sequence_profile
from protcli.training.engine import start_engine
from protcli.training.saved_model import SavedModel


class Predictor:
    """One model with its weights, ready on a device.

    Attributes:
        spec: the model as it was trained.
        longest_chain: residues of the longest chain that it takes; all are padded to that. A longer one is refused,
            never cut.
    """

    def __init__(self, saved: SavedModel, longest_chain: int, device: torch.device) -> None:
        """Raises ProtcliError where the weights are damaged or not this model's."""
        self.spec = saved.spec
        self.longest_chain = longest_chain
        fabric = start_engine(device, saved.precision)
        self._network = saved.network(fabric)
        self._device = fabric.device

    def chain(self, name: str, sequence: Any, profile: Any = None) -> Protein:
        """A sequence and, where there is one, its profile as a chain that this model takes.

        Args:
            name: what the sentences of errors begin with, and the chain's id.
            sequence: letters of AMINO_ACIDS, X for a residue that is not known.
            profile: numbers [L, 21], twenty columns in the order of AMINO_ACIDS, then information content in 0..1;
                None makes it of the sequence alone (`residues.sequence_profile`), as the import of structures does.

        Raises:
            ProtcliError: whatever of it the model cannot take, in one sentence.
        """
        if not isinstance(sequence, str) or not sequence:
            found = "empty" if isinstance(sequence, str) else f"{type(sequence).__name__}, not text"
            raise ProtcliError(f"{name}: the sequence is {found}: give one letter a residue, as in MKVLA")
        for position, letter in enumerate(sequence, start=1):
            if letter not in AMINO_ACIDS + UNKNOWN:
                remedy = f"write {UNKNOWN} for a residue that is not known"
                if letter.upper() in AMINO_ACIDS + UNKNOWN:
                    remedy = "write capitals"
                raise ProtcliError(
                    f"{name}: {letter!r} at position {position} is none of the amino acids {AMINO_ACIDS}: {remedy}"
                )
        if len(sequence) > self.longest_chain:
            raise ProtcliError(
                f"{name} has {len(sequence)} residues, {self.spec.name} as it was trained takes at most "
                f"{self.longest_chain}: give a part of the chain"
            )
        coords = np.full((len(sequence), 3, 3), np.nan, dtype=np.float32)
        rows = sequence_profile(sequence) if profile is None else _profile(name, profile, len(sequence))
        unresolved = np.zeros(len(sequence), dtype=bool)
        return Protein(name, sequence, rows, coords, unresolved, has_profile=profile is not None)

    @torch.inference_mode()
    def distances(self, chains: Sequence[Protein]) -> Iterator[np.ndarray]:
        """Predicted maps float32 [L, L] in angstrom, each of its chain's length, in order; a batch at a time.

        Raises:
            ProtcliError: a model of the user's own fails; the sentence gives its file and line.
        """
        size = self.spec.recipe.batch_size
        for first in range(0, len(chains), size):
            some = chains[first : first + size]
            # which atom is of no matter: models do not see coordinates
            residues = collate(some, atom=ATOMS[0], crop=self.longest_chain).residues.to(self._device)
            with as_user_error(self.spec):
                distance = self._network(residues).distance.float().cpu().numpy()  # [B, crop, crop]
            for chain, padded in zip(some, distance, strict=True):
                yield padded[: len(chain), : len(chain)].copy()


def _profile(name: str, profile: Any, length: int) -> np.ndarray:
    """float32 [L, 21]; raises ProtcliError where it is none."""
    try:
        rows = np.asarray(profile, dtype=np.float32)
    except (ValueError, TypeError):  # rows of several lengths, or text
        raise ProtcliError(
            f"{name}: the profile is no table of numbers: give {length} rows of {ALPHABET_SIZE}"
        ) from None
    if rows.shape != (length, ALPHABET_SIZE):
        shape = " x ".join(map(str, rows.shape)) or "a single number"
        raise ProtcliError(
            f"{name}: the profile is {shape}, a sequence of {length} residues needs {length} x {ALPHABET_SIZE}"
        )
    if not np.isfinite(rows).all():
        raise ProtcliError(f"{name}: the profile holds a value that is no finite number")
    return rows
