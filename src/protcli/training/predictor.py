"""A trained model that predicts for sequences as in evaluation: padded to one length, at its run's precision."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from protcli.atomic import write_whole
from protcli.errors import ProtcliError
from protcli.models.external import as_user_error, memory_as_user_error
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Residues, collate
from protcli.proteins.confidence import Calibration, deviation, expected_lddt, probability_below
from protcli.proteins.formats.features import check_features
from protcli.proteins.formats.files import check_profile
from protcli.proteins.protein import ATOMS, Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN, sequence_profile
from protcli.training.checkpoint import load_weights
from protcli.training.engine import start_engine

if TYPE_CHECKING:
    from protcli.proteins.coordinates import Trace

NAME = "chain"  # of a sequence without a name
CERTAIN_HANDEDNESS = 0.5  # below, the choice between the mirror images is uncertain
WHOLE = 1024  # residues, up to which a chain of any length is predicted at once
PART, OVERLAP = 256, 64  # residues of the parts of longer ones, and of what neighbours share at least


@dataclass(frozen=True)
class SavedModel:
    """A trained model, of a run or a registered version.

    Attributes:
        spec: the model as trained.
        weights: its safetensors files; of several networks it predicts the mean.
        precision: training precision, a name known to `training.engine`.
        longest_chain: residues of each chain, from the first on, that it was measured on.
        atom: `ca` or `cb`, the atoms that its distances are between.
        calibration: of its confidence; None if it has none.
        name: its address in the registry, or the model's name.
        run_id: of the run that trained it; empty if it came with protcli.
    """

    spec: ModelSpec
    weights: tuple[Path, ...]
    precision: str
    longest_chain: int
    atom: str = "ca"
    calibration: Calibration | None = None
    name: str = ""
    run_id: str = ""

    @property
    def origin(self) -> str:
        """Its name and run, for readers."""
        return f"{self.name} (run {self.run_id})" if self.run_id else self.name

    def network(self, fabric: Fabric) -> nn.Module:
        """Load the network, or the ensemble, in evaluation mode, on the device and at the precision of the engine.

        Raises:
            ProtcliError: the weights are damaged or do not fit the model, or a user's model does not build.
        """
        networks = []
        for weights in self.weights:
            with as_user_error(self.spec):
                network = self.spec.build()
            load_weights(network, weights)
            networks.append(network.to(memory_format=torch.channels_last))
        return fabric.setup(Ensemble(networks) if len(networks) > 1 else networks[0]).eval()

    def require_coordinates(self) -> None:
        """Raise ProtcliError if it does not predict distances that coordinates are made of."""
        if self.atom != "ca":
            raise ProtcliError(f"{self.name} predicts distances between {self.atom.upper()} atoms: coordinates need CA")


class Ensemble(nn.Module):
    """The mean of its members' predictions: of their distances, and of their probabilities if they have a distogram.

    Its squared error is never larger than the mean of theirs.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """The members are of one model, so that their distograms have the same bins."""
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, residues: Residues) -> Prediction:
        predictions = [member(residues) for member in self.members]
        distance = sum(each.distance.float() for each in predictions) / len(predictions)
        if predictions[0].logits is None:
            return Prediction(distance)
        logits = reduce(torch.logaddexp, (each.logits.float().log_softmax(dim=-1) for each in predictions))
        return Prediction(distance, logits, predictions[0].bins)


