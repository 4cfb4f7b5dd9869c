"""The loop on small networks: what it yields, what a step is, and how it ends."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from protcli.models.spec import Prediction
from protcli.proteins.batches import Batch, Residues, ordered_batches, shuffled_batches
from protcli.proteins.maps import distances, separation, symmetrize, upper_pairs
from protcli.training.engine import seed_everything, start_engine
from protcli.training.loop import Diverged, Epoch, Step, evaluate, fit
from protcli.training.losses import LOSSES
from protcli.training.optimizers import make_optimizer, make_schedule

CROP = 24


@pytest.fixture(autouse=True)
def _settings_of_torch():
    yield
    torch.use_deterministic_algorithms(False)


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
    clip: float | None = None,
    precision: str = "32",
    order: Callable[[int], Iterator[Batch]] | None = None,
) -> Iterator[Step | Epoch]:
    """Train on the proteins and validate on the first five."""
    fabric = start_engine(torch.device("cpu"), precision)
    seed_everything(seed)
    model, chosen = fabric.setup(model, make_optimizer(optimizer, model.parameters(), lr))
    batches = -(-len(proteins) // batch_size)
    how = {"atom": "ca", "crop": CROP, "batch_size": batch_size}
    return fit(
        fabric,
        model,
        chosen,
        make_schedule(schedule, chosen, -(-batches // accumulate) * epochs),
        LOSSES[loss],
        train=order or (lambda epoch: shuffled_batches(proteins, **how, seed=seed, epoch=epoch, random_crop=True)),
        valid=lambda: ordered_batches(proteins[:5], **how),
        batches_per_epoch=batches,
        epochs=epochs,
        accumulate=accumulate,
        clip=clip,
    )


def fresh(dropout: float = 0.0, seed: int = 0) -> Tiny:
    torch.manual_seed(seed)
    return Tiny(dropout)


def in_order(proteins, batch_size: int) -> Callable[[int], Iterator[Batch]]:
    return lambda epoch: ordered_batches(proteins, atom="ca", crop=CROP, batch_size=batch_size)


def figures(events) -> list[float]:
    """Every number that an event holds, times left out."""
    found = []
    for event in events:
        if isinstance(event, Step):
            found.append(event.mse)
        else:
            found += [event.loss, event.lr, event.train.mse, event.valid.mse, event.valid.mae]
            found += event.valid.protein_mse.tolist()
    return found


def test_what_is_yielded(proteins):
    events = list(run(proteins, fresh(), epochs=2))
    assert [type(event) for event in events] == [Step, Step, Step, Epoch] * 2
    steps = [event for event in events if isinstance(event, Step)]
    assert [(step.epoch, step.number, step.total) for step in steps] == [
        (1, 1, 3), (1, 2, 3), (1, 3, 3), (2, 1, 3), (2, 2, 3), (2, 3, 3)
    ]  # fmt: skip
    for number, epoch in enumerate((events[3], events[7]), start=1):
        assert epoch.number == number
        assert len(epoch.train) == 11
        assert len(epoch.valid) == 5
        assert epoch.loss == pytest.approx(epoch.train.mse, rel=1e-6)  # the loss is mse, pooled alike
        assert epoch.lr == 0.02
        assert epoch.seconds > 0
        assert epoch.samples_per_second == pytest.approx(11 / epoch.seconds)
    assert events[2].mse == events[3].train.mse
    assert all(step.samples_per_second > 0 for step in steps)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_goes_down(proteins, loss):
    epochs = [e for e in run(proteins, fresh(), epochs=12, loss=loss, lr=0.05) if isinstance(e, Epoch)]
    assert epochs[-1].loss < 0.9 * epochs[0].loss


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


def test_bf16_trains_with_single_precision_weights(proteins):
    model = fresh()
    epochs = [e for e in run(proteins, model, epochs=8, precision="bf16", lr=0.05) if isinstance(e, Epoch)]
    assert epochs[-1].loss < 0.9 * epochs[0].loss
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert epochs[-1].valid.squared.dtype == "float64"


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
    order = in_order(proteins, batch_size)
    # plain SGD makes the step the gradient; proteins of 12 to 24 residues, so no mean of means would do
    fabric = start_engine(torch.device("cpu"), "32")
    wrapped, sgd = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.01))
    events = fit(
        fabric, wrapped, sgd, make_schedule("constant", sgd, 1), LOSSES[loss],
        train=order, valid=lambda: order(1), batches_per_epoch=-(-11 // batch_size), epochs=1, accumulate=accumulate,
    )  # fmt: skip
    epoch = list(events)[-1]
    whole = next(ordered_batches(proteins, atom="ca", crop=CROP, batch_size=11))
    one_large_step(reference, whole, loss, lr=0.01)
    torch.testing.assert_close(flat(model), flat(reference), rtol=1e-5, atol=1e-6)
    assert len(epoch.train) == 11


def test_a_partial_window_makes_a_step(proteins):
    # 11 batches of one, accumulated by 4: steps on 4, 4 and 3 proteins
    model, reference = fresh(), fresh()
    fabric = start_engine(torch.device("cpu"), "32")
    wrapped, sgd = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.01))
    schedule = make_schedule("linear", sgd, 3)
    events = fit(
        fabric, wrapped, sgd, schedule, LOSSES["mse"],
        train=in_order(proteins, 1), valid=lambda: in_order(proteins, 1)(1),
        batches_per_epoch=11, epochs=1, accumulate=4,
    )  # fmt: skip
    epoch = list(events)[-1]
    for batch, share in zip(in_order(proteins, 4)(1), (5 / 6, 3 / 6, 1 / 6), strict=True):
        one_large_step(reference, batch, "mse", lr=0.01 * share)
    torch.testing.assert_close(flat(model), flat(reference), rtol=1e-5, atol=1e-6)
    assert epoch.lr == pytest.approx(0.01 / 6)  # of the last step, not of one to come
    assert schedule.last_epoch == 3


@pytest.mark.parametrize("clip", [1e-3, 0.5])
def test_clip_bounds_the_pooled_gradient(proteins, clip):
    for accumulate in (1, 3):
        model = fresh()
        before = flat(model)
        fabric = start_engine(torch.device("cpu"), "32")
        wrapped, sgd = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=1.0))
        batch_size = 11 if accumulate == 1 else 4
        events = fit(
            fabric, wrapped, sgd, make_schedule("constant", sgd, 1), LOSSES["mse"],
            train=in_order(proteins, batch_size), valid=lambda: in_order(proteins, 4)(1),
            batches_per_epoch=accumulate, epochs=1, accumulate=accumulate, clip=clip,
        )  # fmt: skip
        list(events)
        reference = fresh()
        whole = next(in_order(proteins, 11)(1))
        gradient = one_large_step(reference, whole, "mse", lr=0.0)
        assert gradient.norm() > clip
        step = before - flat(model)
        assert step.norm().item() == pytest.approx(clip, rel=1e-2)
        assert functional.cosine_similarity(step, gradient, dim=0).item() == pytest.approx(1, abs=1e-3)


def test_a_wide_clip_changes_nothing(proteins):
    assert figures(run(proteins, fresh(), clip=1e9)) == figures(run(proteins, fresh()))


def test_a_batch_without_pairs_moves_nothing(proteins, chain):
    empty = [chain(12, 50, missing=tuple(range(1, 12)))]  # one resolved residue
    model = fresh()
    before = flat(model)
    order = iter([next(in_order(empty, 1)(1)), next(in_order(proteins, 11)(1))])
    fabric = start_engine(torch.device("cpu"), "32")
    wrapped, sgd = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.01))
    events = fit(
        fabric, wrapped, sgd, make_schedule("constant", sgd, 2), LOSSES["mse"],
        train=lambda epoch: order, valid=lambda: in_order(proteins, 4)(1), batches_per_epoch=2, epochs=1,
    )  # fmt: skip
    next(events)
    assert torch.equal(flat(model), before)
    epoch = list(events)[-1]
    assert epoch.train.count[0] == 0
    assert epoch.loss == pytest.approx(epoch.train.mse, rel=1e-6)


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


def collect_until_diverged(events: Iterator[Step | Epoch], match: str) -> list[Step | Epoch]:
    found = []
    with pytest.raises(Diverged, match=match):
        found.extend(events)  # what came before the error stays in it
    assert list(events) == []
    return found


def test_a_loss_that_is_no_number(proteins):
    model = Breaks(training_call=5)
    found = collect_until_diverged(
        run(proteins, model), "^the training loss is nan at batch 2 of epoch 2: try a lower --lr"
    )
    assert [type(event) for event in found] == [Step, Step, Step, Epoch, Step]
    assert flat(model).isfinite().all()  # no step was made of it


def test_a_validation_that_is_no_number(proteins):
    found = collect_until_diverged(
        run(proteins, Breaks(evaluation=True)), "^the validation error is no finite number after epoch 1"
    )
    assert [type(event) for event in found] == [Step, Step, Step]


def test_a_rate_far_too_high(proteins):
    found = collect_until_diverged(run(proteins, fresh(), optimizer="sgd", lr=1e12, epochs=50), "the training loss is")
    assert all(event.valid.is_finite() for event in found if isinstance(event, Epoch))


def test_evaluation_is_without_dropout_and_leaves_the_mode(proteins):
    model = fresh(dropout=0.5)
    batches = list(ordered_batches(proteins, atom="ca", crop=CROP, batch_size=4))
    for training in (True, False):
        model.train(training)
        first, second = (evaluate(model, batches, torch.device("cpu")) for _ in range(2))
        assert first.mse == second.mse
        assert model.training is training
    assert len(first) == 11
    whole = evaluate(model, ordered_batches(proteins, atom="ca", crop=CROP, batch_size=11), torch.device("cpu"))
    assert first.mse == pytest.approx(whole.mse, rel=1e-6)


def test_validation_is_after_the_epoch(proteins):
    model = fresh()
    events = list(run(proteins, model, epochs=1))
    batches = ordered_batches(proteins[:5], atom="ca", crop=CROP, batch_size=4)
    assert events[-1].valid.mse == evaluate(model, batches, torch.device("cpu")).mse


def test_nobody_wants_the_rest(proteins):
    events = run(proteins, fresh())
    assert isinstance(next(events), Step)
    events.close()
    assert list(events) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_evaluates_alike(proteins):
    model = fresh()
    here = evaluate(model, in_order(proteins, 4)(1), torch.device("cpu"))
    there = evaluate(model.cuda(), in_order(proteins, 4)(1), torch.device("cuda"))
    assert there.mse == pytest.approx(here.mse, rel=1e-5)
