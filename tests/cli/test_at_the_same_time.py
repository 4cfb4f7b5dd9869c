"""Many commands at the same time on one run store, one experiment and one data set: each does what it does alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from protcli.proteins.store import open_store
from protcli.tracking.keys import Param
from protcli.tracking.run import find_runs

SEEDS = 5
ADDED = ("more", "others")


@pytest.mark.slow
@pytest.mark.timeout(900)  # many processes on few cores
def test_trainings_and_imports_at_once(tiny_data: Path, tiny_model: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data" / tiny_data.name)
    atom = "ATOM  {0:5d}  CA  ALA A{0:4d}    {1:8.3f}   0.000   0.000  1.00  0.00           C\n"
    chain = tmp_path / "chain.pdb"
    chain.write_text("".join(atom.format(number, 3.8 * number) for number in range(1, 31)))
    train = ["train", "tiny", "--model-file", tiny_model, "--data", data, "--threads", "1", "--experiment", "together"]
    commands = [
        *([*train, "--seed", seed] for seed in range(SEEDS)),
        *(["data", "import", chain, "--as", name, "--families", "none", "--out", data] for name in ADDED),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # on a fresh store: each of them may be the one to make it
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "protcli", *map(str, command)], env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for command in commands
    ]  # fmt: skip
    said = [process.communicate(timeout=600)[0] for process in begun]
    assert [process.returncode for process in begun[:SEEDS]] == [0] * SEEDS, said
    added = {name for name, process in zip(ADDED, begun[SEEDS:], strict=True) if process.returncode == 0}
    assert added  # two that write the data set take turns, or the later one says why not
    for process, text in zip(begun[SEEDS:], said[SEEDS:], strict=True):
        assert process.returncode == 0 or "another process is writing this store; wait for it to finish" in text
    store = open_store(data)
    assert added == set(store.splits) & set(ADDED)
    for name in store.splits:
        store.split(name).verify()
    runs = find_runs("together")
    assert sorted(run.params[Param.SEED] for run in runs) == [str(seed) for seed in range(SEEDS)]
    assert {run.status for run in runs} == {"FINISHED"}
    command = [sys.executable, "-m", "protcli", *map(str, train[:-1]), "alone"]
    alone = subprocess.run(command, env=environment, capture_output=True)
    assert alone.returncode == 0, alone.stderr
    (quiet,) = find_runs("alone")
    (busy,) = (run for run in runs if run.params[Param.SEED] == quiet.params[Param.SEED])
    assert busy.history("valid/mse") == quiet.history("valid/mse")
    assert len(quiet.history("valid/mse")) == 3
