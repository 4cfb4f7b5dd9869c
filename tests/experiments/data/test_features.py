"""Features of a store's chains from files: what is kept, and what is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from protcli.errors import ProtcliError
from protcli.experiments.data import features
from protcli.experiments.data.features import add_features
from protcli.experiments.data.inspect import inspect_data
from protcli.proteins.formats.features import MOST
from protcli.proteins.store import Store, open_store

D = 5


def arrays_of(store: Store) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    proteins = [protein for name in store.splits for protein in store.split(name)]
    return {each.id: rng.normal(size=(len(each), D)).astype(np.float32) for each in proteins}


@pytest.fixture
def arrays(tiny_data: Path) -> dict[str, np.ndarray]:
    return arrays_of(open_store(tiny_data))


def attached(data: Path, out: Path, *files: Path) -> Store:
    list(add_features(data, files, out))
    return open_store(out)


def test_every_kind_of_file_gives_the_same_store(tiny_data: Path, tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", **arrays, other=np.zeros((3, 9)))
    save_file({name: torch.from_numpy(each) for name, each in arrays.items()}, tmp_path / "a.safetensors")
    (tmp_path / "each").mkdir()
    for name, each in arrays.items():
        np.save(tmp_path / "each" / f"{name}.npy", each)
    stores = [
        attached(tiny_data, tmp_path / "1", tmp_path / "a.npz"),
        attached(tiny_data, tmp_path / "2", tmp_path / "a.safetensors"),
        attached(tiny_data, tmp_path / "3", tmp_path / "each"),
    ]
    before = open_store(tiny_data)
    for name in before.splits:
        split = stores[0].split(name)
        split.verify()
        assert {store.split(name).digest for store in stores} == {split.digest} != {before.split(name).digest}
        assert split.features == D
        for old, new in zip(before.split(name), split, strict=True):
            assert (old.id, old.sequence, old.family) == (new.id, new.sequence, new.family)
            np.testing.assert_array_equal(old.coords, new.coords)
            np.testing.assert_array_equal(old.profile, new.profile)
            np.testing.assert_array_equal(new.features, arrays[new.id].astype(np.float16))
    table = inspect_data(tmp_path / "1")[1][0]
    assert table.headings[-2] == "features"
    assert {row[-2] for row in table.rows} == {"5"}
    (*_, note) = stores[0].split_info("training")["notes"]
    assert note.endswith("features from a.npz, which has 1 of other chains")
    copied = attached(tmp_path / "1", tmp_path / "4", tmp_path / "a.npz")  # features replace others
    assert copied.split("training").digest == stores[0].split("training").digest


HOSTILE: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "short": (lambda each: each[:-1], "expected 5 numbers for each of"),
    "wide": (lambda each: np.zeros((len(each), 6)), "x 6: expected 5 numbers for each of"),
    "flat": (lambda each: each[:, 0], "expected 5 numbers"),
    "nan": (lambda each: np.where(each > 0, np.nan, each), "not all finite numbers"),
    "large": (lambda each: each + 1e6, "not all finite numbers up to 65,504"),
    "text": (lambda each: np.full(each.shape, "x"), "not a table of numbers"),
    "pickle": (lambda each: each.astype(object), "allow_pickle=False"),
    "bomb": (lambda each: np.zeros((len(each) + 2, MOST), np.float64), "too many numbers for"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_array_that_cannot_be_used_is_refused(
    kind: str, tiny_data: Path, tmp_path: Path, arrays: dict[str, Any]
) -> None:
    spoil, words = HOSTILE[kind]
    last = list(arrays)[-1]
    np.savez_compressed(tmp_path / "a.npz", **arrays | {last: spoil(arrays[last])})
    with pytest.raises(ProtcliError, match=words) as caught:
        list(add_features(tiny_data, [tmp_path / "a.npz"], tmp_path / "out"))
    assert last in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


def test_files_that_cannot_be_used_are_refused(tiny_data: Path, tmp_path: Path, arrays: dict[str, Any]) -> None:
    (tmp_path / "e.npz").touch()
    (tmp_path / "e.safetensors").write_bytes(b"\xff" * 20)
    (tmp_path / "e.pt").touch()
    (tmp_path / "folder").mkdir()
    first, *others = arrays
    np.savez(tmp_path / "a.npz", **{name: arrays[name] for name in others})
    np.savez(tmp_path / "none.npz")
    for names, words in (
        (["e.npz"], "cannot be read"),
        (["e.safetensors"], "cannot be read"),
        (["e.pt"], "expected a .safetensors or .npz file"),
        (["no.npz"], "cannot be read"),
        (["folder"], "holds no arrays"),
        (["none.npz"], "holds no arrays"),
        (["a.npz"], f"no array of 1 of the {len(arrays)} chains .*, the first of them {first}"),
        (["a.npz", "a.npz"], f"both hold features of {min(others)}"),
    ):
        with pytest.raises(ProtcliError, match=words):
            list(add_features(tiny_data, [tmp_path / name for name in names], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_id_may_lack_its_class() -> None:
    files = object.__new__(features.FeatureFiles)
    files._places = {"1abc_A": (Path(), "")}
    assert [files.name_of(id) for id in ("10#1abc_A", "1abc_A", "1abc_B")] == ["1abc_A", "1abc_A", None]
