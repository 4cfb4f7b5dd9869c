"""The short form of `make torture`: every command is killed at a random moment, and goes on."""

import subprocess
import sys
from pathlib import Path

import pytest

SCENARIOS = ("train", "import", "suite", "promote", "sync")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_nothing_is_lost_nothing_twice_nothing_left() -> None:
    program = Path(__file__).with_name("torture.py")
    short = ["--kills", "3", "--stores", "file", "--restarts", "1", "--full-disks", "4"]
    short += ["--leave-out", "suite", "promote"]
    done = subprocess.run([sys.executable, str(program), *short], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    killed = {name: int(kills) for name, _, _, _, kills, kind, *_ in rows[:-1] if kind == "kills"}
    assert set(killed) == set(SCENARIOS)
    assert all(kills > 0 for kills in killed.values())
    assert rows[-1][-2:] == ["0", "problems"]
