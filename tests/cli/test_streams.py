"""What a terminal lacks is printed in the nearest letters, and a reader who leaves ends nothing."""
# ruff: noqa: RUF001  # the letters that look alike are what is tested

import os
import subprocess
import sys
from pathlib import Path

import pytest

import protcli.cli.streams  # noqa: F401  # which registers `nearest`
from protcli.tracking.run import find_runs

SAYS = """
import sys
from protcli.cli.streams import keep_printing
keep_printing()
import typer
from rich.progress import track
from protcli.cli.terminal import print_table, terminal
from protcli.experiments.pages import Table
terminal().print("MSE 4.20 \\u00c5\\u00b2\\u2026")
print_table(terminal(), Table("", ("a", "b (\\u00c5)"), (("1", "2"),), ""))
typer.echo("\\u00c5\\u00b2 by typer")
typer.echo("\\u00c5\\u00b2 an error", err=True)
print("\\u2013", "\\u65e5", "\\udcc3")
for number in range(2000):
    print(number)
sys.stdout.flush()
print("all is done", file=sys.stderr)
"""


def said(text: str = SAYS, **settings: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    return subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("12.9 Å², A\u030a", "12.9 A2, A"),
        ("… – — − ‐ ─ ━ │ ┃", "... - - - - - - | |"),
        ("“a” ‘b’ ½ µm 3 × 4 ≥ ≈", "\"a\" 'b' 1/2 um 3 * 4 >= ~"),
        ("Ø łódź élan ﬁ", "O lodz elan fi"),
        ("MSEₛ₁₂ 10⁹", "MSEs12 109"),
        ("日本\udcc3", "RiBen"),
        ("\udcc3", ""),
    ],
)
def test_the_nearest_letters(text: str, plain: str) -> None:
    assert f"MSE {text}.".encode("ascii", "nearest") == f"MSE {plain}.".encode()


@pytest.mark.parametrize(
    ("settings", "mse", "dash"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"MSE 4.20 A2...", b"- Ri"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, b"MSE 4.20 A2...", b"- Ri"),
        ({"PYTHONIOENCODING": "cp1252"}, b"MSE 4.20 \xc5\xb2\x85", b"\x96 Ri"),
        ({"PYTHONIOENCODING": "utf-8"}, "MSE 4.20 Å²…".encode(), "– 日".encode()),
    ],
)
def test_what_an_encoding_lacks(settings: dict[str, str], mse: bytes, dash: bytes) -> None:
    done = said(**settings)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert (done.returncode, lines[0], lines[-1]) == (0, mse, b"1999"), done.stderr
    assert dash in lines
    typed = mse.split()[2].removesuffix(b"...").removesuffix(b"\x85").removesuffix("…".encode())
    assert typed + b" by typer" in lines
    assert done.stderr.splitlines() == [typed + b" an error", b"all is done"]


@pytest.mark.parametrize("closes", ["os.close(1)", "read, write = os.pipe(); os.close(read); os.dup2(write, 1)"])
def test_output_that_nobody_reads(closes: str) -> None:
    start = f"import os, sys; {closes}; os.execv(sys.executable, [sys.executable, '-c', {SAYS!r}])"
    done = said(start, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"A2 an error\nall is done\n")


def test_a_training_goes_on_when_its_terminal_is_ascii_and_its_reader_has_left(
    mlflow_store: Path, tiny_data: Path, tiny_model: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "protcli",
        "train",
        "tiny",
        "--model-file",
        str(tiny_model),
        "--data",
        str(tiny_data),
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert (process.returncode, first.startswith(b"tiny: ")) == (0, True)
    (run,) = find_runs()
    assert (run.status, len(run.history("valid/mse"))) == ("FINISHED", 3)
