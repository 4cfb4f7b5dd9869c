"""The number of threads decides a run's bits, however it is set; in real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protcli.tracking.run import Run, find_runs

PROTCLI = "from protcli.cli import main; main()"
INTEROP = "import torch; torch.set_num_interop_threads(4); "


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow_store")
def test_bits_follow_from_the_number_of_threads_alone(tiny_data: Path, tmp_path: Path) -> None:
    def trained(name: str, *options: str, begin: str = "", **environment: str) -> tuple[Run, bytes]:
        arguments = ["train", "psp0", "--data", str(tiny_data), "--crop", "32", "--epochs", "1", "--experiment", name]
        without = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        subprocess.run(
            [sys.executable, "-c", begin + PROTCLI, *arguments, *options], env=without | environment, check=True,
            capture_output=True,
        )  # fmt: skip
        (run,) = find_runs(name)
        folder = tmp_path / name
        folder.mkdir()
        return run, run.path("checkpoints/best.safetensors").read_bytes()

    run, weights = trained("option", "--threads", "1")
    assert run.params["run.threads"] == "1"
    for name, how in (("environment", {"OMP_NUM_THREADS": "1"}), ("interop", {"begin": INTEROP})):
        again, same = trained(name, *(["--threads", "1"] if name == "interop" else []), **how)
        assert again.params["run.threads"] == "1"
        assert again.metrics["best/valid_mse"] == run.metrics["best/valid_mse"], name
        assert same == weights, name
    two, other = trained("two", "--threads", "2")
    assert two.params["run.threads"] == "2"
    assert other != weights
