"""How far a source may lead. A dataset from strangers names its own files, and no others of this machine.

Names in a data.yaml, in lists of images and in COCO files, and symbolic links, can point anywhere; what they point at would end in a report that is
shown around. So they are followed within the source's own folder only, and within folders that the user allows.
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
    """Folders (or single files), resolved, that a source may read from."""

    roots: tuple[Path, ...]

    @classmethod
    def of(cls, roots: Iterable[Path]) -> Bounds:
        """Bounds of these folders, links resolved."""
        return cls(tuple(dict.fromkeys(Path(os.path.realpath(root)) for root in roots)))

    def hold(self, path: Path) -> bool:
        """Whether a path, after all its links, lies within."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self.roots)

    def wider(self, *roots: Path) -> Bounds:
        """These bounds and more folders."""
        return Bounds.of([*self.roots, *roots])


def vouch(file: Path, roots: Iterable[Path], cache: Path) -> None:
    """Remember, in our own folder, that a data.yaml which we wrote may lead to these folders: staged and handed-off datasets name the images they were made from.

    It holds for this content of the yaml and of the lists beside it, at this place.
    """
    place = _entry(file, cache)
    place.parent.mkdir(parents=True, exist_ok=True)
    content = {"card": str(file), "content": _digest(file), "roots": [str(root) for root in roots]}
    place.write_text(json.dumps(content), encoding="utf-8")


def vouched(file: Path, cache: Path) -> tuple[Path, ...]:
    """Folders that a data.yaml of ours may lead to; none for everybody else's."""
    try:
        content = json.loads(_entry(file, cache).read_text(encoding="utf-8"))
        return tuple(Path(root) for root in content["roots"]) if vouched_for(file, cache) else ()
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def vouched_for(file: Path, cache: Path) -> bool:
    """Whether a file is one that we wrote here, and is as we wrote it."""
    try:
        content = json.loads(_entry(file, cache).read_text(encoding="utf-8"))
        return bool(content["content"] == _digest(file))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(file: Path) -> str:
    files = [file, *sorted(path for path in file.parent.glob("*.txt") if path.is_file())]
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()


def expanded(text: str) -> Path:
    """A path as people write it, with ~ for home; ~ of a user that does not exist is a name like any other."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _entry(file: Path, cache: Path) -> Path:
    key = hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:24]
    return cache / REGISTER / f"{key}.json"
