"""What a model predicts for one chain, as a value that a user can ask."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from protcli.atomic import write_whole
from protcli.errors import ProtcliError
from protcli.proteins.confidence import Calibration, deviation, expected_lddt, probability_below
from protcli.proteins.coordinates import Trace, predicted_trace
from protcli.proteins.formats.structures import cif_text, pdb_text

SURE = 0.5  # of the handedness: below, the choice between the mirror images is uncertain


@dataclass(frozen=True, eq=False)
class ChainPrediction:
    """A predicted chain of L residues.

    Attributes:
        id, sequence: of the chain.
        distance: float32 [L, L] in A, symmetric.
        probabilities: float32 [L, L, K] of the model's distance bins; None if it predicts distances alone.
        edges: float32 [K + 1] of these bins in A; None likewise.
        atom: `ca` or `cb`, the atoms that distances are between.
        model, run: what predicted it: the model's name or address, and the run that trained it.
        calibration: of the confidence; None leaves it as the distributions say.
    """

    id: str
    sequence: str
    distance: np.ndarray
    probabilities: np.ndarray | None
    edges: np.ndarray | None
    atom: str
    model: str
    run: str
    calibration: Calibration | None = None

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def has_distribution(self) -> bool:
        """Whether the model predicts a distribution over distances."""
        return self.probabilities is not None

    def contacts(self, cutoff: float = 8.0) -> np.ndarray:
        """The probability that each pair is nearer than `cutoff` in A: float32 [L, L].

        Raises:
            ProtcliError: the model predicts distances alone.
        """
        probabilities, edges = self._distribution("contact probabilities")
        return probability_below(probabilities, edges, cutoff).astype(np.float32)

    @cached_property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each distance in A: float32 [L, L]. Raises ProtcliError as `contacts` does."""
        return deviation(*self._distribution("expected errors")).astype(np.float32)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The lDDT to be expected at each residue, 0 to 1: float32 [L]. Raises ProtcliError as `contacts` does."""
        expected = expected_lddt(*self._distribution("a confidence"), self.distance)
        return (expected if self.calibration is None else self.calibration(expected)).astype(np.float32)

    @cached_property
    def _trace(self) -> Trace:
        if self.atom != "ca":
            raise ProtcliError(
                f"{self.model} predicts distances between {self.atom.upper()} atoms: coordinates need CA"
            )
        if len(self) < 2:
            raise ProtcliError(f"{self.id} has one residue: coordinates need two")
        return predicted_trace(self.distance, self.deviation if self.has_distribution else None)

    def coords(self) -> np.ndarray:
        """C-alpha atoms whose distances are near the predicted ones, in A: float64 [L, 3]; see `proteins.coordinates`.

        Raises:
            ProtcliError: there is one residue only, or the distances are between other atoms.
        """
        return self._trace.coords

    @property
    def handedness(self) -> float:
        """How sure the hand is: right-handed helical turns less left-handed ones, per turn; NaN without any."""
        return self._trace.handedness

    @property
    def residue_error(self) -> np.ndarray:
        """The deviation of each residue's distances, root mean square over the others, in A: float [L].

        NaN if the model predicts distances alone.
        """
        if not self.has_distribution:
            return np.full(len(self), np.nan)
        return np.sqrt((self.deviation**2).sum(axis=1) / max(len(self) - 1, 1))

    @property
    def remark(self) -> str:
        """What a reader of the coordinates must know."""
        hand = f"{50 * (1 + self.handedness):.0f} % of the helical turns are right-handed"
        if np.isnan(self.handedness):
            hand = "the hand is a guess: there is no helix to tell it by"
        elif self.handedness < SURE:
            hand = f"the hand is uncertain: {hand}"
        error = "the B factor is the expected error in A" if self.has_distribution else "no expected errors"
        return (
            f"Predicted by {self.model} (run {self.run}): C-alpha atoms placed by predicted distances, "
            f"{self._trace.stress:.2f} A from them in the weighted mean; {hand}; {error}."
        )

    def to_pdb(self, path: str | Path) -> None:
        """Write the coordinates as a PDB file. Raises ProtcliError as `coords`, or if the file cannot be written."""
        write_whole(Path(path), pdb_text(self.sequence, self.coords(), self.residue_error, self.remark))

    def to_cif(self, path: str | Path) -> None:
        """Write the coordinates as an mmCIF file. Raises ProtcliError as `to_pdb` does."""
        write_whole(Path(path), cif_text(self.id, self.sequence, self.coords(), self.residue_error, self.remark))

    def _distribution(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        if self.probabilities is None or self.edges is None:
            raise ProtcliError(f"{self.model} predicts distances alone, without a distribution: it has no {what}")
        return self.probabilities, self.edges
