"""All benchmarks as one table, in Markdown and as JSON with versions, processor and commit.

    python benchmarks/bench.py [NAME...] [--device cuda] [--out benchmarks/results]
    python benchmarks/bench.py --profile improved

Without names all that the device has are measured. On a bare GPU machine PYTHONPATH=src, torch, torchvision,
lightning-fabric, safetensors, scipy, pydantic and psutil are enough for those of a GPU. A goal is of the median.
"""

import argparse
import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported; as `protcli` sets them
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from row import LeftOut, Row, Setting

MEASUREMENTS = {
    "cpu": (
        "step", "keras_step", "memory", "startup", "tracking", "import_rate", "evaluation", "scaling", "cost",
        "large_store", "communication",
    ),
    "cuda": ("step", "memory", "evaluation", "cost", "throughput"),
}  # fmt: skip
PACKAGES = ("torch", "torchvision", "lightning-fabric", "numpy", "mlflow", "pyarrow", "tensorflow-cpu", "keras")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = sorted({name for names in MEASUREMENTS.values() for name in names})
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(known)}")
    parser.add_argument("--device", choices=MEASUREMENTS, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=Setting.seconds, help="of one comparison, about")
    parser.add_argument("--smallest", action="store_true", help="once and small: to see that it works")
    parser.add_argument("--out", type=Path, help="folder for DATE-DEVICE.json and .md")
    parser.add_argument("--profile", nargs="+", metavar="MODEL", help="show where the time of a step goes instead")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no benchmark {unknown.pop()!r}: choose from {', '.join(known)}")
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out} is no folder")
    setting = Setting(options.device, options.seconds, options.smallest)
    if options.profile:
        profile(options.profile, setting)
        return 0
    about, started = conditions(setting), time.perf_counter()
    rows: dict[str, list[Row]] = {}
    left_out: dict[str, str] = {}
    failed = False

    def save() -> None:  # after each row: what was measured remains when the rest is stopped
        about["minutes"] = round((time.perf_counter() - started) / 60, 1)
        if options.out is not None:
            write(options.out / "-".join([about["date"], options.device, *options.names]), about, rows, left_out)

    for name in options.names or MEASUREMENTS[options.device]:
        rows[name] = []
        try:
            for row in importlib.import_module(name).rows(setting):
                print(f"{name}: {row.what}: {number(row.figure)} {row.unit}", file=sys.stderr, flush=True)
                rows[name].append(row)
                save()
        except LeftOut as reason:
            left_out[name] = str(reason)
        except Exception as error:  # the others are still worth having
            left_out[name] = f"failed: {type(error).__name__}: {error}"
            failed = True
        if name in left_out:
            print(f"{name}: {left_out[name]}", file=sys.stderr, flush=True)
            save()
    print(to_markdown(about, rows, left_out))
    return 1 if failed else 0


def write(path: Path, about: dict, rows: dict[str, list[Row]], left_out: dict[str, str]) -> None:
    """Write `path`.json and `path`.md."""
    content = about | {
        "rows": [
            {"measurement": name} | asdict(row) | {"goal": row.goal, "met": row.met}
            for name, of_name in rows.items()
            for row in of_name
        ],
        "left_out": left_out,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path.with_name(f"{path.name}.md").write_text(to_markdown(about, rows, left_out), encoding="utf-8")


def conditions(setting: Setting) -> dict[str, object]:
    """What the figures depend on: machine, versions, commit."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    machine = {"processor": processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if setting.device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "machine": machine,
        "versions": versions,
        "smallest": setting.smallest,
    }


def processor() -> str:
    """Its model, where the system tells, and its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()} ({platform.machine()})"


def commit() -> str:
    """The commit of this checkout, with `-dirty` if its files differ from it; empty if it is none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def to_markdown(about: dict, rows: dict[str, list[Row]], left_out: dict[str, str]) -> str:
    """The page: what was measured where, the table, and what was left out."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    machine = about["machine"]
    where = ", ".join(filter(None, [machine.get("gpu"), machine["processor"]]))
    lines = [
        f"# Benchmarks, {about['date']}",
        "",
        f"{where}; {machine['cores']} cores, {machine['threads']} threads; {versions}; commit "
        f"{about['commit'] or 'unknown'}; {about['minutes']} minutes{', smallest form' if about['smallest'] else ''}.",
        "Median, lowest and highest of the rounds, in which what is compared takes turns; a ratio is of one round.",
        "",
        "| | | median | lowest to highest | unit | goal | |",
        "|---|---|---:|---:|---|---:|---|",
    ]
    for name, of_name in rows.items():
        for row in of_name:
            met = {None: "", True: "met", False: "**missed**"}[row.met]
            lines.append(
                f"| {name} | {row.what} | {number(row.figure)} | {number(row.low)} to {number(row.high)} | {row.unit} "
                f"| {row.goal} | {met} |"
            )
    lines += ["", *(f"{name} was left out: {reason}." for name, reason in left_out.items()), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def number(value: float) -> str:
    """With three digits that count."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def profile(models: list[str], setting: Setting) -> None:
    """Print torch's table of the slowest operations in three steps of each model, bare and in the training loop."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled
    from training_step import bare_step, batches_of, loop, made_up, make_case, make_network

    from protcli.models.zoo import find_model
    from protcli.training.engine import keep_memory

    keep_memory()
    cuda = setting.device == "cuda"
    for name in models:
        size, length = (2, 64) if setting.smallest else (8, 256)
        batches, loss = batches_of(made_up(size, length) * 8, size, length), find_model(name).recipe.loss
        ways = {
            "bare": bare_step(make_network(name), make_case(size, length, setting.device), loss_name=loss),
            "in the loop": partial(next, loop(make_network(name), batches, setting.device, loss_name=loss)),
        }
        for way, step in ways.items():
            for _ in range(4):  # the memory of gradients and of the optimiser's state is new to the first ones
                step()
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
            with profiled(activities=activities) as profiler:
                for _ in range(3):
                    step()
            print(f"{name}, batch {size}, length {length}, three steps {way}")
            order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
            print(profiler.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=40))


def alone(file: str) -> None:
    """Measure only what this file measures, as a program."""
    sys.exit(main([Path(file).stem, *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
