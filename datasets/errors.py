"""The two ways a run can be refused. Messages name the file (and line), the cause and the next step, in one line."""


class InputError(Exception):
    """What the user gave cannot be used: a missing folder, a broken checkpoint, class names that do not match."""


class EnvironmentProblem(Exception):
    """The machine lacks something: a database that does not start, a package that is absent, a full disk."""
