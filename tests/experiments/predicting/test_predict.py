from pathlib import Path

import numpy as np
import pytest
import torch

import protcli
from protcli.errors import ProtcliError
from protcli.experiments.config import RunConfig
from protcli.experiments.predicting import predict as predict_module
from protcli.experiments.predicting.predict import predict
from protcli.experiments.promoting.promote import promote
from protcli.experiments.train import train
from protcli.figures.maps import MapPair
from protcli.models.zoo import find_model
from protcli.proteins.dataset import open_dataset
from protcli.proteins.formats.structures import pdb_text, read_structure
from protcli.proteins.residues import sequence_profile
from protcli.tracking.bundle import SHIPPED
from protcli.tracking.run import find_run
from protcli.training.checkpoint import load_weights

pytestmark = pytest.mark.usefixtures("mlflow_store")


@pytest.fixture
def run_id(tiny_data: Path, tiny_model: Path) -> str:
    spec = find_model("tiny", tiny_model)
    *_, last = train(RunConfig(spec=spec, model_file=tiny_model).with_settings(source=str(tiny_data), epochs=1))
    tiny_model.unlink()
    return last.run_id


def predicted(out: Path, **options) -> list[tuple[str, list[Path]]]:
    return [(prediction.id, files) for prediction, files in predict(out, **options)]


def test_a_run_and_its_registered_model_predict_what_evaluation_sees(
    run_id: str, tiny_data: Path, tmp_path: Path
) -> None:
    data = open_dataset(str(tiny_data), train_split=None, atom="ca", evaluated_length=32)
    protein = data.valid[0]
    length = min(len(protein), data.evaluated_length)  # what evaluation sees of it
    np.save(tmp_path / "profile.npy", protein.profile[:length])
    run = find_run(run_id)
    model = find_model("tiny", run.path("model.py")).build()
    load_weights(model, run.path("checkpoints/best.safetensors"))
    expected = MapPair.of(model, protein, atom="ca", length=32, device=torch.device("cpu")).predicted
    promote()
    given = {"sequence": protein.sequence[:length], "profile": tmp_path / "profile.npy", "device": "cpu"}
    for number, options in enumerate(({"run_id": run_id}, {"model": "models:/protein-distance@champion"})):
        ((name, files),) = predicted(tmp_path / str(number), **options, **given)
        assert name == "sequence"
        with np.load(files[0], allow_pickle=False) as arrays:
            np.testing.assert_array_equal(arrays["distance"], expected)
            about = {name: str(arrays[name]) for name in ("sequence", "id", "model", "run")}
        name = "models:/protein-distance/1" if number else "tiny"
        assert about == {"sequence": protein.sequence[:length], "id": "sequence", "model": name, "run": run_id}
        assert files[1].read_bytes().startswith(b"\x89PNG")


def test_without_a_model_it_is_the_one_that_comes_with_protcli(tmp_path: Path) -> None:
    ((_, files),) = predicted(tmp_path / "maps", sequence="MKVLAAGIV" * 4, write="npz,pdb")
    with np.load(files[0]) as arrays:
        assert (str(arrays["model"]), str(arrays["run"])) == (f"the pairmix of protcli {protcli.__version__}", "")
        np.testing.assert_array_equal(arrays["distance"], protcli.load().predict("MKVLAAGIV" * 4).distance)
    assert f"Predicted by the pairmix of protcli {protcli.__version__}: C-alpha" in " ".join(
        line[11:].strip() for line in files[1].read_text().splitlines() if line.startswith("REMARK")
    )
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 8e6


def test_sequences_of_a_file_with_their_profiles(run_id: str, tmp_path: Path) -> None:
    fasta = tmp_path / "some.fasta"
    fasta.write_text(">sp|P1|A first\nMKVLA\n>30#1ABC_1_A\nacdx\n")
    np.savez(tmp_path / "profiles.npz", **{"sp|P1|A": sequence_profile("MKVLA"), "30#1ABC_1_A": np.ones((4, 21))})
    options = {"run_id": run_id, "inputs": [fasta], "write": "npz, png,npz"}
    with_profiles = predicted(tmp_path / "a", **options, profile=tmp_path / "profiles.npz")
    without = predicted(tmp_path / "b", **options)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        *("30_1ABC_1_A.npz", "30_1ABC_1_A.png", "sp_P1_A.npz", "sp_P1_A.png")
    ]
    assert [name for name, _ in without] == ["sp|P1|A", "30#1ABC_1_A"]
    maps = [[np.load(files[0])["distance"] for _, files in items] for items in (with_profiles, without)]
    np.testing.assert_array_equal(maps[0][0], maps[1][0])
    assert not np.array_equal(maps[0][1], maps[1][1])


