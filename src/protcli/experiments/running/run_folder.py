"""The folder of a run's files while it is being written, so that a killed process loses none of them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from protcli.cache import cache_folder
from protcli.tracking.keys import File, Tag
from protcli.tracking.run import Run

log = logging.getLogger("protcli")


@contextmanager
def run_folder(run: Run) -> Iterator[Path]:
    """The folder of a run's files; protcli's log and all warnings go into its log.txt.

    If MLflow keeps artifacts in a local folder, that folder is used, and every file is an artifact as soon as it is
    complete. Otherwise it is a folder in the user's cache, whose files become artifacts when the block ends, however
    it ends; if the process is killed, it stays there and a later process on the same machine finds it.
    """
    folder = run.local_artifacts
    is_remote = folder is None
    if folder is None:
        folder = cache_folder() / "runs" / run.id
        if not folder.exists():
            run.download(folder)  # of a run started on another machine
    (folder / File.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    handler = _RunLogHandler(folder / File.LOG)
    loggers = (log, logging.getLogger("py.warnings"))
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logging.captureWarnings(True)
    try:
        yield folder
        log.info("finished")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            log.info("stopped before it was finished")
        else:
            log.error("stopped by %s: %s", type(error).__name__, error)
        raise
    finally:
        logging.captureWarnings(False)
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
        run.set_tags({Tag.DETERMINISTIC: not handler.nondeterministic})
        if is_remote:
            run.log_artifact(folder, move=True)


def publish(run: Run, folder: Path, names: Sequence[str]) -> None:
    """Store some of a run's files at once: what it takes to resume it must be known where MLflow keeps artifacts."""
    if run.local_artifacts is None:
        for name in names:
            if (folder / name).is_file():
                run.log_artifact(folder / name)


def withdraw(run: Run, folder: Path, path: str) -> None:
    """Remove a file from the folder and from the run's artifacts, where a process that was stopped has stored it."""
    (folder / path).unlink(missing_ok=True)
    if run.local_artifacts is None:
        run.delete_artifact(path)


def waiting_folders() -> list[Path]:
    """The folders of runs in the cache: of those being written, and of those whose process was killed."""
    return sorted(path for path in (cache_folder() / "runs").glob("*") if path.is_dir())


class _RunLogHandler(logging.FileHandler):
    """Writes a run's log, and notes torch's warning that an algorithm is not deterministic."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")  # appends: a resumed run has one log
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.nondeterministic = False

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk ends a training where it matters, not at a line of its log."""

    def close(self) -> None:
        with suppress(OSError):  # what could not be written
            super().close()

    def emit(self, record: logging.LogRecord) -> None:
        self.nondeterministic |= "deterministic" in record.getMessage()
        super().emit(record)
