"""Batches made ahead by a thread: the same ones, and nothing is left of it."""

import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from protcli.proteins.batches import READY, Batch, collate, on_device, prefetch
from protcli.proteins.protein import Protein


@pytest.fixture
def batches(chain: Callable[..., Protein]) -> list[Batch]:
    return [collate([chain(10, number)], atom="ca", crop=10) for number in range(9)]


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "batches"]


def test_the_same_in_order_and_no_more_than_a_few_ahead(batches: list[Batch]) -> None:
    assert [id(each) for each in prefetch(iter(batches))] == [id(each) for each in batches]
    assert threads() == []
    made = []
    following = prefetch(made.append(batch) or batch for batch in batches)
    next(following)
    following.close()
    assert len(made) <= READY + 2  # those that wait, the one that was used and the one that finds no room
    assert threads() == []
    next(on_device(iter(batches), torch.device("cpu")))  # needs no thread
    assert threads() == []


def test_an_error_comes_where_its_batch_would(batches: list[Batch]) -> None:
    def breaks() -> Iterator[Batch]:
        yield batches[0]
        raise OSError("the disk is gone")

    following = prefetch(breaks())
    assert next(following) is batches[0]
    with pytest.raises(OSError, match="the disk is gone"):
        next(following)
    assert threads() == []
