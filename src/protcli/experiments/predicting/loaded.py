"""A trained model, ready to predict: from the registry or from a run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from protcli.errors import ProtcliError
from protcli.experiments.predicting.prediction import ChainPrediction
from protcli.experiments.runs.restored import best_model, recorded_config
from protcli.models.external import memory_as_user_error
from protcli.process import scratch_folder
from protcli.proteins.protein import Protein
from protcli.tracking.bundle import read_bundle
from protcli.tracking.registry import Registry
from protcli.tracking.run import find_run
from protcli.training.engine import find_device
from protcli.training.predictor import Predictor

REGISTERED = "models:/"  # begins the address of a registered version
NAME = "chain"  # of a sequence without a name


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
    with scratch_folder() as folder:
        if address.startswith(REGISTERED):
            registry = Registry()
            version = registry.find(address)
            bundle = read_bundle(registry.download(version, folder))
            predictor = Predictor(bundle.saved, bundle.longest_chain, find_device(device))
            return LoadedModel(version.uri, version.run_id, bundle.atom, predictor)
        if "/" in address or ":" in address:
            raise ProtcliError(f"{address} is neither models:/NAME@ALIAS nor models:/NAME/NUMBER nor the id of a run")
        run = find_run(address)
        config = recorded_config(run)
        predictor = Predictor(best_model(run, config), config.evaluated_length, find_device(device))
        return LoadedModel(config.spec.name, run.id, config.data.atom, predictor)
