"""Optimiser steps of a training: batches per epoch, and the epochs that hold a number of steps."""

from protcli.experiments.config import RunConfig
from protcli.proteins.batches import ProteinBatches
from protcli.proteins.dataset import Dataset
from protcli.proteins.subset import Proteins, take_share
from protcli.training.process_group import ProcessGroup


def trained_on(config: RunConfig, data: Dataset) -> Proteins:
    """The training proteins that a run uses: all, or its recipe's share."""
    return take_share(data.train, config.spec.recipe.train_share, config.run.seed)


def training_batches(config: RunConfig, data: Dataset, group: ProcessGroup | None = None) -> ProteinBatches:
    """What a model is trained on by its recipe, or a process's share; order and crops follow from the seed."""
    recipe, group = config.spec.recipe, group or ProcessGroup()
    return ProteinBatches(
        proteins=trained_on(config, data), atom=data.atom, batch_size=recipe.batch_size, crop=recipe.crop,
        padded_lengths=recipe.padded_lengths, seed=config.run.seed, random_crop=recipe.random_crop,
        rank=group.rank, ranks=group.size,
    )  # fmt: skip


def steps_per_epoch(config: RunConfig, data: Dataset) -> int:
    """Optimiser steps of one pass over the training split."""
    return -(-len(training_batches(config, data)) // config.spec.recipe.accumulate)


def total_steps(config: RunConfig, data: Dataset) -> int:
    """Optimiser steps of the whole training; 0 for a model that is fitted in one pass."""
    return 0 if config.spec.is_fitted else steps_per_epoch(config, data) * config.spec.recipe.epochs


def with_steps(config: RunConfig, data: Dataset, steps: int) -> RunConfig:
    """The same run with the fewest epochs that hold that many optimiser steps; a fitted model stays as it is."""
    return config if config.spec.is_fitted else config.with_settings(epochs=-(-steps // steps_per_epoch(config, data)))