def test_a_profile_as_text(run_id: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((3, 21)).astype(np.float32)
    np.save(tmp_path / "a.npy", rows)
    np.savetxt(tmp_path / "a.csv", rows, delimiter=",", fmt="%.9g")
    np.savetxt(tmp_path / "a.txt", rows, fmt="%.9g")
    of_npy, of_csv, of_txt = (
        np.load(predicted(tmp_path / name[2:], run_id=run_id, sequence="MKV", profile=tmp_path / name)[0][1][0])
        for name in ("a.npy", "a.csv", "a.txt")
    )
    np.testing.assert_array_equal(of_npy["distance"], of_csv["distance"])
    np.testing.assert_array_equal(of_npy["distance"], of_txt["distance"])


def test_wrong_input_is_one_sentence_and_nothing_is_written(run_id: str, tmp_path: Path) -> None:
    fasta = tmp_path / "some.fasta"
    fasta.write_text(">a\nMKV\n\n>b\nMK1\n")
    clash = tmp_path / "clash.fasta"
    clash.write_text(">a|b\nMKV\n>A#b\nMK\n")
    np.savez(tmp_path / "profiles.npz", a=np.zeros((3, 21)))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "text.txt").write_text("no numbers")
    (tmp_path / "empty.txt").write_text("\n")
    np.savetxt(tmp_path / "one.txt", np.zeros((3, 21)))
    (tmp_path / "long.fasta").write_text(f">{'n' * 300}\nMKV\n")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 broken")
    one = {"run_id": run_id, "sequence": "MKV"}
    for options, said in (
        ({"run_id": "a", "model": "b", "sequence": "MKV"}, "give --model or --run-id, not both"),
        ({"model": "b", "sequence": "MKV"}, "--model b is not a model address"),
        ({**one, "write": "npz,gif"}, "--write npz,gif: 'gif' is not one of npz, png, rr, pdb, cif"),
        ({**one, "write": "npz,"}, "--write npz,: '' is not one of npz, png"),
        ({**one, "write": "npz,rr"}, "tiny predicts distances alone: --write rr needs probabilities"),
        ({**one, "sequence": "M", "write": "pdb"}, "sequence has one residue: coordinates need two"),
        (
            {"run_id": run_id, "inputs": [tmp_path / "text.txt"]},
            r"text\.txt is of no kind that holds a sequence: expected",
        ),
        ({"run_id": run_id, "inputs": [tmp_path / "empty.txt"]}, r"empty\.txt is empty: expected FASTA"),
        ({"run_id": run_id, "inputs": [tmp_path / "none"]}, "cannot read .*none"),
        ({"run_id": run_id}, "give the proteins"),
        ({**one, "inputs": [fasta]}, "give the proteins"),
        ({"run_id": "none", "sequence": "MKV"}, "no run none"),
        ({"model": "models:/none@champion", "sequence": "MKV"}, "there is no models:/none@champion"),
        ({"run_id": run_id, "inputs": [fasta]}, r"some\.fasta, line 4: b: '1' at position 3"),
        ({"run_id": run_id, "inputs": [clash]}, r"a\|b and A#b would both be written"),
        ({"run_id": run_id, "inputs": [fasta], "profile": tmp_path / "profiles.npz"}, "has no profile of b; it has a"),
        ({"run_id": run_id, "inputs": [fasta], "profile": tmp_path / "one.txt"}, "holds one table"),
        ({**one, "sequence": "M" * 33}, "sequence has 33 residues, but this tiny model accepts at most 32"),
        ({**one, "sequence": ""}, "sequence is empty"),
        ({**one, "profile": tmp_path / "none.npy"}, r"cannot read .*none\.npy"),
        ({**one, "profile": tmp_path / "text.txt"}, r"text\.txt is not a table of numbers"),
        ({**one, "profile": tmp_path / "empty.txt"}, r"empty\.txt is not a table of numbers: it is empty"),
        ({"run_id": run_id, "inputs": [tmp_path / "long.fasta"]}, r"the name n+\.\.\. has 300 characters"),
        ({**one, "sequence": "MkV"}, "'k' at position 2 is not one .*: use capital letters"),
        ({**one, "profile": tmp_path / "objects.npy"}, r"objects\.npy is not a table of numbers"),
        ({**one, "profile": tmp_path / "broken.npz"}, r"broken\.npz is not a table of numbers"),
        ({**one, "profile": tmp_path / "profiles.npz"}, "has no profile of sequence"),
        ({**one, "device": "tpu"}, "unknown device"),
    ):
        with pytest.raises(ProtcliError, match=said):
            predicted(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ProtcliError, match="file cannot be written to"):
        predicted(tmp_path / "file", **one)


