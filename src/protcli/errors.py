"""The one exception that is meant for the user."""


class ProtcliError(Exception):
    """Something the user can mend, said in one sentence: what is wrong, where, what was expected, what to do.

    The command line prints the sentence without a traceback and exits with code 1.
    """
