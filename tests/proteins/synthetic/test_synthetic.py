"""Synthetic proteins: the same everywhere, chemically sound, compact, and their sequences tell the structure."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protcli.errors import ProtcliError
from protcli.proteins.protein import Protein
from protcli.proteins.residues import encode
from protcli.proteins.store import open_store
from protcli.proteins.synthetic import SPLITS, VERSION, sample_store, synthesize, write_synthetic

DIGEST = "df4fda60f9b1ff4c7941fe84a9363d5f4eb4758a3dfdf0f9ce16199502d30f67"  # of two proteins a split
SAMPLE_DIGEST = "0bf97a3197685404aab565020007e81e0b07d93d01c5e9b8b4a4be5e144e7674"  # of 96 and 24 proteins


def digest(proteins: list[Protein]) -> str:
    whole = sha256()
    for protein in proteins:
        whole.update(f"{protein.id} {protein.sequence}".encode())
        for values in (protein.profile, protein.coords, protein.mask):
            whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()


@pytest.fixture(scope="module")
def train() -> list[Protein]:
    return list(synthesize(96, seed=0, split="training"))


@pytest.fixture(scope="module")
def valid() -> list[Protein]:
    return list(synthesize(24, seed=0, split="validation"))


@pytest.fixture(scope="module")
def some() -> list[Protein]:
    return [protein for split in SPLITS for protein in synthesize(4, seed=0, split=split)]


def distances(points: np.ndarray) -> np.ndarray:
    return np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1))


def dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Degrees, IUPAC sign: [n] from four [n, 3]."""
    first, axis, last = b - a, c - b, d - c
    left, right = np.cross(first, axis), np.cross(axis, last)
    sine = (np.cross(left, right) * axis).sum(-1) / np.linalg.norm(axis, axis=-1)
    return np.degrees(np.arctan2(sine, (left * right).sum(-1)))


def test_the_proteins_of_this_version_are_these(some: list[Protein]) -> None:
    assert VERSION == 2  # the digest changes with it
    assert digest([some[number] for number in (0, 1, 4, 5, 8, 9)]) == DIGEST
    made = [next(synthesize(1, seed=1, split=split)) for split in SPLITS]
    assert len({protein.sequence for protein in (*made, *some)}) == 15
    assert (some[0].id, some[0].category) == ("synthetic_training_0000", "")


@pytest.mark.slow
def test_those_of_the_sample_too(train: list[Protein], valid: list[Protein]) -> None:
    """They were found to be homologous to each other as families say, and their sequences to tell the structure."""
    assert digest(train + valid) == SAMPLE_DIGEST


@pytest.mark.slow
def test_homologues_share_one_family_across_splits(train: list[Protein], valid: list[Protein]) -> None:
    """About half of the validation proteins are homologues of training proteins, and as long as these."""
    lengths = {family: [len(each) for each in train if each.family == family] for family in {p.family for p in train}}
    assert len(lengths) < 0.5 * len(train)
    shared = [protein for protein in valid if protein.family in lengths]
    assert 0.2 < len(shared) / len(valid) < 0.7
    assert all(abs(length - len(protein)) < 60 for protein in shared for length in lengths[protein.family])


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), low=st.integers(20, 60), room=st.integers(0, 40), split=st.sampled_from(SPLITS))
def test_lengths_stay_in_their_bounds(seed: int, low: int, room: int, split: str) -> None:
    for protein in synthesize(2, seed=seed, split=split, min_length=low, max_length=low + room):
        assert low <= len(protein) <= low + room


def test_bonds_angles_and_hands_are_ideal(some: list[Protein]) -> None:
    for protein in some:
        n, ca, c = protein.coords[protein.mask].astype(float).transpose(1, 0, 2)
        np.testing.assert_allclose(np.linalg.norm(ca - n, axis=1), 1.458, atol=0.003)
        np.testing.assert_allclose(np.linalg.norm(c - ca, axis=1), 1.525, atol=0.003)
        np.testing.assert_allclose(np.einsum("ld,ld->l", n - ca, c - ca) / (1.458 * 1.525), -0.3584, atol=0.003)
        index = np.flatnonzero(protein.mask)
        bonded = np.flatnonzero(np.diff(index) == 1)
        here, after = bonded, bonded + 1
        np.testing.assert_allclose(np.linalg.norm(n[after] - c[here], axis=1), 1.329, atol=0.003)
        np.testing.assert_allclose(np.linalg.norm(ca[after] - ca[here], axis=1), 3.80, atol=0.02)
        assert (np.abs(dihedral(ca[here], c[here], n[after], ca[after])) > 179).all()
        cosine = np.einsum("ld,ld->l", ca[here] - c[here], n[after] - c[here]) / (1.525 * 1.329)
        np.testing.assert_allclose(cosine, np.cos(np.radians(117.2)), atol=0.004)


