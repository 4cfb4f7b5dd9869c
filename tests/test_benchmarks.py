"""Every benchmark runs in its smallest form, so that none rots; how long it takes is not tested."""

import importlib.util
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.slow
FAST = ("step", "evaluation", "import_rate", "cost", "communication")
SLOW = ("large_store", "memory", "throughput", "startup", "tracking", "scaling", "keras_step")
has_tensorflow = importlib.util.find_spec("tensorflow") is not None


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "bench.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(code: str) -> str:
    """What a program in the folder of benchmarks prints: their modules are no package."""
    answer = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.parametrize("names", [FAST, *((name,) for name in SLOW)], ids=" ".join)
def test_smallest_form(names: tuple[str, ...], tmp_path: Path) -> None:
    answer = bench("--smallest", "--device", "cpu", "--out", str(tmp_path), *names)
    assert answer.returncode == 0, answer.stderr
    (page,), (file,) = tmp_path.glob("*.md"), tmp_path.glob("*.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["versions"]["torch"]
    assert content["machine"]["cores"] > 0
    left_out = {"keras_step": "tensorflow is not installed: pip install -e '.[bench]'"} if not has_tensorflow else {}
    assert content["left_out"] == {name: reason for name, reason in left_out.items() if name in names}
    measured = Counter(row["measurement"] for row in content["rows"])
    assert set(measured) == set(names) - set(content["left_out"])
    for row in content["rows"]:
        assert 0 < row["low"] <= row["figure"] <= row["high"] < math.inf or "exponent" in row["what"], row
        assert f"| {row['measurement']} | {row['what']} | " in page.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").rstrip() == answer.stdout.rstrip()


def test_all_are_tested_and_the_exponent_of_a_power_law() -> None:
    code = "import bench, cost\nprint(*{name for names in bench.MEASUREMENTS.values() for name in names})\n"
    code += "print(round(cost.exponent([10, 20, 40], [3 * size**1.5 for size in (10, 20, 40)]), 6))"
    measured, exponent = run(code).splitlines()
    assert sorted(measured.split()) == sorted(FAST + SLOW)
    assert exponent == "1.5"


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unknown, no_folder = bench("speed"), bench("--out", str(tmp_path / "file"), "step")
    assert unknown.returncode == no_folder.returncode == 2
    assert "there is no benchmark 'speed': choose from communication, cost, " in unknown.stderr
    assert no_folder.stderr.endswith("file is no folder\n")


def test_a_failure_is_reported_and_the_others_are_measured() -> None:
    code = (
        "import bench, cost\n"
        "def fails(setting):\n"
        "    raise RuntimeError('out of memory')\n    yield\n"
        "cost.rows = fails\n"
        "print(bench.main(['--smallest', '--device', 'cpu', 'cost', 'evaluation']))"
    )
    *page, exit_code = run(code).splitlines()
    assert "cost was left out: failed: RuntimeError: out of memory." in page
    assert any(line.startswith("| evaluation | all metrics | ") for line in page)
    assert exit_code == "1"


def test_those_of_a_gpu_need_neither_mlflow_nor_arrow() -> None:
    code = (
        "import sys\n"
        "for package in ('mlflow', 'pyarrow', 'matplotlib', 'tensorflow'):\n    sys.modules[package] = None\n"
        "import bench, importlib\n"
        "for name in bench.MEASUREMENTS['cuda']:\n    print(importlib.import_module(name).rows.__name__)"
    )
    assert run(code).split() == ["rows"] * 5


def test_profile() -> None:
    answer = bench("--smallest", "--device", "cpu", "--profile", "improved")
    assert answer.returncode == 0, answer.stderr
    line = "improved, batch 2, length 64, three steps "
    for part in (f"{line}bare", f"{line}in the loop", "aten::convolution_backward"):
        assert part in answer.stdout


def test_median_spread_and_goal() -> None:
    code = (
        "from row import Row\n"
        "for goal in ({}, {'at_least': 2.0}, {'at_least': 2.5}, {'at_most': 2.0}, {'at_most': 1.5}):\n"
        "    row = Row.of('x', 's', [3.0, 1.0, 2.0], **goal)\n"
        "    print(row.figure, row.low, row.high, row.goal or '-', row.met)"
    )
    met = ("- None", ">= 2 True", ">= 2.5 False", "<= 2 True", "<= 1.5 False")
    assert run(code).splitlines() == [f"2.0 1.0 3.0 {each}" for each in met]


def test_ways_take_turns_in_alternating_order() -> None:
    code = (
        "import timing\nfrom row import Setting\ntimes = iter(range(1000))\n"
        "timing.time.perf_counter = lambda: next(times) / 4\n"  # a quarter of a second between two looks at the clock
        "calls = []\n"
        "ways = {name: lambda name=name: calls.append(name) for name in 'ab'}\n"
        "print(timing.alternate(ways, Setting(seconds=5)), ''.join(calls))"
    )
    # two calls each to warm up; a fifth of the time is two turns; after three rounds, the fewest, it is over
    assert run(code) == "{'a': [0.25, 0.25, 0.25], 'b': [0.25, 0.25, 0.25]} aabb" + 3 * "abba" + "\n"


@pytest.mark.skipif(not has_tensorflow, reason="TensorFlow is not installed")
def test_keras_nets_are_the_published_ones() -> None:
    """Their parameter counts, all and those not trained, are those that the studies print."""
    code = (
        "import math, keras_step, keras_nets\n"
        "count = lambda weights: sum(math.prod(each.shape) for each in weights)\n"
        "for name, build in keras_nets.NETS.items():\n"
        "    net = build()\n    print(name, net.count_params(), count(net.non_trainable_weights), net.output_shape)"
    )
    assert run(code).splitlines()[-4:] == [
        "simple 66070688 32 (None, 256, 256)", "improved 40897 0 (None, 256, 256)",
        "psp0 26033409 53120 (None, 256, 256)", "psp1 26015233 53120 (None, 256, 256)",
    ]  # fmt: skip


@pytest.mark.skipif(not has_tensorflow, reason="TensorFlow is not installed")
def test_keras_has_the_same_loss() -> None:
    code = (
        "import keras_step, keras_nets\n"
        "from protcli.models.spec import Prediction\n"
        "from protcli.training.losses import find_loss\n"
        "from training_step import make_case\n"
        "case = make_case(2, 256, 'cpu')\n"
        "import torch\n"
        "predicted = torch.rand(2, 256, 256) * 40\n"
        "total, weight = find_loss('mse')(Prediction(predicted), case.true, case.pairs)\n"
        "_, target = keras_step.arrays('improved', case)\n"
        "theirs = float(keras_nets.masked_mse(target, predicted.numpy()))\n"
        "print(abs(theirs / (total / weight).item() - 1) < 1e-5)\n"
        "points = keras_nets.distance_map(case.batch.coords.numpy())\n"
        "print(abs(torch.from_numpy(points.numpy()) - case.true).where(case.pairs, 0).max().item() < 1e-3)"
    )
    assert run(code).splitlines()[-2:] == ["True", "True"]
