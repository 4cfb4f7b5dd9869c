"""What killed processes leave on a machine, beside their runs."""

import shutil
from contextlib import suppress

from protcli.errors import ProtcliError
from protcli.experiments.running.run_folder import waiting_folders
from protcli.process import remove_left_scratch
from protcli.tracking.journal import journal_path
from protcli.tracking.keys import File
from protcli.tracking.run import find_run


def remove_leftovers() -> int:
    """Remove scratch folders of processes that are gone, and the waiting files of runs that need none.

    The files of a run that can still be resumed are kept. Returns how many folders were removed.
    """
    removed = remove_left_scratch()
    for folder in waiting_folders():
        with suppress(ProtcliError):  # a run that this store does not know may be in another one
            run = find_run(folder.name)
            can_go_on = run.status != "FINISHED" and File.CONFIG in run.files()
            if not run.is_being_written and not can_go_on and not journal_path(folder.name).exists():
                shutil.rmtree(folder)
                removed += 1
    return removed
