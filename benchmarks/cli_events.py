"""`protcli` with the events of a training printed as lines instead of drawn: `step` for the first one, `epoch RATE`.

python benchmarks/cli_events.py train improved --epochs 2
"""

import builtins
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "src"


def environment(folder: Path) -> dict[str, str]:
    """Of a command that keeps its runs, and all else, in a folder."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return others | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PROTCLI_CACHE": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")])),
        "OMP_WAIT_POLICY": "passive",
    }


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command in a folder; its lines can be read as they come."""
    return subprocess.Popen(
        [sys.executable, __file__, *arguments], env=environment(folder), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def lines_of(arguments: list[str], folder: Path) -> list[str]:
    """All lines of a command. Raises RuntimeError, with what it says, if it fails."""
    with start(arguments, folder) as process:
        lines, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"protcli {' '.join(arguments)} ended with {process.returncode}: {said[-500:]}")
    return lines.splitlines()


def main() -> None:
    from protcli import cli

    whole = builtins.__import__

    def imported(name: str, *context: Any, **named: Any) -> Any:
        module = whole(name, *context, **named)
        if name == "protcli.cli.progress":  # changed as the command imports it, so that it imports all else as always
            module.show_training = show
        return module

    def show(events: Iterator[object]) -> None:
        from protcli.training.loop import Epoch, Step

        begun = False
        for event in events:
            if isinstance(event, Step) and not begun:
                begun = True
                print("step", flush=True)
            elif isinstance(event, Epoch):
                print("epoch", event.samples_per_second, flush=True)

    builtins.__import__ = imported
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
