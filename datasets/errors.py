"""The two reasons a run is refused.

Each message names the file (and line), the cause and the next step, in one line.
"""


class InputError(Exception):
    """The input cannot be used: a missing folder, a broken checkpoint, class names that do not match."""


class EnvironmentProblem(Exception):
    """The machine lacks something: the database does not start, a package is missing, the disk is full."""


def cause_of(error: Exception) -> str:
    """What is wrong with a file's content, in words, of an error that reading it raised."""
    if isinstance(error, KeyError) and error.args:
        key = str(error.args[0])
        return key if " " in key else f"{key!r} is missing"
    return str(error)
