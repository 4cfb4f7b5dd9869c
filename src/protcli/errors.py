"""The exceptions that are no defect: an error that the user can fix, and being told to stop."""


class ProtcliError(Exception):
    """Something the user can fix, in one sentence: what is wrong, where, what was expected, what to do.

    The command line prints the sentence without a traceback and exits with code 1.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM, with which a scheduler ends a job: everything is kept as on Ctrl-C, and the exit code says which."""


def exit_code(stop: KeyboardInterrupt) -> int:
    """128 and the number of the signal: 130 after Ctrl-C, 143 after SIGTERM."""
    return 143 if isinstance(stop, Terminated) else 130
