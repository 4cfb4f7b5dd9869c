"""The file of every epoch's validation errors: bit for bit, complete or refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from protcli.experiments.scores import read_epochs, write_epochs
from protcli.proteins.metrics import PairErrors

COUNT = np.array([3, 0, 1])


@pytest.fixture
def epochs() -> list[PairErrors]:
    """Two epochs of three proteins, the second without a resolved pair."""
    first = PairErrors(COUNT, np.array([14.0, 0, 9]), np.array([6.0, 0, 3]))
    return [first, PairErrors(COUNT, np.array([1 / 3, 0, 0.1]), np.array([0.7, 0, 1e-300]))]


def test_it_is_read_as_written(epochs: list[PairErrors], tmp_path: Path) -> None:
    path = tmp_path / "errors.safetensors"
    for done in (1, 2):  # written again after each epoch
        write_epochs(path, epochs[:done])
        again = read_epochs(path)
        assert len(again) == done
        for read, written in zip(again, epochs, strict=False):
            for column in ("count", "squared", "absolute"):
                np.testing.assert_array_equal(getattr(read, column), getattr(written, column), strict=True)
    layout = {key: (str(value.dtype), value.shape) for key, value in load_file(path).items()}
    assert layout == {"count": ("int64", (3,)), "squared": ("float64", (2, 3)), "absolute": ("float64", (2, 3))}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: b"text" * 9])
def test_a_damaged_file_is_refused(epochs: list[PairErrors], tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "errors.safetensors"
    with pytest.raises(ValueError, match=r"^is not a readable safetensors file \("):
        read_epochs(path)
    write_epochs(path, epochs)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"^is not a readable safetensors file \("):
        read_epochs(path)


@pytest.mark.parametrize(
    "change",
    [
        {"count": np.array([3.0, 0, 1])},
        {"squared": np.zeros(3)},
        {"squared": np.zeros((1, 3))},
        {"count": np.array([3, 0])},
        {"further": np.zeros(1)},
    ],
)
def test_other_tensors_are_refused(epochs: list[PairErrors], tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    path = tmp_path / "errors.safetensors"
    write_epochs(path, epochs)
    save_file(load_file(path) | change, path)
    with pytest.raises(ValueError, match=r"^is no table of validation errors"):
        read_epochs(path)
