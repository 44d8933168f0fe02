"""Files that are there whole or not at all, and folders that one command at a time writes into."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.errors import EnvironmentProblem


def write_text(path: Path, text: str) -> None:
    """Write beside the target and rename: nobody ever reads half a file."""
    draft = path.with_name(path.name + ".partial")
    with draft.open("w", encoding="utf-8", errors="backslashreplace") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(path)


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder. Raises EnvironmentProblem when another run holds it; a dead run's lock is released by the system."""
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