@pytest.mark.draws
def test_any_file_that_holds_a_sequence(run_id: str, tmp_path: Path, tiny_data: Path) -> None:
    """An alignment gives the profile, a structure the true map; two kinds of one chain predict the same."""
    (tmp_path / "some.a3m").write_text(">q\nMKVLA\n>one\nMK-LA\n>two\nMRVaLC\n")
    (tmp_path / "some.aln").write_text("CLUSTAL W\n\nr   MKVLA\none MK-LA\ntwo MRVLC\n")
    protein = open_dataset(str(tiny_data), train_split=None, atom="ca", evaluated_length=32).valid[0]
    length = min(len(protein), 32)
    coords = np.nan_to_num(protein.atom("ca")[:length])
    (tmp_path / "true.pdb").write_text(pdb_text(protein.sequence[:length], coords, np.zeros(length), "r"))
    inputs = [tmp_path / "some.a3m", tmp_path / "some.aln", tmp_path / "true.pdb"]
    found = predicted(tmp_path / "out", run_id=run_id, inputs=inputs, write="npz,png,pdb,cif")
    assert [name for name, _ in found] == ["q", "r", "true_1_A"]
    files = [files for _, files in found]
    maps = [np.load(each[0])["distance"] for each in files]
    np.testing.assert_array_equal(maps[0], maps[1])
    plain = predicted(tmp_path / "plain", run_id=run_id, sequence="MKVLA")
    assert not np.array_equal(maps[0], np.load(plain[0][1][0])["distance"])
    pictures = [each[1].read_bytes() for each in files]
    assert len(pictures[2]) > len(pictures[0])  # three maps
    for kind in (2, 3):
        (read,) = read_structure(files[0][kind])
        assert read.sequence == "MKVLA"
    said = " ".join(line[11:] for line in files[0][2].read_text().splitlines() if line.startswith("REMARK"))
    assert said.startswith(f"Predicted by tiny (run {run_id}): C-alpha atoms placed by predicted distances, ")
    assert said.endswith("; no expected errors.")


def test_many_sequences_take_no_more_memory_than_a_few(
    run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more chains are read ahead than a batch has."""
    fasta = tmp_path / "many.fasta"
    fasta.write_text("".join(f">c{number}\nMKV\n" for number in range(200)))
    read: list[int] = []
    original = predict_module.read_queries

    def noted(path: Path):
        for number, query in enumerate(original(path)):
            read.append(number)
            yield query

    monkeypatch.setattr(predict_module, "read_queries", noted)
    monkeypatch.setitem(predict_module.WRITERS, "npz", lambda path, prediction: path.write_text("x"))
    steps = predict(tmp_path / "out", run_id=run_id, inputs=[fasta], write="npz")
    assert next(steps)[0].id == "c0"
    assert len(read) <= 400 + 16  # twice for checking, and then a batch
    assert len(list(steps)) == 199


def test_relatives_of_a_database_give_those_without_a_profile_one(run_id: str, tmp_path: Path) -> None:
    bare = "MKVLAAGIVALLAACSSDEFHIKRWYTNQPGS"
    relative = bare[:5] + "R" + bare[6:]
    (tmp_path / "d.fa").write_text(f">r\n{relative}\n")
    (tmp_path / "one.fa").write_text(f">bare\n{bare}\n")
    (tmp_path / "two.a3m").write_text(f">aligned\n{bare}\n")
    given = {"run_id": run_id, "inputs": [tmp_path / "one.fa", tmp_path / "two.a3m"], "device": "cpu", "write": "npz"}
    chains = {}
    for database in (None, tmp_path / "d.fa"):
        found = [
            prediction.chain for prediction, _ in predict(tmp_path / str(database is None), database=database, **given)
        ]
        chains[database is None] = found
    assert [chain.has_profile for chain in chains[True]] == [False, True]
    assert [chain.has_profile for chain in chains[False]] == [True, True]
    assert chains[False][0].profile[5].nonzero()[0].tolist() == [0, 14, 20]
    np.testing.assert_array_equal(chains[False][1].profile, chains[True][1].profile)
    with pytest.raises(ProtcliError, match=r"one\.fb: "):
        predicted(tmp_path / "none", database=tmp_path / "one.fb", **given)
    assert not (tmp_path / "none").exists()


def test_from_python(run_id: str, tmp_path: Path) -> None:
    promote()
    of_run, of_registry = protcli.load(run_id), protcli.load("models:/protein-distance@champion")
    first, second = (model.predict("MKVLAGG") for model in (of_run, of_registry))
    np.testing.assert_array_equal(first.distance, second.distance)
    assert (len(first), first.model.atom, of_registry.model.name) == (7, "ca", "models:/protein-distance/1")
    assert first.coords().shape == (7, 3)
    first.to_pdb(tmp_path / "some.pdb")
    (read,) = read_structure(tmp_path / "some.pdb")
    assert read.sequence == "MKVLAGG"
    with pytest.raises(ProtcliError, match="tiny predicts distances alone, without a distribution: it has no contact"):
        first.contacts()
    with pytest.raises(ProtcliError, match="chain: '1' at position 4"):
        of_run.predict("MKV1")
    with pytest.raises(ProtcliError, match="model:/x is not a model address"):
        protcli.load("model:/x")
