"""The loop on small networks: what it yields, what a step is, and how it ends."""

import signal
import sys
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from protcli.errors import ProtcliError
from protcli.models.spec import Prediction
from protcli.proteins.batches import Batch, Batches, ProteinBatches, Residues
from protcli.proteins.maps import distances, separation, symmetrize, upper_pairs
from protcli.training.checkpoint import read_tensors, write_tensors
from protcli.training.engine import seed_everything, start_engine
from protcli.training.loop import Diverged, Epoch, Step, evaluate, fit
from protcli.training.losses import LOSSES
from protcli.training.optimizers import make_optimizer, make_schedule
from protcli.training.state import Best, TrainState, load_state, make_average, save_state

CROP = 24


class Tiny(nn.Module):
    """A distance from the separation and a term of each residue: 44 parameters, linear in all of them."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.each = nn.Linear(42, 1)
        self.slope = nn.Parameter(torch.tensor(1.0))
        self.dropout = nn.Dropout(dropout)

    def forward(self, residues: Residues) -> Prediction:
        profile = residues.profile / CROP  # its first column counts the residues
        each = self.each(self.dropout(torch.cat([residues.one_hot(), profile], dim=-1)))  # [B, L, 1]
        apart = separation(each.shape[1], each.device).sqrt()
        return Prediction(symmetrize(3 * self.slope * apart + each + each.mT))


@pytest.fixture(scope="module")
def proteins(chain):
    return [chain(12 + 2 * seed, seed, missing=(2, 5)) for seed in range(11)]  # 12 to 32 residues


def run(
    proteins,
    model: nn.Module,
    *,
    seed: int = 0,
    batch_size: int = 4,
    epochs: int = 2,
    accumulate: int = 1,
    lr: float = 0.02,
    optimizer: str = "adam",
    schedule: str = "constant",
    loss: str = "mse",
    max_grad_norm: float | None = None,
    precision: str = "32",
    ema: float = 0.0,
    state_from: Path | None = None,
    states: list[TrainState] | None = None,
) -> Iterator[Step | Epoch]:
    """Train on the proteins and validate on the first five; the state is put into `states`."""
    fabric = start_engine(torch.device("cpu"), precision)
    seed_everything(seed)
    wrapped, chosen = fabric.setup(model, make_optimizer(optimizer, model.parameters(), lr))
    how = {"atom": "ca", "crop": CROP, "batch_size": batch_size}
    train = ProteinBatches(proteins=proteins, **how, seed=seed, random_crop=True)
    steps = -(-train.length() // accumulate) * epochs
    state = TrainState(wrapped, chosen, make_schedule(schedule, chosen, steps), make_average(fabric, model, ema), ema)
    if state_from is not None:
        load_state(state_from, state)
    if states is not None:
        states.append(state)
    return fit(
        fabric,
        state,
        LOSSES[loss],
        train=train,
        valid=ProteinBatches(proteins=proteins[:5], **how),
        epochs=epochs,
        accumulate=accumulate,
        max_grad_norm=max_grad_norm,
    )


def by_sgd(model: nn.Module, train: Batches, lr: float = 0.01, loss: str = "mse", **how) -> Iterator[Step | Epoch]:
    """One epoch of plain SGD, whose step is the gradient; validated on the same batches."""
    fabric = start_engine(torch.device("cpu"), "32")
    wrapped, sgd = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=lr))
    schedule = how.pop("schedule", None)
    state = TrainState(wrapped, sgd, schedule(sgd) if schedule else make_schedule("constant", sgd, 1))
    return fit(fabric, state, LOSSES[loss], train=train, valid=train, epochs=1, **how)


def fresh(dropout: float = 0.0, seed: int = 0) -> Tiny:
    torch.manual_seed(seed)
    return Tiny(dropout)


def in_order(proteins, batch_size: int) -> ProteinBatches:
    return ProteinBatches(proteins=proteins, atom="ca", crop=CROP, batch_size=batch_size)


def figures(events) -> list[float]:
    """Every number that an event holds, times left out; of a step, as it is when the step is yielded."""
    found = []
    for event in events:
        if isinstance(event, Step):
            found.append(event.mse)
        else:
            found += [event.loss, event.lr, event.train_mse, event.valid.mse, event.valid.mae]
            found += event.valid.protein_mse.tolist()
    return found


def test_what_is_yielded(proteins):
    events, shown = [], []
    for event in run(proteins, fresh(), epochs=2):
        events.append(event)
        shown.append(event.mse if isinstance(event, Step) else event.train_mse)
    assert [type(event) for event in events] == [Step, Step, Step, Epoch] * 2
    assert shown[2] == shown[3]
    steps = [event for event in events if isinstance(event, Step)]
    assert [(step.epoch, step.number, step.total) for step in steps] == [
        (1, 1, 3), (1, 2, 3), (1, 3, 3), (2, 1, 3), (2, 2, 3), (2, 3, 3)
    ]  # fmt: skip
    for number, epoch in enumerate((events[3], events[7]), start=1):
        assert epoch.number == number
        assert len(epoch.valid) == 5
        assert epoch.loss == pytest.approx(epoch.train_mse, rel=1e-6)  # the loss is mse, pooled alike
        assert epoch.lr == 0.02
        assert epoch.seconds > 0
        assert epoch.samples_per_second == pytest.approx(11 / epoch.seconds)
    assert all(step.samples_per_second > 0 for step in steps)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_seed_decides_everything(proteins, precision):
    def train(seed: int) -> tuple[list[float], torch.Tensor]:
        model = fresh(dropout=0.3, seed=seed)
        found = figures(run(proteins, model, seed=seed, precision=precision))
        return found, torch.cat([p.detach().flatten() for p in model.parameters()])

    first, weights = train(1)
    again, same_weights = train(1)
    other, _ = train(2)
    assert again == first
    assert torch.equal(same_weights, weights)
    assert all(a != b for a, b in zip(other, first, strict=True) if a != 0.02)


def one_large_step(model: Tiny, batch: Batch, loss: str, lr: float) -> torch.Tensor:
    """The gradient of the pooled loss on a batch, by plain torch and without our loop or losses; then a step."""
    pairs = upper_pairs(batch.mask)
    predicted, true = model(batch.residues).distance[pairs], distances(batch.coords)[pairs]
    if loss == "mse-inverse-distance":
        value = functional.mse_loss(predicted, true, weight=1 / true.clamp(min=1))
    else:
        value = {"mse": functional.mse_loss, "mae": functional.l1_loss, "huber": functional.huber_loss}[loss](
            predicted, true
        )
    model.zero_grad()
    value.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= lr * parameter.grad
    return gradient


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "mse-inverse-distance"])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(11, 1), (4, 3), (1, 11), (2, 100)])
def test_accumulated_batches_are_one_large_batch(proteins, loss, batch_size, accumulate):
    model, reference = fresh(), fresh()
    before = evaluate(model, in_order(proteins, 5), torch.device("cpu"))
    # proteins of 12 to 24 residues, so no mean of means would do
    epoch = list(by_sgd(model, in_order(proteins, batch_size), loss=loss, accumulate=accumulate))[-1]
    whole = next(in_order(proteins, 11).epoch())
    one_large_step(reference, whole, loss, lr=0.01)
    torch.testing.assert_close(flat(model), flat(reference), rtol=1e-5, atol=1e-6)
    assert epoch.train_mse == pytest.approx(before.mse, rel=1e-7)  # pooled over all pairs


def test_a_partial_window_makes_a_step(proteins):
    # 11 batches of one, accumulated by 4: steps on 4, 4 and 3 proteins
    model, reference = fresh(), fresh()
    schedules = []

    def linear(sgd):
        schedules.append(make_schedule("linear", sgd, 3))
        return schedules[0]

    epoch = list(by_sgd(model, in_order(proteins, 1), schedule=linear, accumulate=4))[-1]
    for batch, share in zip(in_order(proteins, 4).epoch(), (5 / 6, 3 / 6, 1 / 6), strict=True):
        one_large_step(reference, batch, "mse", lr=0.01 * share)
    torch.testing.assert_close(flat(model), flat(reference), rtol=1e-5, atol=1e-6)
    assert epoch.lr == pytest.approx(0.01 / 6)  # of the last step, not of one to come
    assert schedules[0].last_epoch == 3


@pytest.mark.parametrize("largest", [1e-3, 0.5])
def test_the_norm_of_the_pooled_gradient_is_bounded(proteins, largest):
    for accumulate in (1, 3):
        model = fresh()
        before = flat(model)
        batches = in_order(proteins, 11 if accumulate == 1 else 4)
        list(by_sgd(model, batches, lr=1.0, accumulate=accumulate, max_grad_norm=largest))
        reference = fresh()
        whole = next(in_order(proteins, 11).epoch())
        gradient = one_large_step(reference, whole, "mse", lr=0.0)
        assert gradient.norm() > largest
        step = before - flat(model)
        assert step.norm().item() == pytest.approx(largest, rel=1e-2)
        assert functional.cosine_similarity(step, gradient, dim=0).item() == pytest.approx(1, abs=1e-3)


def test_a_batch_without_pairs_moves_nothing(proteins, chain):
    empty = [chain(12, 50, missing=tuple(range(1, 12)))]  # one resolved residue
    model = fresh()
    before = flat(model)
    events = by_sgd(model, Given([next(in_order(empty, 1).epoch()), next(in_order(proteins, 11).epoch())]))
    first = next(events)
    assert first.sums.columns["count"] == [0]
    assert torch.equal(flat(model), before)
    epoch = list(events)[-1]
    assert epoch.loss == pytest.approx(epoch.train_mse, rel=1e-6)


class Given(list[Batch]):
    """These very batches, in every epoch."""

    def length(self, number: int = 1) -> int:
        return len(self)

    def epoch(self, number: int, first: int = 0, step: int = 1) -> Iterator[Batch]:
        return iter(self[first::step])


class Breaks(Tiny):
    """Predicts NaN from the n-th call in training, or in evaluation."""

    def __init__(self, training_call: int = 0, evaluation: bool = False) -> None:
        super().__init__()
        self.calls, self.training_call, self.evaluation = 0, training_call, evaluation

    def forward(self, residues: Residues) -> Prediction:
        self.calls += self.training
        broken = self.calls == self.training_call if self.training else self.evaluation
        distance = super().forward(residues).distance
        return Prediction(distance * torch.nan if broken else distance)


@pytest.mark.parametrize(
    ("breaks", "said", "kinds"),  # nothing in an epoch waits for the device, so a loss is looked at when it ends
    [
        ({"training_call": 5}, "^the training loss is nan at batch 2 of epoch 2: try a lower --lr", "SSSESSS"),
        ({"evaluation": True}, "^the validation error is not finite after epoch 1", "SSS"),
    ],
)
def test_what_is_no_number_ends_it(proteins, breaks, said, kinds):
    events, found = run(proteins, Breaks(**breaks)), []
    with pytest.raises(Diverged, match=said):
        found.extend(events)  # what came before the error stays in it
    assert list(events) == []
    assert "".join(type(event).__name__[0] for event in found) == kinds


def test_evaluation_is_without_dropout_and_leaves_the_mode(proteins):
    model = fresh(dropout=0.5)
    batches = in_order(proteins, 4)
    for training in (True, False):
        model.train(training)
        first, second = (evaluate(model, batches, torch.device("cpu")) for _ in range(2))
        assert first.mse == second.mse
        assert model.training is training
    assert len(first) == 11
    whole = evaluate(model, in_order(proteins, 11), torch.device("cpu"))
    assert first.mse == pytest.approx(whole.mse, rel=1e-6)


def kept(model: nn.Module, states: list[TrainState]) -> dict[str, torch.Tensor]:
    """All numbers that decide what comes next, and what would be kept."""
    (state,) = states
    moments = {f"{i}.{k}": v for i, of in state.optimizer.state_dict()["state"].items() for k, v in of.items()}
    return dict(state.network.state_dict()) | moments | {"weights": flat(model), "dropout": torch.get_rng_state()}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize(
    "stop_at", [1, 2, 4, 5, 8, 14]
)  # in an accumulated step, after it, before and after validation, later
def test_it_goes_on_from_any_saved_state_to_the_bit(proteins, tmp_path, optimizer, stop_at):
    how = {
        "seed": 5, "batch_size": 3, "epochs": 3, "accumulate": 2, "schedule": "cosine", "optimizer": optimizer,
        "max_grad_norm": 50.0, "ema": 0.8,
    }  # fmt: skip
    model, states = fresh(dropout=0.4), []
    whole = list(run(proteins, model, **how, states=states))  # 4 batches an epoch, so 2 steps
    expected, moments = figures([e for e in whole if isinstance(e, Epoch)]), kept(model, states)

    stopped_model, stopped = fresh(dropout=0.4), []
    events = run(proteins, stopped_model, **how, states=stopped)
    before = [next(events) for _ in range(stop_at)]
    save_state(tmp_path / "state.safetensors", stopped[0])
    list(events)  # what goes on after the state was saved does not matter
    model, states = fresh(seed=9, dropout=0.4), []
    torch.manual_seed(77)
    after = list(run(proteins, model, **how, state_from=tmp_path / "state.safetensors", states=states))
    assert len(before) + len(after) == len(whole)
    assert figures([e for e in [*before, *after] if isinstance(e, Epoch)]) == expected
    now = kept(model, states)
    assert now.keys() == moments.keys()
    for key, value in moments.items():
        assert torch.equal(torch.as_tensor(now[key]), torch.as_tensor(value)), key
    best = Best.of(states[0].history)
    lowest = min((event for event in whole if isinstance(event, Epoch)), key=lambda event: event.valid.mse)
    assert best.epoch == lowest.number
    assert best.valid.squared.tolist() == lowest.valid.squared.tolist()
    over = [event for event in whole if isinstance(event, Epoch)]
    assert [each.train_mse for each in states[0].history] == [event.train_mse for event in over]
    for each, event in zip(states[0].history, over, strict=True):
        for column in ("count", "squared", "absolute"):
            np.testing.assert_array_equal(getattr(each.valid, column), getattr(event.valid, column), strict=True)


def test_the_state_before_a_damaged_one_is_used(proteins, tmp_path, monkeypatch):
    path, states = tmp_path / "state.safetensors", []
    how = {"batch_size": 3, "epochs": 3}
    expected = figures([e for e in run(proteins, fresh(), **how, states=states) if isinstance(e, Epoch)])
    events = run(proteins, fresh(), **how, states=states)
    for number, _ in enumerate(events, start=1):
        if number in (3, 7):  # in the first epoch and in the second
            save_state(path, states[1])
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # one bit of a tensor
    path.write_bytes(content)
    said, whole = [], load_state
    monkeypatch.setattr(sys.modules[__name__], "load_state", lambda *which: said.append(whole(*which)))
    after = run(proteins, fresh(seed=9), **how, state_from=path)
    monkeypatch.undo()
    first = next(after)
    assert (first.epoch, first.number) == (1, 4)
    assert figures([e for e in after if isinstance(e, Epoch)]) == expected
    (sentence,) = said
    assert "(has been changed or damaged: its content does not have the digest in its header)" in sentence
    assert sentence.endswith("it continues from the state before")

    path.unlink()  # killed while the third was written
    first = next(run(proteins, fresh(seed=9), **how, state_from=path))
    assert (first.epoch, first.number) == (1, 4)


def test_a_state_with_errors_of_each_protein_is_continued(proteins, tmp_path):
    """As 0.1.0 saved it: of an epoch that had begun, error and number of pairs of every protein."""
    path = tmp_path / "state.safetensors"
    whole = figures([e for e in run(proteins, fresh(), batch_size=3) if isinstance(e, Epoch)])
    states: list[TrainState] = []
    events = run(proteins, fresh(), batch_size=3, states=states)
    next(events), next(events)
    save_state(path, states[0])
    tensors, about = read_tensors(path)
    count = tensors["sums.count"].sum()
    shares = torch.tensor([[0.25], [0.5], [0.25]], dtype=torch.float64)
    for name in ("sums.squared", "sums.count"):
        tensors[name] = (tensors[name] * shares).flatten().to(tensors[name].dtype)
    tensors["sums.count"][0] += count - tensors["sums.count"].sum()  # shares were rounded
    write_tensors(path, tensors | {"sums.absolute": torch.ones(6, dtype=torch.float64)}, about)
    after = figures([e for e in run(proteins, fresh(seed=9), batch_size=3, state_from=path) if isinstance(e, Epoch)])
    assert after == pytest.approx(whole, rel=1e-12)


def test_a_signal_waits_for_the_end_of_a_step(proteins, tmp_path):
    """The state is then one to continue from; during validation it waits for nothing."""
    path, expected = tmp_path / "state.safetensors", []
    whole = [e for e in run(proteins, fresh(dropout=0.3), batch_size=3, epochs=2) if isinstance(e, Epoch)]
    for place in ("forward", "evaluate"):
        states, net = [], fresh(dropout=0.3)
        seen = []

        def interrupt(module, inputs, place=place, seen=seen):
            seen.append(module.training)
            if len(seen) == 8 if place == "forward" else not module.training:
                signal.raise_signal(signal.SIGINT)

        handle = net.register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(run(proteins, net, batch_size=3, epochs=2, states=states))
        handle.remove()
        (state,) = states
        assert not state.stepping
        assert (state.epoch, state.batch) == ((2, 2) if place == "forward" else (1, 4))
        save_state(path, state)
        model = fresh(seed=9, dropout=0.3)
        after = [e for e in run(proteins, model, batch_size=3, epochs=2, state_from=path) if isinstance(e, Epoch)]
        assert figures(after) == figures(whole[2 - len(after) :]), place
        expected.append(len(after))
    assert expected == [1, 2]


def test_a_state_of_another_training_is_refused(proteins, tmp_path):
    path, states = tmp_path / "state.safetensors", []
    list(run(proteins, fresh(), states=states))
    save_state(path, states[0])
    wide = fresh()
    wide.more = nn.Linear(3, 3)
    with pytest.raises(ProtcliError, match="is not a state that this training can continue from"):
        list(run(proteins, wide, state_from=path))


def test_the_average_is_what_is_validated(proteins):
    states: list[TrainState] = []
    model = fresh()
    expected, seen, decays = torch.zeros_like(flat(model)), [], chain((0, 1 / 10, 2 / 11), repeat(0.2))
    for event in run(proteins, model, ema=0.2, states=states, epochs=2, lr=0.1):
        if isinstance(event, Step):  # one step a batch: the first copies the weights
            decay = next(decays)
            expected = decay * expected + (1 - decay) * flat(model)
        else:
            seen.append(event.valid.mse)
            torch.testing.assert_close(flat(states[0].network), expected)
            averaged = fresh()
            averaged.load_state_dict(states[0].network.state_dict())
            assert seen[-1] == evaluate(averaged, in_order(proteins[:5], 4), torch.device("cpu")).mse
    assert not torch.equal(flat(states[0].network), flat(model))


class Counts(TorchDispatchMode):
    """Counts the operations that fetch a value from the device: on a GPU each would wait for it."""

    waiting: ClassVar = {
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.equal.default,
    }

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found += func in self.waiting
        return func(*args, **(kwargs or {}))


@pytest.fixture
def fetches(monkeypatch) -> list[str]:
    """Names of the methods by which Python code has fetched values of tensors."""
    found: list[str] = []
    for name in ("cpu", "numpy", "item", "tolist", "__float__", "__bool__", "__int__", "__index__", "__array__"):
        whole = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda self, *a, _whole=whole, _name=name, **k: found.append(_name) or _whole(self, *a, **k),
        )
    return found


@pytest.mark.parametrize(("optimizer", "accumulate"), [("adam", 2), ("adam", 1), ("adamw", 2), ("sgd", 2)])
def test_no_step_waits_for_the_device(proteins, fetches, optimizer, accumulate):
    how = {"accumulate": accumulate, "max_grad_norm": 1.0, "ema": 0.9, "batch_size": 2, "schedule": "cosine"}
    events = run(proteins, fresh(dropout=0.1), optimizer=optimizer, epochs=2, **how)
    with Counts() as counts:
        for event in events:
            if isinstance(event, Step) and event.number > 1:  # from one step to the next
                assert (counts.found, fetches) == (0, [])
            counts.found = 0
            fetches.clear()
    with Counts() as counts:
        step = next(run(proteins, fresh(), epochs=1))
        counts.found = 0
        assert step.mse > 0  # to show it, it is fetched
    assert counts.found or fetches
