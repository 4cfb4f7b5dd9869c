"""The files around the code agree with each other."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import mlflow.projects
import pytest
import yaml

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_conda_yaml_and_pyproject_ask_for_the_same_packages() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))
    (pip,) = [item["pip"] for item in conda["dependencies"] if isinstance(item, dict)]
    assert sorted(pip) == sorted(PROJECT["dependencies"])
    (python,) = [item for item in conda["dependencies"] if str(item).startswith("python=")]
    assert PROJECT["requires-python"].startswith(">=" + python.removeprefix("python="))


def test_mlflow_reads_the_project_and_no_second_one_shadows_it() -> None:
    project = mlflow.projects._project_spec.load_project(str(ROOT))
    for entry, parameters, command in (
        ("main", {"model": "psp0", "batch-size": "8"}, "train psp0 --batch-size 8"),
        ("evaluate", {"run-id": "abc", "split": "test"}, "evaluate --run-id abc --split test"),
        ("resume", {"run-id": "abc"}, "train --resume abc"),
        ("suite", {"name": "attention", "seeds": "3"}, "suite run attention --seeds 3"),
    ):
        made = project.get_entry_point(entry).compute_command(parameters, None)
        assert made == f"PYTHONPATH=src python -m protcli {command}"
    assert [path.name for path in ROOT.iterdir() if path.name.lower() == "mlproject"] == ["MLproject"]
    assert not (ROOT / "uv.lock").exists()  # `mlflow run --env-manager uv` would take it for its environment


def test_help_names_every_choice_and_imports_nothing_heavy() -> None:
    """Choices are written out, for reading the names would mean importing torch for --help."""
    from protcli.training.engine import PRECISIONS
    from protcli.training.losses import LOSSES
    from protcli.training.optimizers import OPTIMIZERS, SCHEDULES

    program = (
        "import sys\nfrom protcli.cli import app\n"
        "try:\n    app(['train', '--help'])\nfinally:\n    print(sorted(sys.modules))"
    )
    text = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for name in (*LOSSES, *OPTIMIZERS, *SCHEDULES, *PRECISIONS, "'protcli.cli'"):
        assert name in text, name
    for heavy in ("torch", "mlflow", "numpy", "pyarrow", "matplotlib", "biotite", "rich", "optuna"):
        assert f"'{heavy}'" not in text, heavy


def test_imports_go_down_the_floors_only() -> None:
    answer = subprocess.run([LINT_IMPORTS, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout
    assert "Contracts: 4 kept, 0 broken." in answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("module", "import_", "contract"), [
    ("experiments/config.py", "protcli.experiments.suites.suite", "Rooms of the experiments floor"),
    ("proteins/maps.py", "protcli.training.loop", "Imports go down the floors only"),
    ("training/engine.py", "mlflow", "Only tracking imports mlflow"),
    ("experiments/suites/suite.py", "optuna", "Only sweeps imports optuna"),
])  # fmt: skip
def test_an_import_that_is_turned_round_breaks_a_contract(
    module: str, import_: str, contract: str, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "protcli" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n\nimport {import_}  # noqa\n")
    answer = subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=tmp_path, capture_output=True, text=True,
        check=False, env=os.environ | {"PYTHONPATH": str(tmp_path / "src")},
    )  # fmt: skip
    assert answer.returncode == 1, answer.stdout
    assert re.search(rf"{contract}.* BROKEN", answer.stdout)
