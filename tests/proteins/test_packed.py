"""Proteins kept on a device give the batches that reading them one by one gives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protcli.proteins.batches import PACKED_BYTES, Batch, PackedProteins, ProteinBatches, kept_on, packed_on
from protcli.proteins.formats.proteinnet import read_proteinnet
from protcli.proteins.protein import Protein

CPU = torch.device("cpu")


def assert_equal(mine: Batch, theirs: Batch) -> None:
    assert mine.ids == theirs.ids
    pairs = zip(vars(mine.residues).values(), vars(theirs.residues).values(), strict=True)
    for one, other in (*pairs, (mine.coords, theirs.coords), (mine.mask, theirs.mask)):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@settings(max_examples=40)
@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=9), st.integers(2, 45), st.booleans(), st.integers(1, 3),
    st.sampled_from(["ca", "cb"]),
)  # fmt: skip
def test_to_the_bit(
    chain: Callable[..., Protein], lengths: list[int], crop: int, by_length: bool, ranks: int, atom: str
) -> None:
    proteins = [
        replace(chain(length, number, missing=(length // 2,)), id=str(number)) for number, length in enumerate(lengths)
    ]
    padded = (*range(2, crop, 7), crop) if by_length else ()
    for rank in range(ranks):
        read = ProteinBatches(
            proteins=proteins, atom=atom, batch_size=4, crop=crop, padded_lengths=padded, seed=3, random_crop=True,
            rank=rank, ranks=ranks,
        )  # fmt: skip
        kept = packed_on(CPU, read)
        assert len(kept) == len(read)
        for number in (1, 2):
            for mine, theirs in zip(kept.epoch(number), read.epoch(number), strict=True):
                assert_equal(mine, theirs)


def test_of_real_chains(real_data: Path) -> None:
    read = ProteinBatches(proteins=list(read_proteinnet(real_data / "validation")), atom="ca", batch_size=8, crop=256)
    for mine, theirs in zip(packed_on(CPU, read).epoch(), read.epoch(), strict=True):
        assert_equal(mine, theirs)


def test_its_size_is_what_is_said_and_a_cpu_keeps_nothing_twice(chain: Callable[..., Protein]) -> None:
    kept = PackedProteins.read([chain(30, 1), chain(12, 2)], "ca", np.zeros(2, dtype=np.int64), 30)
    tensors = (kept.sequence, kept.profile, kept.coords, kept.mask)
    assert sum(each.numel() * each.element_size() for each in tensors) == (42 + 1) * PACKED_BYTES  # one of padding
    read = ProteinBatches(proteins=[chain(30, 1)], atom="ca", batch_size=4, crop=20)
    assert kept_on(CPU, read) is read


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu(chain: Callable[..., Protein], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    read = ProteinBatches(proteins=[chain(30, 1), chain(9, 2)], atom="ca", batch_size=2, crop=20)
    kept = kept_on(gpu, read)
    assert kept.packed is not None
    (mine,), (theirs,) = kept.epoch(), read.epoch()
    assert mine.coords.device.type == "cuda"
    assert_equal(mine.to("cpu"), theirs)
    monkeypatch.setattr("protcli.proteins.batches.PACKED_SHARE", 0.0)
    assert kept_on(gpu, read) is read
