"""What is tuned, and between which bounds; the configuration of each trial of a sweep."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import FiniteFloat

from protcli.errors import ProtcliError, check_name
from protcli.experiments.config import RunConfig, RunOptions
from protcli.experiments.train import total_steps, with_steps
from protcli.models.recipe import check_ranges
from protcli.proteins.dataset import Dataset, open_dataset

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How recipes are tuned; a suite file's `tuning` section.

    Attributes:
        trials: of each model.
        lr: lowest and highest learning rate, searched on a logarithmic scale.
        batch_size: choices, in proteins.
        steps: fewest and most optimiser steps, searched on a logarithmic scale. None takes half of the fewest to twice
            the most that the models' own recipes make.
        held_out: share of the training split whose families are held out to measure the trials.
    """

    trials: int = 20
    lr: tuple[FiniteFloat, FiniteFloat] = (1e-4, 1e-1)
    batch_size: tuple[int, ...] = (4, 8, 16)
    steps: tuple[int, int] | None = None
    held_out: FiniteFloat = 0.15

    def contradictions(self) -> Iterator[str]:
        """Why the settings describe no search, a clause each."""
        if self.trials < 1:
            yield f"trials is {self.trials}: give 1 or more"
        for name, bounds in (("lr", self.lr), ("steps", self.steps)):
            if bounds and not 0 < bounds[0] <= bounds[1] < math.inf:
                yield f"{name} is {bounds[0]:g} to {bounds[1]:g}: give two numbers above 0, the lower first"
        if not self.batch_size or min(self.batch_size) < 1 or len(set(self.batch_size)) < len(self.batch_size):
            yield f"batch_size is {list(self.batch_size)}: give one or more different numbers from 1"
        if not 0 < self.held_out < 1:
            yield f"held_out is {self.held_out:g}: give a share between 0 and 1"


@dataclass(frozen=True)
class Hyperparameters:
    """What one trial tries: learning rate, proteins per batch, and optimiser steps (at least)."""

    lr: float
    batch_size: int
    steps: int


@dataclass(frozen=True)
class Space:
    """Bounds of a search, inclusive; steps are fixed where both are equal.

    They hold every model's own learning rate and batch size.
    """

    lr: tuple[float, float]
    batch_size: tuple[int, ...]
    steps: tuple[int, int]

    @property
    def sentence(self) -> str:
        """The bounds, in words."""
        sizes = ", ".join(map(str, self.batch_size))
        return (
            f"learning rate {range_words(self.lr)}, batch size {sizes} (both wide enough for each model's own), "
            f"steps {range_words(self.steps)}"
        )

    @classmethod
    def around(cls, tuning: Tuning, recipes: Sequence[Hyperparameters]) -> "Space":
        """One space for several models, so that each has the same choice: widened to hold all their own recipes.

        Steps that are given are not widened: they are what a user has time for.
        """
        steps = [recipe.steps for recipe in recipes]
        rates = [*tuning.lr, *(recipe.lr for recipe in recipes)]
        sizes = {*tuning.batch_size, *(recipe.batch_size for recipe in recipes)}
        bounds = tuning.steps or (max(1, min(steps) // 2), 2 * max(steps))
        return cls((min(rates), max(rates)), tuple(sorted(sizes)), bounds)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The same for Optuna, by name."""
        return {
            "lr": FloatDistribution(*self.lr, log=True),
            "batch_size": CategoricalDistribution(self.batch_size),
            "steps": IntDistribution(*self.steps, log=True),
        }


def parse_range(option: str, text: str, kind: type[Number]) -> tuple[Number, Number]:
    """`1e-4:1e-1` as two numbers. Raises ProtcliError, naming the option, for anything else."""
    low, colon, high = text.partition(":")
    try:
        return kind(low), kind(high if colon else low)
    except ValueError:
        example = "1e-4:1e-1" if kind is float else "250:1000"
        raise ProtcliError(f"{option} {text}: expected two numbers such as {example}, or one") from None


def parse_choices(option: str, text: str) -> tuple[int, ...]:
    """`4,8,16` as whole numbers. Raises ProtcliError, naming the option, for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ProtcliError(f"{option} {text}: expected whole numbers such as 4,8,16") from None


def range_words(bounds: Iterable[float]) -> str:
    """`0.0001 to 0.1`, or one number where both are equal."""
    return " to ".join(dict.fromkeys(f"{bound:g}" for bound in bounds))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A model's search: its space, and the configuration of each of its trials.

    Attributes:
        name: of the sweep; its MLflow experiment is `sweep-NAME`.
        model: the name under which the model is compared.
        config: its own recipe on the whole training split, with the digest of that data.
        whole, reduced: the data without and with families held out of the training split.
        own_recipe: the model's, which is the first trial.
        space: of the search, the same for all models of a sweep.
        tuning: how many trials, and the share held out.
        seed: of the sampler.
    """

    name: str
    model: str
    config: RunConfig
    whole: Dataset
    reduced: Dataset
    own_recipe: Hyperparameters
    space: Space
    tuning: Tuning
    seed: int = 0

    @cached_property
    def identity(self) -> str:
        """32 hexadecimal digits that change with whatever decides its trials, except their number."""
        trial = self.config.with_settings(held_out=self.tuning.held_out, digest=self.reduced.digest)
        search = asdict(self.space), asdict(self.own_recipe), self.seed
        parts = (self.name, self.model, trial.identity, self.config.data.digest, search)
        return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]

    def trial(self, values: Hyperparameters, number: int) -> RunConfig:
        """The training of a trial, measured on the families held out. Its number is its seed, for every model."""
        return self._training(values, self.reduced, self.tuning.held_out, number)

    def refit(self, values: Hyperparameters, seed: int = 0) -> RunConfig:
        """The training with the same recipe on the whole training split, measured on the validation split."""
        return self._training(values, self.whole, 0.0, seed)

    def _training(self, values: Hyperparameters, data: Dataset, held_out: float, seed: int) -> RunConfig:
        config = self.config.with_settings(
            lr=values.lr, batch_size=values.batch_size, held_out=held_out, digest=data.digest, seed=seed
        )
        return with_steps(config, data, values.steps)


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
    check_name("--name", name)
    for clause in tuning.contradictions():
        raise ProtcliError(clause)
    check_ranges(RunOptions(seed=seed))
    opened = cache(open_dataset)  # once, though many models share it
    prepared: list[dict[str, Any]] = []
    for model, config in models:
        if config.spec.is_fitted:
            continue
        config = config.with_absolute_source()
        whole, reduced = (
            opened(
                config.data.source, train_split=config.data.train_split, atom=config.data.atom,
                evaluated_length=config.evaluated_length, held_out=held_out,
            )
            for held_out in (0.0, tuning.held_out)
        )  # fmt: skip
        config = config.with_settings(train_split=whole.train.name, digest=whole.digest)
        recipe = config.spec.recipe
        own_steps = steps or total_steps(config, whole)
        if tuning.steps:
            own_steps = min(max(own_steps, tuning.steps[0]), tuning.steps[1])
        own = Hyperparameters(recipe.lr, recipe.batch_size, own_steps)
        prepared.append({"model": model, "config": config, "whole": whole, "reduced": reduced, "own_recipe": own})
    if not prepared:
        names = ", ".join(model for model, _ in models)
        raise ProtcliError(f"{names}: fitted in one pass, so there is nothing to tune")
    bounds = replace(tuning, steps=(steps, steps)) if steps else tuning
    space = Space.around(bounds, [sweep["own_recipe"] for sweep in prepared])
    return [Sweep(name=name, space=space, tuning=tuning, seed=seed, **sweep) for sweep in prepared]
