"""What a run is made with, besides its configuration: device, commit and versions."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from protcli.tracking.keys import Param
from protcli.version import VERSION

PACKAGES = ("torch", "torchvision", "mlflow", "lightning-fabric", "numpy", "pyarrow")


def conditions(device: torch.device) -> dict[str, str]:
    """Parameters of a run: its device's name, the commit, and the versions of all that a result may depend on."""
    return {
        Param.DEVICE_NAME: _device_name(device),
        Param.COMMIT: git_commit(),
        Param.PROTCLI: VERSION,
        Param.PYTHON: platform.python_version(),
        **{f"{Param.VERSION_SECTION}{package}": version(package) for package in PACKAGES},
    }


def _device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's architecture and the vector instructions that torch uses: they decide bits."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def other_conditions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What has changed since a run was made, a clause each."""
    return [
        f"{key} is {now.get(key) or 'unknown'}, was {value or 'unknown'}"
        for key, value in before.items()
        if now.get(key, "") != value
    ]


def git_commit() -> str:
    """The commit of the running protcli, with `-dirty` if its files differ from it; empty outside a checkout."""
    here = Path(__file__).parent
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        # `--error-unmatch` keeps a protcli installed inside another project's checkout from reporting that one's commit
        for command in (["ls-files", "--error-unmatch", __file__], ["describe", "--always", "--dirty", "--abbrev=40"]):
            answer = subprocess.run(
                ["git", "-C", str(here), *command], capture_output=True, text=True, check=True, env=environment
            )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()
