"""Output folders that one command at a time writes into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.errors import EnvironmentProblem


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder; the system releases the lock of a process that dies.

    Raises EnvironmentProblem when another process holds it.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise EnvironmentProblem(
            f"{folder}: another command is writing there; wait for it, or give --out"
        ) from None
    try:
        yield
    finally:
        lock.release()
