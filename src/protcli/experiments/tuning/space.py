"""What is tuned, and between which bounds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import FiniteFloat

from protcli.errors import ProtcliError
from protcli.models.recipe import Recipe

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

    def check(self) -> None:
        """Raise ProtcliError for settings that describe no search."""
        if self.trials < 1:
            raise ProtcliError(f"trials is {self.trials}: give 1 or more")
        for name, bounds in (("lr", self.lr), ("steps", self.steps)):
            if bounds is not None and not 0 < bounds[0] <= bounds[1] < math.inf:
                raise ProtcliError(
                    f"{name} is {bounds[0]:g} to {bounds[1]:g}: give two numbers above 0, the lower first"
                )
        if not self.batch_size or min(self.batch_size) < 1 or len(set(self.batch_size)) < len(self.batch_size):
            raise ProtcliError(f"batch_size is {list(self.batch_size)}: give one or more different numbers from 1")
        if not 0 < self.held_out < 1:
            raise ProtcliError(f"held_out is {self.held_out:g}: give a share between 0 and 1")


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
        return (
            f"learning rate {shown_range(self.lr)}, batch size {', '.join(map(str, self.batch_size))}, which hold each "
            f"model's own; steps {shown_range(self.steps)}"
        )

    @classmethod
    def around(cls, tuning: Tuning, own: Sequence[Hyperparameters]) -> "Space":
        """One space for several models, so that each has the same choice: widened to hold all their own recipes.

        Steps that are given are not widened: they are what a user has time for.
        """
        steps = [each.steps for each in own]
        low, high = tuning.steps or (max(1, min(steps) // 2), 2 * max(steps))
        rates = [*tuning.lr, *(each.lr for each in own)]
        sizes = {*tuning.batch_size, *(each.batch_size for each in own)}
        return cls((min(rates), max(rates)), tuple(sorted(sizes)), (low, high))


def own_hyperparameters(recipe: Recipe, steps: int) -> Hyperparameters:
    """A model's own recipe as a trial."""
    return Hyperparameters(recipe.lr, recipe.batch_size, steps)


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


def shown_range(bounds: Iterable[float]) -> str:
    """`0.0001 to 0.1`, or one number where both are equal."""
    return " to ".join(dict.fromkeys(f"{bound:g}" for bound in bounds))
