"""Unpacking archives from strangers: regular files only, inside the folder only, and no more than was asked for."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from datasets.errors import EnvironmentProblem, InputError

# The largest public detection sets have about two million images in several archives; one archive of this many is no ordinary dataset.
MAX_FILES = 1_000_000
MAX_DEPTH = 32
# Images do not shrink when packed and text does by ten or twenty; deflate can reach a thousand. Small archives may unfold as they like.
MAX_RATIO, SMALL = 100, 1_000_000_000
CHUNK = 1 << 20
# Errors of the system that an archive causes: offsets it made up, broken streams (which have no number), names too long, a file that is a folder too.
OF_THE_ARCHIVE = (None, errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


@dataclass(frozen=True)
class Member:
    """One entry. name: as written. reason: why it is passed over, empty for a regular file."""

    name: str
    size: int
    reason: str
    content: zipfile.ZipInfo | tarfile.TarInfo


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack a zip or tar into a folder that is there whole or not at all, and return what was passed over (links, devices, names that repeat), in words.

    Raises InputError for something that is no archive, is broken or encrypted, or holds names that lead out of the folder, too many files or too much for its size;
    EnvironmentProblem when the disk has no room for it. Nothing is left behind then.
    """
    draft = folder.with_name(folder.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        passed = _unpack(archive, draft)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        machine = isinstance(error, OSError) and error.errno not in OF_THE_ARCHIVE
        if machine or isinstance(error, (InputError, EnvironmentProblem)) or not isinstance(error, Exception):
            raise
        # Whatever zipfile, tarfile and the decompressors raise: bad headers, encryption, unknown methods.
        raise InputError(f"{archive}: cannot be unpacked ({error})") from None
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return passed


def _unpack(archive: Path, draft: Path) -> list[str]:
    if zipfile.is_zipfile(archive):
        opened: zipfile.ZipFile | tarfile.TarFile = zipfile.ZipFile(archive)
    elif tarfile.is_tarfile(archive):
        opened = tarfile.open(archive)  # noqa: SIM115 - closed below, like its sibling
    else:
        raise InputError(f"{archive}: is no zip or tar archive")
    passed: list[str] = []
    files: dict[PurePosixPath, Member] = {}
    with closing(opened):
        total = 0
        for count, member in enumerate(_members(opened), start=1):
            total += member.size
            _check(archive, member.name, count, total)
            place = PurePosixPath(member.name.replace("\\", "/"))
            if member.reason:
                passed.append(f"{member.name}: {member.reason}")
            elif place in files:
                passed.append(f"{member.name}: stands twice; the first was taken")
            else:
                files[place] = member
        free = shutil.disk_usage(draft).free
        if total > free:
            raise EnvironmentProblem(
                f"{archive}: needs {total / 1e9:.1f} GB unpacked, {free / 1e9:.1f} GB are free in {draft.parent}; make room"
            )
        for place, member in files.items():
            target = draft / place
            target.parent.mkdir(parents=True, exist_ok=True)
            with _content(opened, member) as source, open(target, "xb") as copy:
                # Both libraries read no more than the archive's list says.
                shutil.copyfileobj(source, copy, CHUNK)
    return passed


def _members(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[Member]:
    """Entries but folders."""
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if not info.is_dir():
                reason = "" if kind in (0, stat.S_IFREG) else "a link or device"
                yield Member(info.filename, info.file_size, reason, info)
        return
    for entry in opened:
        if not entry.isdir():
            yield Member(entry.name, entry.size, "" if entry.isreg() else "a link or device", entry)


def _check(archive: Path, name: str, count: int, total: int) -> None:
    """Raise InputError for an entry that no honest dataset has."""
    plain = name.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    if plain.startswith("/") or ".." in parts or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise InputError(
            f"{archive}: holds {name[:200]!r}, which leads out of its folder; nothing was unpacked"
        )
    if not parts or len(parts) > MAX_DEPTH or any(len(os.fsencode(part)) > 255 for part in parts):
        raise InputError(
            f"{archive}: holds {name[:200]!r}, a name too deep or too long; nothing was unpacked"
        )
    if count > MAX_FILES:
        raise InputError(f"{archive}: holds more than {MAX_FILES:,} files; nothing was unpacked")
    if total > SMALL and total > MAX_RATIO * os.path.getsize(archive):
        raise InputError(
            f"{archive}: would unfold to more than {MAX_RATIO} times its size, which no dataset of images does; nothing was unpacked"
        )


def _content(opened: zipfile.ZipFile | tarfile.TarFile, member: Member) -> IO[bytes]:
    if isinstance(opened, zipfile.ZipFile):
        assert isinstance(member.content, zipfile.ZipInfo)
        return opened.open(member.content)
    assert isinstance(member.content, tarfile.TarInfo)
    content = opened.extractfile(member.content)
    if content is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    return content
