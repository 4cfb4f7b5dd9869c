"""The weights of a configuration that are registered: its best seed's, or those of all its seeds as an ensemble."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig, best_model, ensemble_model, recorded_config
from protcli.experiments.evaluate import measure
from protcli.experiments.promoting.candidates import Candidate, best_mse
from protcli.experiments.promoting.validation import Validation
from protcli.experiments.scores import Scores
from protcli.proteins.confidence import Calibration
from protcli.proteins.metrics import PairErrors
from protcli.tracking.keys import Param
from protcli.tracking.run import Run, find_run
from protcli.training.predictor import SavedModel


@dataclass(frozen=True, eq=False)
class Served:
    """What a version of a configuration predicts with.

    Attributes:
        candidate: the configuration.
        members: the runs whose mean it predicts; none if it has the weights of the best seed.
        validation: the scores of runs.
    """

    candidate: Candidate
    members: tuple[Run, ...]
    validation: Validation

    @classmethod
    def of(cls, candidate: Candidate, validation: Validation, *, ensemble: bool) -> "Served":
        """Raises ProtcliError if an ensemble is asked for and fewer than two seeds did not collapse."""
        if ensemble and len(candidate.trained) < 2:
            raise ProtcliError(
                f"--ensemble needs two seeds or more, but the best configuration, {candidate.label}, has "
                f"{candidate.seeds}: train more seeds, or leave it out"
            )
        return cls(candidate, candidate.trained if ensemble else (), validation)

    @property
    def members_tag(self) -> str:
        """The ids of the members, the best first, with commas between."""
        return ",".join(run.id for run in self.members)

    @cached_property
    def _ensemble(self) -> Scores:
        """What the ensemble scores on validation."""
        best = self.candidate.best
        config = recorded_config(best)
        return measure(best, config, "valid", saved=ensemble_model(self.members, config))

    @property
    def errors(self) -> PairErrors:
        """Its errors on the validation proteins. Raises ProtcliError as `measure` does."""
        return self._ensemble.errors if self.members else self.validation.of(self.candidate.best).errors

    @property
    def metrics(self) -> Mapping[str, float]:
        """Its metrics on validation, by name."""
        return self._ensemble.logged if self.members else find_run(self.candidate.best.id).metrics  # read again

    def model(self, config: RunConfig) -> SavedModel:
        """Its weights, with the calibration of their confidence."""
        if not self.members:
            return best_model(self.candidate.best, config)
        groups = self._ensemble.reliability  # of an ensemble, so it is not calibrated
        calibration = None if groups is None else Calibration.fit(groups)
        return replace(ensemble_model(self.members, config), calibration=calibration)

    @property
    def sentence(self) -> str:
        """Which weights these are, and why."""
        best = self.candidate
        if best.is_fitted:
            return "Its weights are the mean distances themselves, which have no seed."
        if self.members:
            seeds = ", ".join(run.params[Param.SEED] for run in self.members)
            return (
                f"It predicts the mean of its seeds {seeds}, with a validation MSE of {self.errors.mse:.3f} Å²: the "
                "mean of predictions never has a larger MSE than they have on average."
            )
        seed, mse = best.best.params[Param.SEED], best_mse(best.best)
        if len(best.runs) == 1:
            return f"Its weights are those of its only seed, {seed}, with a validation MSE of {mse:.3f} Å²."
        return (
            f"Its weights are those of seed {seed}, whose validation MSE, {mse:.3f} Å², is the lowest of its "
            f"{len(best.runs)} seeds; --ensemble would serve the mean of all."
        )
