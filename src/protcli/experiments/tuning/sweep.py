"""A sweep: one model, its search space, and the configuration of each of its trials."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.running.steps import total_steps, with_steps
from protcli.experiments.tuning.space import Hyperparameters, Space, Tuning, own_hyperparameters
from protcli.proteins.dataset import Dataset, open_dataset
from protcli.training.engine import LARGEST_SEED


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Attributes:
    name: of the sweep; its MLflow experiment is `sweep-NAME`.
    model: the name under which the model is compared.
    config: its own recipe on the whole training split, with the digest of that data.
    whole, reduced: the data without and with families held out of the training split.
    own: its own recipe, which is the first trial.
    space: of the search, the same for all models of a sweep.
    trials: how many are counted, finished or pruned.
    seed: of the sampler.
    """

    name: str
    model: str
    config: RunConfig
    whole: Dataset
    reduced: Dataset
    held_out: float
    own: Hyperparameters
    space: Space
    trials: int
    seed: int = 0

    @property
    def experiment(self) -> str:
        """Name of its MLflow experiment."""
        return f"sweep-{self.name}"

    @cached_property
    def identity(self) -> str:
        """32 hexadecimal digits that change with whatever decides its trials, except their number."""
        trial = self.config.with_settings(held_out=self.held_out, digest=self.reduced.digest)
        search = asdict(self.space), asdict(self.own), self.seed
        parts = (self.name, self.model, trial.identity, self.config.data.digest, search)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]

    def trial(self, chosen: Hyperparameters, number: int) -> RunConfig:
        """The training of a trial, measured on the families held out. Its number is its seed, for every model."""
        config = self.config.with_settings(
            lr=chosen.lr, batch_size=chosen.batch_size, held_out=self.held_out, digest=self.reduced.digest, seed=number
        )
        return with_steps(config, self.reduced, chosen.steps)

    def refit(self, chosen: Hyperparameters, seed: int = 0) -> RunConfig:
        """The training with the same recipe on the whole training split, measured on the validation split."""
        config = self.config.with_settings(lr=chosen.lr, batch_size=chosen.batch_size, seed=seed)
        return with_steps(config, self.whole, chosen.steps)

    def steps_of(self, trial: RunConfig) -> int:
        """Optimiser steps that a trial makes: whole epochs, so at least as many as were chosen."""
        return total_steps(trial, self.reduced)


def make_sweeps(
    name: str, models: Sequence[tuple[str, RunConfig]], tuning: Tuning, *, steps: int | None = None, seed: int = 0
) -> list[Sweep]:
    """The sweeps of some models, in one search space; models that are fitted in one pass have none.

    Args:
        name: of the sweep.
        models: names and own recipes.
        steps: of every trial; None lets steps be searched as `tuning` says.
        seed: of the sampler; models with the same seed are tried with the same first, random trials.

    Raises:
        ProtcliError: the settings describe no search, nothing can be tuned, or the data cannot be opened.
    """
    tuning.check()
    if not 0 <= seed <= LARGEST_SEED:
        raise ProtcliError(f"--seed is {seed}: give a number from 0 to {LARGEST_SEED}")
    opened: dict[int, tuple[Dataset, Dataset]] = {}
    prepared = []
    for model, config in models:
        if config.spec.is_fitted:
            continue
        length = config.evaluated_length
        if length not in opened:
            whole, reduced = (
                open_dataset(
                    config.data.source, train_split=config.data.train_split, atom=config.data.atom,
                    evaluated_length=length, held_out=share,
                )
                for share in (0.0, tuning.held_out)
            )  # fmt: skip
            opened[length] = whole, reduced
        whole, _ = opened[length]
        config = config.with_settings(train_split=whole.train.name, digest=whole.digest)
        own_steps = steps or total_steps(config, whole)
        if tuning.steps is not None:
            own_steps = min(max(own_steps, tuning.steps[0]), tuning.steps[1])
        prepared.append((model, config, own_hyperparameters(config.spec.recipe, own_steps)))
    if not prepared:
        raise ProtcliError(
            f"{', '.join(model for model, _ in models)}: fitted in one pass, so there is nothing to tune"
        )
    given = tuning if steps is None else replace(tuning, steps=(steps, steps))
    space = Space.around(given, [own for _, _, own in prepared])
    return [
        Sweep(
            name=name, model=model, config=config, whole=opened[config.evaluated_length][0],
            reduced=opened[config.evaluated_length][1], held_out=tuning.held_out, own=own, space=space,
            trials=tuning.trials, seed=seed,
        )
        for model, config, own in prepared
    ]  # fmt: skip
