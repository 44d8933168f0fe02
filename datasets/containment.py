"""Limits on which files a source may read.

A data.yaml, a list of images, a COCO file or a symbolic link can point at any file of this machine, and what
it points at would end in a report that is passed on. Such paths are therefore followed only inside the
source's own folder and folders that the user allows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# The option that widens the bounds, as messages name it.
OPTION = "--allow-root"
REGISTER = "vouched"


@dataclass(frozen=True)
class Bounds:
    """What a source may read.

    roots: folders or single files, links resolved.
    """

    roots: tuple[Path, ...]

    @classmethod
    def of(cls, roots: Iterable[Path]) -> Bounds:
        """Bounds of these folders, links resolved."""
        return cls(tuple(dict.fromkeys(Path(os.path.realpath(root)) for root in roots)))

    def contain(self, path: Path) -> bool:
        """Whether a path lies within the bounds once all its links are resolved."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self.roots)

    def wider(self, *roots: Path) -> Bounds:
        """These bounds and more folders."""
        return Bounds.of([*self.roots, *roots])


def register_roots(file: Path, roots: Iterable[Path], cache: Path) -> None:
    """Record that a data.yaml written by Shiftscope may lead to other folders.

    Staged and exported datasets refer to the images they are made from. The permission holds for this path
    and for the present content of the yaml and the lists beside it.

    Parameters
    ----------
    file
        The data.yaml.
    roots
        Folders that it may lead to.
    cache
        Shiftscope's own folder, which holds the record.
    """
    record = _record_path(file, cache)
    record.parent.mkdir(parents=True, exist_ok=True)
    content = {"card": str(file), "content": _digest(file), "roots": [str(root) for root in roots]}
    record.write_text(json.dumps(content), encoding="utf-8")


def registered_roots(file: Path, cache: Path) -> tuple[Path, ...]:
    """Folders that a data.yaml may lead to; none unless Shiftscope wrote it here and it is unchanged."""
    try:
        content = json.loads(_record_path(file, cache).read_text(encoding="utf-8"))
        return tuple(Path(root) for root in content["roots"]) if is_registered(file, cache) else ()
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def is_registered(file: Path, cache: Path) -> bool:
    """Whether Shiftscope wrote this file here and it has not changed since."""
    try:
        content = json.loads(_record_path(file, cache).read_text(encoding="utf-8"))
        return bool(content["content"] == _digest(file))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(file: Path) -> str:
    """Hash over the content of a file and of the lists beside it."""
    files = [file, *sorted(path for path in file.parent.glob("*.txt") if path.is_file())]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def expanded(text: str) -> Path:
    """A path as written, with ~ expanded; the ~ of a user that does not exist stays part of the name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _record_path(file: Path, cache: Path) -> Path:
    """Where the record of a file is kept."""
    key = hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:24]
    return cache / REGISTER / f"{key}.json"
