"""The code that made a run: commit and versions."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from protcli import __version__
from protcli.tracking.keys import Param

PACKAGES = ("torch", "torchvision", "mlflow", "lightning-fabric", "numpy", "pyarrow")


def code_versions() -> dict[str, str]:
    """Parameters of a run: the commit, and the versions of protcli, Python and packages a result may depend on."""
    return {
        Param.COMMIT: git_commit(),
        Param.PROTCLI: __version__,
        Param.PYTHON: platform.python_version(),
        **{f"{Param.VERSION_SECTION}{package}": version(package) for package in PACKAGES},
    }


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
