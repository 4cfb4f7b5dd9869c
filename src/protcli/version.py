"""The version of protcli and its commit, for those that must not import the package itself."""

VERSION = "0.2.0"


def git_commit() -> str:
    """The commit of the running protcli, with `-dirty` if its files differ from it; empty outside a checkout."""
    import os
    import subprocess
    from pathlib import Path

    here = Path(__file__).parent
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        # `--error-unmatch` keeps a protcli installed inside another project's checkout from reporting that one's commit
        for command in (["ls-files", "--error-unmatch", __file__], ["describe", "--always", "--dirty", "--abbrev=40"]):
            answer = subprocess.run(
                ["git", "-C", str(here), *command],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=True,
                env=environment,
            )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()
