"""A trained network that predicts for sequences as in evaluation: padded to one length, at its run's precision."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from protcli.errors import ProtcliError
from protcli.models.external import as_user_error
from protcli.models.spec import ModelSpec, Prediction
from protcli.proteins.batches import Residues, collate
from protcli.proteins.confidence import Calibration
from protcli.proteins.formats.files import check_profile
from protcli.proteins.protein import ATOMS, Protein
from protcli.proteins.residues import ALPHABET_SIZE, AMINO_ACIDS, UNKNOWN, sequence_profile
from protcli.training.checkpoint import load_weights
from protcli.training.engine import start_engine

WHOLE = 1024  # residues, up to which a chain of any length is predicted at once
PART, OVERLAP = 256, 64  # residues of the parts of longer ones, and of what neighbours share at least


@dataclass(frozen=True)
class SavedModel:
    """Attributes:
    spec: the model as trained.
    weights: its safetensors file.
    precision: training precision, a name known to `training.engine`.
    calibration: of its confidence; None if it has none.
    others: weights of further networks of the same model, whose mean it predicts with them.
    """

    spec: ModelSpec
    weights: Path
    precision: str
    calibration: Calibration | None = None
    others: tuple[Path, ...] = ()

    def network(self, fabric: Fabric) -> nn.Module:
        """Load the network, or the ensemble, in evaluation mode, on the device and at the precision of the engine.

        Raises:
            ProtcliError: the weights are damaged or do not fit the model, or a user's model does not build.
        """
        networks = []
        for weights in (self.weights, *self.others):
            with as_user_error(self.spec):
                network = self.spec.build()
            load_weights(network, weights)
            networks.append(network.to(memory_format=torch.channels_last))
        return fabric.setup(Ensemble(networks) if self.others else networks[0]).eval()


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
class PredictedMap:
    """One chain's map.

    Attributes:
        chain: the input.
        distance: float32 [L, L] in A.
        probabilities: float32 [L, L, K], of the bins of a distogram; None if the model predicts distances alone.
        edges: float32 [K + 1], of the bins in A; None likewise.
    """

    chain: Protein
    distance: np.ndarray
    probabilities: np.ndarray | None = None
    edges: np.ndarray | None = None


class Predictor:
    """One model with its weights, loaded on a device.

    Attributes:
        spec: the model as trained.
        longest_chain: length of the longest chain it accepts, in residues; all chains are padded to it. Longer chains
            are rejected, never cropped. A model that takes chains of any length rejects none and pads none; those of
            more than WHOLE residues are put together from tiles.
        calibration: of its confidence; None if it has none.
    """

    def __init__(self, saved: SavedModel, longest_chain: int, device: torch.device) -> None:
        """Raises ProtcliError if the weights are damaged or do not fit the model."""
        self.spec = saved.spec
        self.longest_chain = longest_chain
        self.calibration = saved.calibration
        fabric = start_engine(device, saved.precision)
        self._network = saved.network(fabric)
        self._device = fabric.device

    def chain(self, name: str, sequence: Any, profile: Any = None) -> Protein:
        """Convert a sequence, and its profile if given, to a chain that this model accepts.

        Args:
            name: ID of the chain; also begins the error messages.
            sequence: letters of AMINO_ACIDS, X for an unknown residue.
            profile: numbers [L, 21], twenty columns in the order of AMINO_ACIDS, then information content in 0..1;
                None builds it from the sequence alone (`residues.sequence_profile`), as the import of structures does.

        Raises:
            ProtcliError: the model cannot accept the input.
        """
        if not isinstance(sequence, str) or not sequence:
            problem = "empty" if isinstance(sequence, str) else f"{type(sequence).__name__}, not text"
            raise ProtcliError(f"{name}: the sequence is {problem}: give one letter per residue, as in MKVLA")
        for position, letter in enumerate(sequence, start=1):
            if letter not in AMINO_ACIDS + UNKNOWN:
                remedy = f"write {UNKNOWN} for an unknown residue"
                if letter.upper() in AMINO_ACIDS + UNKNOWN:
                    remedy = "use capital letters"
                raise ProtcliError(
                    f"{name}: {letter!r} at position {position} is not one of the amino acids {AMINO_ACIDS}: {remedy}"
                )
        if len(sequence) > self.longest_chain and not self.spec.takes_any_length:
            raise ProtcliError(
                f"{name} has {len(sequence)} residues, but this {self.spec.name} model accepts at most "
                f"{self.longest_chain}: shorten the chain"
            )
        coords = np.full((len(sequence), 3, 3), np.nan, dtype=np.float32)
        rows = sequence_profile(sequence) if profile is None else _profile(name, profile, len(sequence))
        unresolved = np.zeros(len(sequence), dtype=bool)
        return Protein(name, sequence, rows, coords, unresolved, has_profile=profile is not None)

    def maps(self, chains: Iterable[Protein], *, probabilities: bool = True) -> Iterator[PredictedMap]:
        """Predict the maps in order, a batch at a time: no more chains are in memory than one batch has.

        Args:
            chains: as `chain` makes them.
            probabilities: whether those of a distogram are wanted: they take K times the memory of the distances.

        Raises:
            ProtcliError: a user's model fails; the message gives its file and line.
        """
        if not self.spec.takes_any_length:
            waiting = iter(chains)
            while batch := list(islice(waiting, self.spec.recipe.batch_size)):
                yield from self._predict(batch, self.longest_chain, probabilities)
            return
        for chain in chains:
            if len(chain) > WHOLE:
                yield self._tiled(chain, probabilities)
            else:
                yield from self._predict([chain], len(chain), probabilities)

    @torch.inference_mode()
    def _predict(
        self, batch: list[Protein], length: int, with_probabilities: bool, index: np.ndarray | None = None
    ) -> list[PredictedMap]:
        """Maps of chains padded to a length; `index` [L] is where the residues are in a longer chain, if they are."""
        # the choice of atom does not matter: models do not see coordinates
        residues = collate(batch, atom=ATOMS[0], crop=length).residues
        if index is not None:
            residues = replace(residues, index=torch.from_numpy(index)[None])
        with as_user_error(self.spec):
            prediction = self._network(residues.to(self._device))
        distance = prediction.distance.float().cpu().numpy()  # [B, length, length]
        edges = None if prediction.bins is None else prediction.bins.float().cpu().numpy()
        found = []
        for place, chain in enumerate(batch):
            own = place, slice(len(chain)), slice(len(chain))
            probabilities = None
            if prediction.logits is not None and with_probabilities:
                probabilities = prediction.logits[own].float().softmax(dim=-1).cpu().numpy()
            found.append(PredictedMap(chain, distance[own].copy(), probabilities, edges))
        return found

    def _tiled(self, chain: Protein, with_probabilities: bool) -> PredictedMap:
        """A long chain's map from tiles: every two of its parts are predicted alone, with means where tiles overlap."""
        length = len(chain)
        starts = [*range(0, length - PART, PART - OVERLAP), length - PART]
        total: Any = None
        count = np.zeros((length, length, 1), dtype=np.float32)
        for first, second in combinations(starts, 2):
            index = np.union1d(np.arange(first, first + PART), np.arange(second, second + PART))
            tile = self._predict([_part(chain, index)], len(index), with_probabilities, index)[0]
            values = np.dstack([each for each in (tile.distance, tile.probabilities) if each is not None])
            if total is None:
                total = np.zeros((length, length, values.shape[-1]), dtype=np.float32)
            where = np.ix_(index, index)
            total[where] += values
            count[where] += 1
        mean = total / count
        return PredictedMap(chain, mean[..., 0], None if tile.probabilities is None else mean[..., 1:], tile.edges)


def _part(chain: Protein, index: np.ndarray) -> Protein:
    """Some of a chain's residues."""
    letters = "".join(chain.sequence[place] for place in index)
    return replace(
        chain, sequence=letters, profile=chain.profile[index], coords=chain.coords[index], mask=chain.mask[index]
    )


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
