"""Start FiftyOne's database beside other work: mongod takes seconds to answer, in which a report can be
measured.

A process of its own starts it and holds it until the report joins: FiftyOne ends a mongod with the last
program that uses it. As a thread it would share the interpreter, and the streams that FiftyOne is kept away
from.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from datasets.errors import EnvironmentProblem


@contextmanager
def database_started_early() -> Iterator[None]:
    """Hold FiftyOne's database open while the body runs. What goes wrong is left to the report's own
    connection, which says it.
    """
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        yield
        return
    # -P: a folder of this name in the working folder is not ours.
    command = [sys.executable, "-P", "-m", "reports.workbench.early_start"]
    holder = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        # The end of its stdin ends it, also where this process is killed. Nothing waits for that but a
        # thread.
        assert holder.stdin is not None
        holder.stdin.close()
        threading.Thread(target=holder.wait, daemon=True).start()


def _hold() -> None:
    """Connect, and wait for the end of stdin."""
    from reports.workbench.connection import database

    with suppress(EnvironmentProblem, KeyboardInterrupt), database():
        sys.stdin.buffer.read()


if __name__ == "__main__":
    _hold()
