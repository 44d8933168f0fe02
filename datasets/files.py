"""Files and folders that exist complete or not at all: each is written as a draft, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from datasets.errors import InputError

SUFFIX = ".partial"


@contextlib.contextmanager
def draft_file(path: Path) -> Iterator[Path]:
    """Yield a draft to write to; it replaces path if the block succeeds and is deleted if it raises."""
    draft = path.with_name(path.name + SUFFIX)
    try:
        yield draft
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def draft_folder(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new, empty folder to write into; it becomes folder when the block succeeds, else it is deleted.

    overwrite: delete an existing folder first, once the draft is complete; without it an OSError is raised.
    """
    draft = folder.with_name(folder.name + SUFFIX)
    # A process that was killed leaves its draft behind.
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if overwrite:
            shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def made_folder(folder: Path) -> Path:
    """A folder that is there, made where it is not. Raises InputError where a file is in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder}: a file is in the place of this folder; give another one") from None
    return folder


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text through a draft, flushed to the disk before it replaces path."""
    with draft_file(path) as draft, draft.open("w", encoding="utf-8", errors="backslashreplace") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes through a draft, unflushed: flushing would slow down thousands of small images."""
    with draft_file(path) as draft:
        draft.write_bytes(content)
