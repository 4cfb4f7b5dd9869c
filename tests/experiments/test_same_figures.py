"""What may change the speed or memory of a training, but not its figures."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from protcli.errors import ProtcliError
from protcli.experiments import train as training
from protcli.experiments.config import RunConfig
from protcli.experiments.train import Finished, train
from protcli.models.zoo import configure, find_model
from protcli.proteins.batches import packed_on
from protcli.tracking.run import Run, find_run, find_runs

pytestmark = pytest.mark.usefixtures("mlflow_store")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture
def config(tiny_data: Path) -> RunConfig:
    """A training of a small pairmix, with dropout and blocks."""
    spec = find_model("pairmix")
    small = replace(spec.config, channels=16, pair_channels=8, bottleneck=8, blocks=1, pair_blocks=2, templates=0)
    config = RunConfig(spec=replace(spec, config=small)).with_settings(source=str(tiny_data), seed=3, threads=1)
    return config.with_settings(epochs=2, batch_size=4, crop=32)


def figures(config: RunConfig) -> dict[str, dict[int, float]]:
    *_, last = train(config)
    assert isinstance(last, Finished)
    run = find_run(last.run_id)
    return {key: run.history(key) for key in ("train/loss", "train/mse", "valid/mse")}


def without_draws(config: RunConfig, **changes: object) -> RunConfig:
    """Of a network that draws nothing at random."""
    drawn = {"dropout": 0.0, "profile_noise": 0.0, "profile_dropout": 0.0, "looks": config.spec.config.stride**2}
    still = replace(config.spec.config, **drawn, **changes)
    return replace(config, spec=replace(config.spec, config=still)).with_settings(short_crops=0.0)


def test_of_proteins_kept_on_the_device_and_of_blocks_computed_again(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = figures(config)
    monkeypatch.setattr(training, "kept_on", packed_on)
    assert figures(config.with_settings(activation_checkpointing=True)) == plain


@needs_gpu
def test_of_proteins_read_for_a_gpu(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = figures(config.with_settings(device="cuda"))
    monkeypatch.setattr("protcli.proteins.batches.PACKED_SHARE", 0.0)
    assert figures(config.with_settings(device="cuda")) == kept


@needs_gpu
@pytest.mark.parametrize(("precision", "rel"), [("32", 1e-3), ("tf32", 1e-2), ("bf16", 2e-2)])
@pytest.mark.parametrize("templates", [0, 2])
def test_of_a_gpu(config: RunConfig, precision: str, rel: float, templates: int) -> None:
    config = without_draws(config, templates=templates)
    on_cpu = figures(config.with_settings(device="cpu"))
    on_gpu = figures(config.with_settings(device="cuda", precision=precision))
    for key, values in on_cpu.items():
        assert on_gpu[key] == pytest.approx(values, rel=rel), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "rel"),
    [
        (lambda config: config.with_settings(precision="bf16"), 2e-2),
        (lambda config: config.with_settings(batch_size=2, accumulate=2, padded_lengths=()), 1e-4),
    ],
    ids=["bf16", "accumulate"],
)
def test_to_rounding(config: RunConfig, change: Callable[[RunConfig], RunConfig], rel: float) -> None:
    config = without_draws(config.with_settings(padded_lengths=()))  # other batches have other lengths
    plain, changed = figures(config), figures(change(config))
    for key, values in plain.items():
        assert changed[key] == pytest.approx(values, rel=rel), key


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_a_compiled_model(config: RunConfig, tiny_model: Path) -> None:
    spec = configure(find_model("tiny", tiny_model), ["dropout=0"])  # it would draw otherwise
    tiny = replace(config, spec=spec, model_file=tiny_model).with_settings(epochs=2)
    plain, compiled = figures(tiny), figures(tiny.with_settings(compile=True))
    for key, values in plain.items():
        assert compiled[key] == pytest.approx(values, rel=1e-4), key


@pytest.mark.slow
def test_without_a_compiler(config: RunConfig) -> None:
    command = [sys.executable, "-m", "protcli", "train", "improved", "--compile", "--data", config.data.source]
    environment = os.environ | {"CXX": "/nowhere", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(r"Error: improved cannot be compiled \(.*compiler.*\): leave out --compile", last), last
    assert "Traceback" not in done.stderr


def test_a_model_without_blocks(config: RunConfig) -> None:
    with pytest.raises(ProtcliError, match=r"simple has no blocks .*: leave out --activation-checkpointing"):
        list(train(replace(config, spec=find_model("simple")).with_settings(activation_checkpointing=True)))


PROTCLI = "from protcli.cli import main; main()"
INTEROP = "import torch; torch.set_num_interop_threads(4); "


@pytest.mark.slow
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
