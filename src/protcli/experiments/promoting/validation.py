"""What runs score on their validation proteins, each read or measured once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from protcli.experiments.evaluate import validation_of
from protcli.experiments.scores import Scores, epochs_of
from protcli.experiments.statistics.epochs import at_chosen_epoch
from protcli.proteins.metrics import PairErrors
from protcli.tracking.run import Run


@dataclass(frozen=True)
class Validation:
    """What runs score on their validation proteins; each is read, or measured, once.

    Attributes:
        keep: whether new measurements are stored with their runs.
    """

    keep: bool
    _known: dict[str, Scores] = field(default_factory=dict)
    _at_chosen_epoch: dict[str, PairErrors] = field(default_factory=dict)

    def of(self, run: Run) -> Scores:
        """The score of a run's best weights. Raises ProtcliError as `validation_of` does."""
        if run.id not in self._known:
            self._known[run.id] = validation_of(run, keep=self.keep)
        return self._known[run.id]

    def errors(self, runs: Sequence[Run]) -> list[PairErrors]:
        """The errors of a configuration's runs, each at an epoch that other proteins chose; see `at_chosen_epoch`.

        Where all proteins are of one family, they are those of the best weights: no interval is claimed for them.
        """
        families = self.of(runs[0]).proteins["family"].to_numpy()
        if len(set(families[self.of(runs[0]).errors.count > 0])) < 2:
            return [self.of(run).errors for run in runs]
        for run in runs:
            if run.id not in self._at_chosen_epoch:
                self._at_chosen_epoch[run.id] = at_chosen_epoch(epochs_of(run), families)
        return [self._at_chosen_epoch[run.id] for run in runs]
