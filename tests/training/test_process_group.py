"""Processes that train together: forked, they meet by gloo and call `fit` on a tiny network."""

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from protcli.errors import ProtcliError
from protcli.models.spec import Prediction
from protcli.proteins.batches import ProteinBatches, Residues
from protcli.proteins.maps import separation, symmetrize
from protcli.proteins.protein import Protein
from protcli.training.engine import seed_everything, start_engine
from protcli.training.loop import Epoch, evaluate, fit
from protcli.training.losses import LOSSES
from protcli.training.optimizers import make_optimizer, make_schedule
from protcli.training.process_group import ProcessGroup, joined
from protcli.training.state import TrainState, full_weights, load_state, make_average, save_state

CPU, CROP = torch.device("cpu"), 24


class Tiny(nn.Module):
    """A distance from the separation and a term of each residue; with a scalar, which cannot be sharded."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.term = nn.Linear(21, 1)
        self.slope = nn.Parameter(torch.tensor(1.0))
        self.dropout = nn.Dropout(dropout)

    def forward(self, residues: Residues) -> Prediction:
        term = self.term(self.dropout(residues.one_hot()))  # [B, L, 1]
        return Prediction(symmetrize(3 * self.slope * separation(term.shape[1], CPU).sqrt() + term + term.mT))


def in_processes(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function of the group returns in each of several forked processes, or the error that it raises."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(size)]

    def run(rank: int) -> None:
        torch.set_num_threads(1)
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size), "RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
        }  # fmt: skip
        try:
            with joined() as group:
                answer = function(group, *arguments)
        except Exception as error:
            answer = error
        pipes[rank][1].send(answer)
        os._exit(0)

    processes = [context.Process(target=run, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    answers = [receiver.recv() for receiver, _ in pipes]
    for process in processes:
        process.join()
    return answers


def train(
    group: ProcessGroup, proteins: list[Protein], strategy: str, state_file: Path | None = None, stop_at: int = -1
) -> tuple[list[float], dict[str, np.ndarray]]:
    """Train in two epochs with accumulation, a schedule and an average; figures of the epochs, and the last weights.

    Stopped after a batch, it goes on from the saved state in a new network.
    """
    torch.manual_seed(0)
    net: torch.nn.Module = Tiny(dropout=0.3 if state_file else 0.0)
    fabric = start_engine(CPU, "32", group.size, strategy)
    seed_everything(5)
    average = make_average(fabric, net, 0.8)
    model = fabric.setup_module(net)
    adam = fabric.setup_optimizers(make_optimizer("adam", model.parameters(), 0.02))
    how: dict[str, Any] = {"atom": "ca", "crop": CROP, "batch_size": 4}
    batches = ProteinBatches(proteins=proteins, **how, seed=5, random_crop=True, rank=group.rank, ranks=group.size)
    valid = ProteinBatches(proteins=proteins[:9], **how)
    state = TrainState(model, adam, make_schedule("cosine", adam, 4), average, 0.8)
    if state_file and state_file.exists():
        load_state(state_file, state)
    state.sums = state.sums.part_of(group)
    events = []
    training = fit(
        fabric, state, LOSSES["mse"], train=batches, valid=valid, epochs=2, accumulate=2, max_grad_norm=50.0,
        group=group, seed=5,
    )  # fmt: skip
    for number, event in enumerate(training):
        if number == stop_at:
            save_state(state_file, state, group)
            group.all_reduce(torch.zeros(1))  # the first one has written it
            return train(group, proteins, strategy, state_file)
        if isinstance(event, Epoch):
            events.append(event)
    weights = {key: value.numpy() for key, value in full_weights(state.network).items()}
    found = [[each.loss, each.lr, each.train_mse, each.valid.mse, each.valid.mae] for each in events]
    return [value for epoch in found for value in epoch], weights


@pytest.fixture(scope="module")
def proteins(chain: Callable[..., Protein]) -> list[Protein]:
    return [chain(12 + 2 * seed, seed, missing=(2, 5)) for seed in range(11)]


@pytest.mark.parametrize(("size", "strategy"), [(2, "ddp"), (2, "fsdp"), (3, "fsdp")])
def test_processes_train_as_one(proteins: list[Protein], size: int, strategy: str) -> None:
    """Whether each has a copy of the weights, or a part of them; two, or three for three batches of validation."""
    alone, weights = train(ProcessGroup(), proteins, "auto")
    together = in_processes(size, train, proteins, strategy)
    for found, _ in together:
        assert found == together[0][0]
        assert found == pytest.approx(alone, rel=1e-4)
    for key, value in weights.items():
        np.testing.assert_allclose(together[0][1][key], value, rtol=1e-4, atol=1e-5)
    assert all(not parts for _, parts in together[1:])  # only the first has them


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("stop_at", [1, 3])  # after the first step, and after the first epoch
def test_they_go_on_to_the_bit(proteins: list[Protein], tmp_path: Path, strategy: str, stop_at: int) -> None:
    path = tmp_path / "state.safetensors"
    whole = in_processes(2, train, proteins, strategy, tmp_path / "none")
    resumed = in_processes(2, train, proteins, strategy, path, stop_at)
    ends = len(resumed[0][0])
    assert ends
    assert resumed[0][0] == whole[0][0][-ends:]
    for key, value in whole[0][1].items():
        np.testing.assert_array_equal(resumed[0][1][key], value)


def test_a_validation_is_that_of_one_process_to_the_bit(proteins: list[Protein]) -> None:
    batches = ProteinBatches(proteins=proteins, atom="ca", crop=CROP, batch_size=2)

    def errors(group: ProcessGroup) -> list[list[float]]:
        torch.manual_seed(0)
        found = evaluate(Tiny(), batches, CPU, group)
        return [found.count.tolist(), found.squared.tolist(), found.absolute.tolist()]

    assert in_processes(3, errors) == [errors(ProcessGroup())] * 3


def test_what_they_tell_each_other() -> None:
    def talk(group: ProcessGroup) -> tuple[Any, ...]:
        text = group.broadcast_text(f"Å {group.rank}")
        first = torch.tensor([group.rank + 7.0])
        group.broadcast([first])
        silence = group.sync_flags()
        group.save_requested = group.rank == 1
        saving = group.sync_flags()
        if group.rank == 1:
            signal.raise_signal(signal.SIGINT)  # which stops nobody at once
        stopping = group.sync_flags()
        total = group.all_reduce(torch.tensor([group.rank + 1]))
        return text, first.item(), silence, saving, stopping, group.stop_signal, total.item()

    said = ("Å 0", 7.0, (False, False), (True, False), (False, True), signal.SIGINT, 3)
    assert in_processes(2, talk) == [said, said]
    assert ProcessGroup().broadcast_text("a") == "a"
    assert ProcessGroup(save_requested=True, stop_signal=2).sync_flags() == (False, False)


def test_they_stop_when_who_started_them_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def orphan(group: ProcessGroup) -> tuple[tuple[bool, bool], int]:
        group.parent = -1 if group.rank else group.parent
        return group.sync_flags(), group.stop_signal

    assert in_processes(2, orphan) == [((False, True), signal.SIGTERM)] * 2


def test_one_that_ends_is_a_sentence_in_the_others() -> None:
    def end(group: ProcessGroup) -> None:
        if group.rank == 1:
            raise ValueError("a bug")
        group.sync_flags()

    first, second = in_processes(2, end)
    assert isinstance(first, ProtcliError)
    assert str(first).startswith("another process of the training has ended")
    assert isinstance(second, ValueError)


def test_a_model_with_a_parameter_that_nothing_depends_on(proteins: list[Protein], monkeypatch) -> None:
    init = Tiny.__init__

    def with_unused(self: Tiny, dropout: float = 0.0) -> None:
        init(self, dropout)
        self.unused = torch.nn.Parameter(torch.zeros(3))

    monkeypatch.setattr(Tiny, "__init__", with_unused)
    for error in in_processes(2, train, proteins, "ddp"):
        assert isinstance(error, ProtcliError)
        assert "does not on unused: remove them" in str(error)
