"""Optimisers and schedules: what they are by name, and the rate of the first and the last step."""

import math

import pytest
import torch
from torch import nn

from protcli.training.optimizers import OPTIMIZERS, Muon, make_optimizer, make_schedule


def rates(name: str, total: int, warmup: float = 0.0) -> list[float]:
    """Learning rate of every step, as a share of that asked for."""
    optimizer = make_optimizer("sgd", [nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(name, optimizer, total, warmup)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [7 / 8, 5 / 8, 3 / 8, 1 / 8]),  # from the middle of each step
        ("cosine", [(1 + math.cos(math.pi * done / 8)) / 2 for done in (1, 3, 5, 7)]),
    ],
)
def test_four_steps_by_hand(name, expected):
    assert rates(name, 4) == pytest.approx(expected)


def test_warmup_by_hand():
    found = rates("cosine", 200, warmup=0.05)  # 10 steps of warm-up
    assert found[:10] == pytest.approx([(step + 0.5) / 10 for step in range(10)])
    assert found[10] == max(found) == pytest.approx(1, abs=1e-3)
    assert found[105] == pytest.approx((1 + math.cos(math.pi * 95.5 / 190)) / 2)
    assert found[-1] == pytest.approx(0, abs=1e-3)


def test_settings_of_the_studies():
    parameter = nn.Parameter(torch.zeros(1))
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    classes |= {"rmsprop": torch.optim.RMSprop, "muon": Muon}
    assert classes.keys() == OPTIMIZERS.keys()
    for name, kind in classes.items():
        optimizer = make_optimizer(name, [parameter], 0.25, 0.125)
        assert type(optimizer) is kind
        group = optimizer.param_groups[0]
        assert group["lr"] == 0.25
        assert group.get("eps", 1e-7) == 1e-7  # Keras' default
        assert group["weight_decay"] == 0.125
        assert make_optimizer(name, [parameter], 0.25).param_groups[0]["weight_decay"] == 0


def test_adam_by_hand():
    # its first step is lr * g / (|g| + eps), so that a tiny gradient shows which eps it is
    x = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    x.grad = torch.tensor([1e-7], dtype=torch.float64)
    make_optimizer("adam", [x], 0.1).step()
    assert x.item() == pytest.approx(1 - 0.1 / 2)


def test_muon_steps_as_torchs_own_and_adamw() -> None:
    """torch's takes matrices alone, and computes in bfloat16: three digits. Kernels are matrices of their rows."""
    torch.manual_seed(0)
    shapes = ((8, 5), (3, 7), (8, 5), (6, 2, 3, 1), (9,), ())
    ours, theirs = ([nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    flat = [nn.Parameter(torch.ones(shape).flatten(1)) for shape in shapes[:4]]
    muon = make_optimizer("muon", ours, 0.1, 0.2)
    matrices = torch.optim.Muon(flat, 0.1, 0.2, adjust_lr_fn="match_rms_adamw")
    vectors = torch.optim.AdamW(theirs[4:], 0.1, weight_decay=0.2, eps=1e-7)
    for _ in range(4):
        for one, other in zip(ours, [*flat, *theirs[4:]], strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.view(other.shape).clone()
        for optimizer in (muon, matrices, vectors):
            optimizer.step()
    for one, other in zip(ours[:4], flat, strict=True):
        torch.testing.assert_close(one.flatten(1), other, atol=0.01, rtol=0)
        assert (one - 1).abs().max() > 0.1
    for one, other in zip(ours[4:], theirs[4:], strict=True):
        torch.testing.assert_close(one, other)


def test_muon_without_a_gradient_and_with_none_but_zeros() -> None:
    still, moved = (nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    moved.grad = torch.zeros(2, 2)
    make_optimizer("muon", [still, moved], 0.5, 0.5).step()
    assert torch.equal(still, torch.ones(2, 2))
    assert torch.equal(moved, torch.full((2, 2), 0.75))  # the decay alone
