"""A trained model, from the registry or from a run, and what it predicts for one chain, as a value to ask."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from protcli.atomic import write_whole
from protcli.errors import ProtcliError
from protcli.experiments.config import best_model, recorded_config
from protcli.models.external import memory_as_user_error
from protcli.proteins.confidence import Calibration, deviation, expected_lddt, probability_below
from protcli.proteins.coordinates import Trace, predicted_trace
from protcli.proteins.formats.structures import cif_text, pdb_text
from protcli.proteins.protein import Protein
from protcli.tracking.registry import Registry
from protcli.tracking.run import find_run
from protcli.training.engine import find_device
from protcli.training.predictor import Predictor

REGISTERED = "models:/"  # begins the address of a registered version
NAME = "chain"  # of a sequence without a name
CERTAIN_HANDEDNESS = 0.5  # below, the choice between the mirror images is uncertain


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
        elif self.handedness < CERTAIN_HANDEDNESS:
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


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A trained model on a device.

    Attributes:
        name: its address in the registry, or the model's name.
        run_id: of the run that trained it.
        atom: that its distances are between.
    """

    name: str
    run_id: str
    atom: str
    _predictor: Predictor

    def predict(self, sequence: str, profile: Any = None, *, name: str = NAME) -> ChainPrediction:
        """Predict one chain.

        Args:
            sequence: one letter per residue; X is an unknown residue.
            profile: [L, 21] as in `Protein`; None makes it from the sequence alone.
            name: of the chain, in messages and files.

        Raises:
            ProtcliError: the model does not take the sequence or the profile, or there is too little memory.
        """
        (prediction,) = self.predict_all([self.chain(name, sequence, profile)])
        return prediction

    @property
    def measured_length(self) -> int:
        """Residues of each chain, from the first on, that it was measured on."""
        return self._predictor.longest_chain

    def chain(self, name: str, sequence: Any, profile: Any = None) -> Protein:
        """Check the input; see `Predictor.chain`."""
        return self._predictor.chain(name, sequence, profile)

    def predict_all(self, chains: Iterable[Protein]) -> Iterator[ChainPrediction]:
        """Predict chains in order, a batch at a time. Raises ProtcliError if there is too little memory."""
        with memory_as_user_error(self._predictor.spec, "free some, or choose another --device"):
            for found in self._predictor.maps(chains):
                yield ChainPrediction(
                    found.chain.id, found.chain.sequence, found.distance, found.probabilities, found.edges, self.atom,
                    self.name, self.run_id, self._predictor.calibration,
                )  # fmt: skip


def load(address: str, device: str = "auto") -> LoadedModel:
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
        version = registry.find(address)
        bundle = registry.load(version)
        predictor = Predictor(bundle.saved, bundle.longest_chain, find_device(device))
        return LoadedModel(version.uri, version.run_id, bundle.atom, predictor)
    if "/" in address or ":" in address:
        raise ProtcliError(f"{address} is neither models:/NAME@ALIAS nor models:/NAME/NUMBER nor the id of a run")
    run = find_run(address)
    config = recorded_config(run)
    predictor = Predictor(best_model(run, config), config.evaluated_length, find_device(device))
    return LoadedModel(config.spec.name, run.id, config.data.atom, predictor)
