"""The exception for errors that the user can fix."""


class ProtcliError(Exception):
    """Something the user can fix, in one sentence: what is wrong, where, what was expected, what to do.

    The command line prints the sentence without a traceback and exits with code 1.
    """