def test_nothing_clashes(some: list[Protein]) -> None:
    for protein in some:
        coords = protein.coords[protein.mask].astype(float)
        index = np.flatnonzero(protein.mask)
        separation = np.abs(index[:, None] - index)
        assert distances(coords[:, 1])[separation > 2].min() > 3.99
        residue = np.repeat(index, 3)
        atoms = distances(coords.reshape(-1, 3))
        assert atoms[np.abs(residue[:, None] - residue) > 2].min() > 2.79
        assert atoms[np.abs(residue[:, None] - residue) == 2].min() > 2.2


def test_profiles_are_frequencies_that_agree_with_the_sequence_and_some_residues_are_unresolved(
    some: list[Protein],
) -> None:
    agree = []
    for protein in some:
        frequencies = protein.profile[:, :20].astype(float)
        np.testing.assert_allclose(frequencies.sum(axis=1), 1, atol=1e-5)
        entropy = -(frequencies * np.log2(np.where(frequencies > 0, frequencies, 1))).sum(axis=1)
        np.testing.assert_allclose(protein.profile[:, 20], 1 - entropy / np.log2(20), atol=1e-4)
        agree.append((frequencies.argmax(axis=1) == encode(protein.sequence)).mean())
        assert (np.isnan(protein.coords).all(axis=(1, 2)) == ~protein.mask).all()
        assert protein.mask.mean() > 0.6
    assert 0.55 < np.mean(agree) < 0.95
    assert 0.005 < 1 - np.concatenate([protein.mask for protein in some]).mean() < 0.1


def test_a_store_says_that_it_is_synthetic(tmp_path: Path) -> None:
    store = write_synthetic(tmp_path / "made", train=3, valid=2, test=0, seed=5, min_length=30, max_length=60)
    assert store.synthetic
    assert "Synthetic" in store.manifest["about"]
    assert store.splits == ("training", "validation")
    asked = list(synthesize(2, seed=5, split="validation", min_length=30, max_length=60))
    assert digest(list(store.split("validation"))) == digest(asked)
    assert store.split("validation").families.tolist() == [protein.family for protein in asked]


@pytest.mark.parametrize(("wrong", "said"), [
    ({"split": "train"}, "training, validation, testing"),
    ({"count": -1}, "negative"),
    ({"seed": -1}, "negative"),
    ({"min_length": 19}, "20 <= min"),
    ({"min_length": 80, "max_length": 70}, "80 to 70"),
])  # fmt: skip
def test_wrong_requests_are_refused_at_once(wrong: dict, said: str) -> None:
    asked = {"count": 1, "seed": 0, "split": "training"} | wrong
    with pytest.raises(ProtcliError, match=said):
        synthesize(asked.pop("count"), **asked)


def test_the_sample_is_made_once_and_again_when_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ProtcliError, match="PROTCLI_CACHE"):
        sample_store()  # a cache that cannot be written
    monkeypatch.setenv("PROTCLI_CACHE", str(tmp_path))
    for split, count in (("train", 2), ("valid", 1), ("test", 1)):
        monkeypatch.setitem(write_synthetic.__kwdefaults__, split, count)
    first = sample_store()
    assert first.synthetic
    assert f"v{VERSION}" in first.path.name
    manifest = first.path / "manifest.json"
    made = manifest.stat().st_mtime_ns
    assert sample_store().path == first.path
    assert manifest.stat().st_mtime_ns == made
    expected = first.split("training").digest
    data = first.path / first.split_info("training")["file"]
    data.write_bytes(data.read_bytes()[:100])
    assert sample_store().split("training").digest == expected
    manifest.write_text("{")
    assert sample_store().split("training").digest == expected


def test_processes_that_start_at_once_share_one_sample(tmp_path: Path) -> None:
    code = (
        "from protcli.proteins import synthetic as s;"
        "s.write_synthetic.__kwdefaults__.update(train=3, valid=1, test=1);"
        "print(s.sample_store().split('training').digest)"
    )
    start = [sys.executable, "-c", code]
    environment = {"PROTCLI_CACHE": str(tmp_path), "PATH": ""}
    running = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    said = {process.communicate()[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    assert said == {open_store(next(tmp_path.glob("*sample*v*[0-9]"))).split("training").digest}