@dataclass(frozen=True, eq=False)
class ChainPrediction:
    """A predicted chain of L residues.

    Attributes:
        chain: the input, with the true structure if it is known.
        model: what predicted it.
        distance: float32 [L, L] in Å, symmetric.
        probabilities: float32 [L, L, K] of the model's distance bins; None if it predicts distances alone.
        edges: float32 [K + 1] of these bins in Å; None likewise.
    """

    chain: Protein
    model: SavedModel
    distance: np.ndarray
    probabilities: np.ndarray | None = None
    edges: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.chain)

    @property
    def id(self) -> str:
        """The name of the chain."""
        return self.chain.id

    @property
    def sequence(self) -> str:
        """A letter for each residue."""
        return self.chain.sequence

    @property
    def has_truth(self) -> bool:
        """Whether the true structure is known."""
        return bool(self.chain.mask.any())

    @property
    def has_distribution(self) -> bool:
        """Whether the model predicts a distribution over distances."""
        return self.probabilities is not None

    def contacts(self, cutoff: float = 8.0) -> np.ndarray:
        """The probability that each pair is nearer than `cutoff` in Å: float32 [L, L].

        Raises:
            ProtcliError: the model predicts distances alone.
        """
        probabilities, edges = self._distribution("contact probabilities")
        return probability_below(probabilities, edges, cutoff).astype(np.float32)

    @cached_property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each distance in Å: float32 [L, L]. Raises ProtcliError as `contacts` does."""
        return deviation(*self._distribution("expected errors")).astype(np.float32)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The lDDT to be expected at each residue, 0 to 1: float32 [L]. Raises ProtcliError as `contacts` does."""
        expected = expected_lddt(*self._distribution("a confidence"), self.distance)
        calibration = self.model.calibration
        return (expected if calibration is None else calibration(expected)).astype(np.float32)

    @cached_property
    def _trace(self) -> "Trace":
        from protcli.proteins.coordinates import trace  # SciPy would delay the start of a training

        self.model.require_coordinates()
        if len(self) < 2:
            raise ProtcliError(f"{self.id} has one residue: coordinates need two")
        return trace(self.distance, self.deviation if self.has_distribution else None)

    def coords(self) -> np.ndarray:
        """C-alpha atoms whose distances are near the predicted ones, in Å: float64 [L, 3]; see `proteins.coordinates`.

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
        """The deviation of each residue's distances, root mean square over the others, in Å: float [L].

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
            f"Predicted by {self.model.origin}: C-alpha atoms placed by predicted distances, "
            f"{self._trace.stress:.2f} A from them in the weighted mean; {hand}; {error}."
        )

    def to_pdb(self, path: str | Path) -> None:
        """Write the coordinates as a PDB file. Raises ProtcliError as `coords`, or if the file cannot be written."""
        from protcli.proteins.formats.structures import pdb_text

        write_whole(Path(path), pdb_text(self.sequence, self.coords(), self.residue_error, self.remark))

    def to_cif(self, path: str | Path) -> None:
        """Write the coordinates as an mmCIF file. Raises ProtcliError as `to_pdb` does."""
        from protcli.proteins.formats.structures import cif_text

        write_whole(Path(path), cif_text(self.id, self.sequence, self.coords(), self.residue_error, self.remark))

    def _distribution(self, what: str) -> tuple[np.ndarray, np.ndarray]:
        if self.probabilities is None or self.edges is None:
            raise ProtcliError(f"{self.model.name} predicts distances alone, without a distribution: it has no {what}")
        return self.probabilities, self.edges


