"""Proteins as tensors: what is cropped, padded and masked, in which order they come, kept on a device or made ahead."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protcli.proteins.batches import (
    PACKED_BYTES,
    READY,
    Batch,
    PackedProteins,
    ProteinBatches,
    collate,
    kept_on,
    on_device,
    packed_on,
    prefetch,
)
from protcli.proteins.protein import Protein


def small() -> Protein:
    """Four residues: the second without N, the third not resolved although it has coordinates, the last unknown."""
    coords = np.arange(36, dtype=np.float32).reshape(4, 3, 3)
    coords[1, 0] = np.nan
    profile = np.arange(84, dtype=np.float32).reshape(4, 21)
    secondary = np.array([4, 1, 0, 8], np.uint8)
    return Protein("small", "ACYX", profile, coords, np.array([True, True, False, True]), secondary=secondary)


def test_padding_by_hand():
    batch = collate([small()], atom="ca", crop=6)
    residues = batch.residues
    assert (batch.ids, len(batch), residues.sequence.tolist()) == (("small",), 1, [[0, 1, 19, 20, 20, 20]])
    assert residues.mask.tolist() == [[True] * 4 + [False] * 2]
    np.testing.assert_array_equal(residues.profile[0], [*small().profile, *np.zeros((2, 21))])
    assert batch.mask.tolist() == [[True, True, False, True, False, False]]
    assert batch.coords[0].tolist() == [[3, 4, 5], [12, 13, 14], [0, 0, 0], [30, 31, 32], [0, 0, 0], [0, 0, 0]]
    assert batch.secondary.tolist() == [[4, 1, 0, 8, 0, 0]]
    hot = residues.one_hot()
    assert hot.nonzero().tolist() == [[0, 0, 0], [0, 1, 1], [0, 2, 19], [0, 3, 20]]  # an unknown residue, no padding
    assert hot.max() == 1
    tensors = (hot, residues.profile, batch.coords, residues.sequence, batch.mask, residues.mask)
    assert [each.dtype for each in tensors] == [torch.float32] * 3 + [torch.int64] + [torch.bool] * 2
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    tensors = (
        moved.coords,
        moved.mask,
        moved.secondary,
        moved.residues.sequence,
        moved.residues.profile,
        moved.residues.mask,
    )
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_cbeta_crops_and_indices_by_hand(chain):
    batch = collate([small()], atom="cb", crop=4)
    assert batch.mask.tolist() == [[True, False, False, True]]  # it needs all three atoms
    np.testing.assert_array_equal(batch.coords[0, [0, 3]], small().atom("cb")[[0, 3]])
    assert not batch.coords[0, 1:3].any()
    batch = collate([small(), small()], atom="ca", crop=2, starts=[1, 2])
    assert batch.residues.sequence.tolist() == [[1, 19], [19, 20]]
    assert batch.coords.tolist() == [[[12, 13, 14], [0, 0, 0]], [[0, 0, 0], [30, 31, 32]]]
    assert batch.residues.mask.all()
    assert batch.secondary.tolist() == [[1, 0], [0, 8]]
    assert collate([small()], atom="ca", crop=2).residues.sequence.tolist() == [[0, 1]]
    batch = collate([chain(9, 0), chain(4, 1)], atom="ca", crop=3, padded_length=5, starts=[4, 0])
    assert batch.residues.index.tolist() == [[4, 5, 6, 7, 8], [0, 1, 2, 3, 4]]  # of the whole chain, and on
    assert batch.residues.mask.tolist() == [[True] * 3 + [False] * 2] * 2
    assert not batch.secondary.any()  # where it is not known
    assert torch.equal(batch.residues.profile[0, :3], torch.from_numpy(chain(9, 0).profile[4:7]))


def test_a_protein_looks_the_same_in_any_company(chain):
    proteins = [chain(length, seed) for seed, length in enumerate((5, 30, 12))]
    together = collate(proteins, atom="cb", crop=20)
    for row, protein in enumerate(proteins):
        alone = collate([protein], atom="cb", crop=20)
        pairs = (together.coords, alone.coords), (together.mask, alone.mask)
        for many, one in (*pairs, (together.residues.profile, alone.residues.profile)):
            assert torch.equal(many[row], one[0])


def test_ordered_batches_lose_nobody(chain):
    proteins = [chain(10 + seed, seed) for seed in range(7)]
    split = ProteinBatches(proteins=proteins, atom="ca", crop=12, batch_size=3)
    batches = list(split.epoch())
    assert split.length() == 3
    assert [(len(batch), batch.coords.shape[1]) for batch in batches] == [(3, 12), (3, 12), (1, 12)]
    assert [name for batch in batches for name in batch.ids] == [protein.id for protein in proteins]
    assert all(batch.residues.profile[:, 0, 0].eq(0).all() for batch in batches)  # each from its first residue
    for seed in (None, 0):
        nothing = ProteinBatches(proteins=[], atom="ca", crop=4, batch_size=2, seed=seed, random_crop=True)
        assert (list(nothing.epoch()), nothing.length()) == ([], 0)


def windows(proteins, **how) -> list[tuple[str, int]]:
    """Which protein from which residue, in the order of an epoch."""
    settings = {"atom": "ca", "crop": 16, "batch_size": 4, "seed": 1, "random_crop": True} | how
    epoch = settings.pop("epoch", 1)
    found = []
    for batch in ProteinBatches(proteins=proteins, **settings).epoch(epoch):
        assert batch.coords.shape[1] == settings["crop"]
        found += zip(batch.ids, (batch.residues.profile[:, 0, 0] * 1024).int().tolist(), strict=True)
    return found


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), epoch=st.integers(1, 500), batch_size=st.integers(1, 12))
def test_an_epoch_is_every_protein_once_as_seed_and_epoch_say(chain, seed, epoch, batch_size):
    proteins = [chain(10 + 3 * number, number) for number in range(11)]  # 10 to 40 residues
    found = windows(proteins, seed=seed, epoch=epoch, batch_size=batch_size)
    assert sorted(name for name, _ in found) == sorted(protein.id for protein in proteins)
    lengths = {protein.id: len(protein) for protein in proteins}
    for name, start in found:
        assert 0 <= start <= max(lengths[name] - 16, 0)
    np.random.seed(epoch)  # noqa: NPY002  the global generators play no part
    torch.manual_seed(epoch)
    assert windows(proteins, seed=seed, epoch=epoch, batch_size=1) == found
    assert windows(proteins, seed=seed + 1, epoch=epoch) != found
    assert windows(proteins, seed=seed, epoch=epoch + 1) != found


@settings(deadline=None, max_examples=20)
@given(samples=st.integers(1, 30), batch_size=st.integers(1, 12))
def test_epochs_of_a_number_of_proteins_are_parts_of_one_sequence_of_passes(chain, samples, batch_size):
    """Whatever the size of the store: nobody is left out before all have been seen, and no epoch has one more."""
    proteins = [chain(10 + 3 * number, number) for number in range(11)]
    epochs = [windows(proteins, epoch=epoch, epoch_samples=samples, batch_size=batch_size) for epoch in range(1, 6)]
    assert [len(epoch) for epoch in epochs] == [samples] * 5
    passes = [window for number in range(1, 16) for window in windows(proteins, epoch=number)]
    assert [window for epoch in epochs for window in epoch] == passes[: 5 * samples]
    how = {"proteins": proteins, "atom": "ca", "crop": 30, "batch_size": batch_size, "epoch_samples": samples}
    by_length = ProteinBatches(**how, padded_lengths=(8, 20, 32), seed=1)
    assert all(by_length.length(epoch) == len(list(by_length.epoch(epoch))) for epoch in range(1, 6))


def test_crops_reach_the_whole_chain_evenly(chain):
    long = [replace(chain(25, seed), id=str(seed)) for seed in range(40)]
    starts = [start for epoch in range(1, 51) for _, start in windows(long, epoch=epoch)]
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10  # 25 - 16 = 9 is the last start
    # 2,000 draws from 10 places: chi squared with 9 degrees of freedom is below 27.9 in 999 of 1,000 cases
    assert np.square(counts - 200).sum() / 200 < 27.9


def test_some_batches_take_half_a_crop(chain):
    proteins = [replace(chain(40 if seed % 2 else 10, seed), id=str(seed)) for seed in range(200)]
    whole = ProteinBatches(
        proteins=proteins, atom="ca", crop=16, batch_size=1, seed=1, random_crop=True, padded_lengths=(5, 9, 16)
    )
    some = replace(whole, short_crops=0.4)
    assert some.length() == whole.length()
    starts = []
    for mine, theirs, kept in zip(some.epoch(1), whole.epoch(1), packed_on(CPU, some).epoch(1), strict=True):
        assert_equal(mine, kept)
        if mine.mask.shape[1] == 16:
            assert_equal(mine, theirs)
        else:
            assert (mine.ids, mine.mask.shape, mine.residues.mask.sum()) == (theirs.ids, (1, 9), 8)
            first = int(mine.residues.index[0, 0])
            assert first - int(theirs.residues.index[0, 0]) in range(9)
            starts.append(first)
    assert 60 < len(starts) < 100  # of 200 with a chance of 0.4, more than two deviations on either side
    assert (min(starts), max(starts) > 22) == (0, True)  # 32 is the last


def test_orders_of_epochs_are_unlike_each_other_and_crops_do_not_disturb_them(chain):
    proteins = [chain(40, seed) for seed in range(30)]
    orders = [[name for name, _ in windows(proteins, epoch=epoch)] for epoch in range(1, 6)]
    for first, second in pairwise(orders):
        assert sum(a == b for a, b in zip(first, second, strict=True)) < 10
    fixed = windows(proteins, random_crop=False)
    assert fixed == [(name, 0) for name in orders[0]]


def test_an_epoch_may_be_entered_anywhere(chain):
    proteins = [chain(10 + 3 * number, number) for number in range(11)]
    batches = ProteinBatches(proteins=proteins, atom="ca", crop=16, batch_size=3, seed=4, random_crop=True)
    whole = list(batches.epoch(2))
    for first in range(5):
        rest = list(batches.epoch(2, first))
        assert [batch.ids for batch in rest] == [batch.ids for batch in whole[first:]]
        assert all(torch.equal(a.coords, b.coords) for a, b in zip(rest, whole[first:], strict=True))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), batch_size=st.integers(1, 6))
def test_batches_by_length(chain, seed, batch_size):
    proteins = [chain(5 + 3 * number, number) for number in range(12)]  # 5 to 38 residues
    batches = ProteinBatches(
        proteins=proteins, atom="ca", crop=30, batch_size=batch_size, padded_lengths=(8, 20, 32), seed=seed
    )
    found = list(batches.epoch(3))
    assert len(found) == batches.length()
    assert sorted(name for batch in found for name in batch.ids) == sorted(protein.id for protein in proteins)
    lengths = {protein.id: min(len(protein), 30) for protein in proteins}
    for batch in found:
        padded = batch.coords.shape[1]
        assert len(batch) <= batch_size
        assert {min(size for size in (8, 20, 32) if size >= lengths[name]) for name in batch.ids} == {padded}
    alike = ProteinBatches(proteins=proteins, atom="ca", crop=30, batch_size=batch_size, seed=seed)
    order = [name for batch in alike.epoch(3) for name in batch.ids]
    for group in ([b for b in found if b.coords.shape[1] == size] for size in (8, 20, 32)):
        names = [name for batch in group for name in batch.ids]
        assert names == [name for name in order if name in names]  # of one length in the order of the epoch


def test_each_process_takes_its_share(chain):
    proteins = [chain(10 + number, number) for number in range(7)]
    how = {"proteins": proteins, "atom": "ca", "crop": 12, "batch_size": 3, "seed": 1}
    whole = [batch.ids for batch in ProteinBatches(**how).epoch(2)]
    split = [ProteinBatches(**how, rank=rank, ranks=2) for rank in range(2)]
    shares = [[batch.ids for batch in each.epoch(2)] for each in split]
    assert [each.length() for each in split] == [3, 3]
    assert [(batch[::2], batch[1::2]) for batch in whole] == list(zip(*shares, strict=True))
    assert shares[1][-1] == ()  # a share may be empty, and is a batch all the same
    with pytest.raises(ValueError, match="rank 2 is out of range for 2 processes"):
        ProteinBatches(**how, rank=2, ranks=2)
    said = r"padded_lengths is \[.*\]: give increasing lengths, the last at least the crop 12"
    for lengths in ((8,), (16, 8), (16, 16)):
        with pytest.raises(ValueError, match=said):
            ProteinBatches(**how, padded_lengths=lengths)


CPU = torch.device("cpu")


def assert_equal(mine: Batch, theirs: Batch) -> None:
    assert mine.ids == theirs.ids
    pairs = zip(vars(mine.residues).values(), vars(theirs.residues).values(), strict=True)
    for one, other in (*pairs, (mine.coords, theirs.coords), (mine.mask, theirs.mask)):
        if one is None and other is None:
            continue  # features
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
        assert kept.length() == read.length()
        for number in (1, 2):
            for mine, theirs in zip(kept.epoch(number), read.epoch(number), strict=True):
                assert_equal(mine, theirs)


def test_its_size_is_what_is_said_and_a_cpu_keeps_nothing_twice(chain: Callable[..., Protein]) -> None:
    kept = PackedProteins.read([chain(30, 1), chain(12, 2)], "ca", np.zeros(2, dtype=np.int64), 30)
    tensors = (kept.sequence, kept.profile, kept.coords, kept.mask, kept.secondary)
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


def test_features_are_cropped_and_padded_as_their_residues(chain: Callable[..., Protein]) -> None:
    chains = [chain(length) for length in (5, 9)]
    chains = [replace(each, features=np.arange(3 * len(each), dtype=np.float16).reshape(-1, 3)) for each in chains]
    batch = collate(chains, atom="ca", crop=6, padded_length=8, starts=[0, 2])
    features = batch.residues.features
    assert features is not None
    assert (features.dtype, tuple(features.shape)) == (torch.float32, (2, 8, 3))
    assert features[0, :, 0].tolist() == [0, 3, 6, 9, 12, 0, 0, 0]
    assert features[1, :, 0].tolist() == [6, 9, 12, 15, 18, 21, 0, 0]
    assert collate([replace(chains[0], features=None)], atom="ca", crop=6).residues.features is None
