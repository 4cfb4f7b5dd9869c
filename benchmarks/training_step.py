"""A training step of a model on made-up proteins: bare, and as the training loop does it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from protcli.models.zoo import find_model
from protcli.proteins.batches import Batch, ProteinBatches
from protcli.proteins.maps import distances, upper_pairs
from protcli.proteins.protein import Protein
from protcli.proteins.residues import AMINO_ACIDS
from protcli.training.engine import start_engine
from protcli.training.loop import Epoch, Step, fit
from protcli.training.losses import find_loss
from protcli.training.optimizers import make_optimizer, make_schedule
from protcli.training.state import TrainState

LR = 1e-5


def made_up(count: int, length: int) -> list[Protein]:
    """Random walks with random profiles; one residue in twenty is not resolved."""
    rng = np.random.default_rng(0)
    proteins = []
    for number in range(count):
        coords = rng.normal(size=(length, 3, 3)).astype(np.float32).cumsum(axis=0) * 2
        sequence = "".join(rng.choice(list(AMINO_ACIDS), length))
        profile = rng.random((length, 21)).astype(np.float32)
        proteins.append(Protein(str(number), sequence, profile, coords, rng.random(length) < 0.95))
    return proteins


def batches_of(proteins: list[Protein], size: int, length: int) -> ProteinBatches:
    """As the training loop reads them: in random order, with random crops."""
    return ProteinBatches(proteins=proteins, atom="ca", batch_size=size, crop=length, seed=0, random_crop=True)


def make_network(name: str) -> nn.Module:
    """A model with its initial weights, as `protcli train` builds it."""
    torch.manual_seed(0)
    network = find_model(name).build().to(memory_format=torch.channels_last)
    if hasattr(network, "prepare"):
        network.prepare(made_up(8, 128), "ca")  # type: ignore[operator]
    return network


@dataclass(frozen=True)
class Case:
    """A batch that is ready on the device.

    Attributes:
        batch: the proteins.
        true, pairs: distances [B, L, L] in A, and those that count.
    """

    batch: Batch
    true: Tensor
    pairs: Tensor


def make_case(size: int, length: int, device: str) -> Case:
    """So many made-up proteins of one length."""
    (batch,) = batches_of(made_up(size, length), size, length).epoch()
    batch = batch.to(device)
    return Case(batch, distances(batch.coords), upper_pairs(batch.mask))


def bare_step(network: nn.Module, case: Case, precision: str = "32", loss_name: str = "mse") -> Callable[[], None]:
    """Forward, loss, backward and Adam at each call, of plain torch."""
    device = case.true.device
    start_engine(device, precision)
    network = network.to(device)
    optimizer, loss = make_optimizer("adam", network.parameters(), LR), find_loss(loss_name)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            prediction = network(case.batch.residues)
        total, weight = loss(prediction, case.true, case.pairs)
        (total / weight).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class Repeated:
    """`Batches` of one epoch that lasts: the same batches again and again."""

    def __init__(self, batches: list[Batch], times: int) -> None:
        self._batches, self._times = batches, times

    def length(self, number: int = 1) -> int:
        return len(self._batches) * self._times

    def epoch(self, number: int = 1, first: int = 0, step: int = 1) -> Iterator[Batch]:
        for _ in range(self._times):
            yield from self._batches


def loop(
    network: nn.Module,
    train: ProteinBatches | Repeated,
    device: str,
    *,
    precision: str = "32",
    accumulate: int = 1,
    epochs: int = 1,
    loss_name: str = "mse",
) -> Iterator[Step | Epoch]:
    """`training.loop.fit`, as `protcli train` runs it, without a run; validated on the first training protein."""
    fabric = start_engine(torch.device(device), precision)
    model, optimizer = fabric.setup(network, make_optimizer("adam", network.parameters(), LR))
    state = TrainState(model, optimizer, make_schedule("cosine", optimizer, train.length() * epochs))
    valid = replace(train, proteins=train.proteins[:1]) if isinstance(train, ProteinBatches) else train
    return fit(fabric, state, find_loss(loss_name), train=train, valid=valid, epochs=epochs, accumulate=accumulate)