class Predictor:
    """One model with its weights, loaded on a device.

    All chains are padded to its `longest_chain`; longer ones are rejected, never cropped. A model that takes chains of
    any length rejects none and pads none; those of more than WHOLE residues are put together from tiles.

    Attributes:
        model: the model as saved.
    """

    def __init__(self, model: SavedModel, device: torch.device) -> None:
        """Raises ProtcliError if the weights are damaged or do not fit the model."""
        self.model = model
        fabric = start_engine(device, model.precision)
        self._network = model.network(fabric)
        self._device = fabric.device

    def predict(self, sequence: str, profile: Any = None, *, features: Any = None, name: str = NAME) -> ChainPrediction:
        """Predict one chain.

        Args:
            sequence: one letter per residue; X is an unknown residue.
            profile: [L, 21] as in `Protein`; None makes it from the sequence alone.
            features: [L, D] as in `Protein`, if the model reads some.
            name: of the chain, in messages and files.

        Raises:
            ProtcliError: the model does not take the input, or there is too little memory.
        """
        (prediction,) = self.predict_all([self.chain(name, sequence, profile, features)])
        return prediction

    def chain(self, name: str, sequence: Any, profile: Any = None, features: Any = None) -> Protein:
        """Convert a sequence, and its profile and features if given, to a chain that this model accepts.

        Args:
            name: ID of the chain; also begins the error messages.
            sequence: letters of AMINO_ACIDS, X for an unknown residue.
            profile: numbers [L, 21], twenty columns in the order of AMINO_ACIDS, then information content in 0..1;
                None builds it from the sequence alone (`residues.sequence_profile`), as the import of structures does.
            features: numbers [L, D] with the model's D, if it reads any; else None.

        Raises:
            ProtcliError: the model cannot accept the input.
        """
        if not isinstance(sequence, str) or not sequence:
            problem = "empty" if isinstance(sequence, str) else f"{type(sequence).__name__}, not text"
            raise ProtcliError(f"{name}: the sequence is {problem}: give one letter per residue, as in MKVLA")
        if wrong := re.search(f"[^{AMINO_ACIDS}{UNKNOWN}]", sequence):
            if wrong[0].upper() in AMINO_ACIDS + UNKNOWN:
                remedy = "use capital letters"
            elif wrong[0].isalpha():
                remedy = f"write {UNKNOWN} for an unknown residue"
            else:
                remedy = (
                    "leave out gaps and stops, give each chain a record of its own, or an alignment as .a3m or .afa"
                )
            raise ProtcliError(
                f"{name}: {wrong[0]!r} at position {wrong.end()} is not one of the amino acids {AMINO_ACIDS}: {remedy}"
            )
        spec, longest = self.model.spec, self.model.longest_chain
        if len(sequence) > longest and not spec.takes_any_length:
            raise ProtcliError(
                f"{name} has {len(sequence)} residues, but this {spec.name} model accepts at most {longest}: "
                "shorten the chain"
            )
        coords = np.full((len(sequence), 3, 3), np.nan, dtype=np.float32)
        rows = sequence_profile(sequence) if profile is None else _profile(name, profile, len(sequence))
        unresolved = np.zeros(len(sequence), dtype=bool)
        if (features is not None) != bool(spec.features):
            wanted = (
                f"reads {spec.features:,} features of each residue: give"
                if spec.features
                else "reads no features: leave out"
            )
            raise ProtcliError(
                f"{name}: this {spec.name} model {wanted} --features, numbers as those it was trained with"
            )
        try:
            given = check_features(features, len(sequence), spec.features) if spec.features else None
        except ValueError as error:
            raise ProtcliError(f"{name}: {error}") from None
        return Protein(name, sequence, rows, coords, unresolved, has_profile=profile is not None, features=given)

    def predict_all(self, chains: Iterable[Protein], *, probabilities: bool = True) -> Iterator[ChainPrediction]:
        """Predict chains in order, a batch at a time: no more of them are in memory than one batch has.

        Args:
            chains: as `chain` makes them.
            probabilities: whether those of a distogram are wanted: they take K times the memory of the distances.

        Raises:
            ProtcliError: there is too little memory, or a user's model fails; the message gives its file and line.
        """
        spec, waiting = self.model.spec, iter(chains)
        with memory_as_user_error(spec, "free some, or choose another --device"):
            while batch := list(islice(waiting, 1 if spec.takes_any_length else spec.recipe.batch_size)):
                length = len(batch[0]) if spec.takes_any_length else self.model.longest_chain
                if length > WHOLE and spec.takes_any_length:
                    yield self._tiled(batch[0], probabilities)
                else:
                    yield from self._predict(batch, length, probabilities)

    @torch.inference_mode()
    def _predict(
        self, batch: list[Protein], length: int, with_probabilities: bool, index: np.ndarray | None = None
    ) -> list[ChainPrediction]:
        """Maps of chains padded to a length; `index` [L] is where the residues are in a longer chain, if they are."""
        # the choice of atom does not matter: models do not see coordinates
        residues = collate(batch, atom=ATOMS[0], crop=length).residues
        if index is not None:
            residues = replace(residues, index=torch.from_numpy(index)[None])
        with as_user_error(self.model.spec):
            prediction = self._network(residues.to(self._device))
        distance = prediction.distance.float().cpu().numpy()  # [B, length, length]
        edges = None if prediction.bins is None else prediction.bins.float().cpu().numpy()
        found = []
        for place, chain in enumerate(batch):
            own = place, slice(len(chain)), slice(len(chain))
            probabilities = None
            if prediction.logits is not None and with_probabilities:
                probabilities = prediction.logits[own].float().softmax(dim=-1).cpu().numpy()
            found.append(ChainPrediction(chain, self.model, distance[own].copy(), probabilities, edges))
        return found

    def _tiled(self, chain: Protein, with_probabilities: bool) -> ChainPrediction:
        """A long chain's map from tiles: every two of its parts are predicted alone, with means where tiles overlap."""
        length = len(chain)
        starts = [*range(0, length - PART, PART - OVERLAP), length - PART]
        total: Any = None
        count = np.zeros((length, length, 1), dtype=np.float32)
        for first, second in combinations(starts, 2):
            index = np.union1d(np.arange(first, first + PART), np.arange(second, second + PART))
            part = replace(
                chain, sequence="".join(np.array(list(chain.sequence))[index]), profile=chain.profile[index],
                coords=chain.coords[index], mask=chain.mask[index],
                features=None if chain.features is None else chain.features[index],
            )  # fmt: skip
            (tile,) = self._predict([part], len(index), with_probabilities, index)
            values = np.dstack([each for each in (tile.distance, tile.probabilities) if each is not None])
            if total is None:
                total = np.zeros((length, length, values.shape[-1]), dtype=np.float32)
            where = np.ix_(index, index)
            total[where] += values
            count[where] += 1
        mean = total / count
        probabilities = None if tile.probabilities is None else mean[..., 1:]
        return replace(tile, chain=chain, distance=mean[..., 0], probabilities=probabilities)


def _profile(name: str, profile: Any, length: int) -> np.ndarray:
    """The profile as float32 [L, 21]; raises ProtcliError if it is not one."""
    try:
        rows = np.asarray(profile, dtype=np.float32)
    except (ValueError, TypeError):  # rows of several lengths, or text
        raise ProtcliError(
            f"{name}: the profile is not a table of numbers: give {length} rows of {ALPHABET_SIZE}"
        ) from None
    if rows.shape != (length, ALPHABET_SIZE):
        shape = " x ".join(map(str, rows.shape)) or "a single number"
        raise ProtcliError(
            f"{name}: the profile is {shape}, but a sequence of {length} residues needs {length} x {ALPHABET_SIZE}"
        )
    try:
        check_profile(rows)
    except ValueError as error:
        raise ProtcliError(f"{name}: {error}") from None
    return rows
