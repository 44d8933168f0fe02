"""Unpacking untrusted archives: regular files only, inside the target folder only, within limits of size."""

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
from datasets.files import draft_folder

SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".gz"})
# The largest public detection datasets have about two million images, spread over several archives.
MAX_FILES = 1_000_000
MAX_DEPTH = 32
# Images barely compress, text by a factor of 10 to 20, and deflate reaches 1,000. Archives that expand to
# less than SMALL bytes are exempt.
MAX_RATIO, SMALL = 100, 1_000_000_000
CHUNK = 1 << 20
# Errors that an archive causes rather than the machine: false offsets, broken streams (which have no number),
# names that are too long, a name that is both a file and a folder.
ARCHIVE_ERRORS = (None, errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


@dataclass(frozen=True)
class Member:
    """One entry of an archive.

    name: as written.
    size: unpacked, in bytes.
    reason: why it is skipped; empty for a regular file.
    content: the library's own record of it.
    """

    name: str
    size: int
    reason: str
    content: zipfile.ZipInfo | tarfile.TarInfo


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack a zip or tar. The folder exists only once it is complete.

    Parameters
    ----------
    archive
        The archive.
    folder
        The folder to unpack into.

    Returns
    -------
    list[str]
        Entries that were skipped (links, devices, repeated names), in words.

    Raises
    ------
    InputError
        If it is not an archive, is broken or encrypted, or has names that lead out of the folder, too many
        files, or more content than its size allows. Nothing is left behind.
    EnvironmentProblem
        If the disk has too little room. Nothing is left behind.
    """
    with draft_folder(folder, overwrite=True) as draft:
        try:
            return _unpack(archive, draft)
        except (InputError, EnvironmentProblem):
            raise
        # Whatever zipfile, tarfile and the decompressors raise: bad headers, encryption, unknown methods.
        except Exception as error:
            if isinstance(error, OSError) and error.errno not in ARCHIVE_ERRORS:
                raise
            raise InputError(f"{archive}: cannot be unpacked ({error})") from None


def _unpack(archive: Path, draft: Path) -> list[str]:
    """Check every entry, then write the regular files; returns the skipped entries, in words."""
    if zipfile.is_zipfile(archive):
        opened: zipfile.ZipFile | tarfile.TarFile = zipfile.ZipFile(archive)
    elif tarfile.is_tarfile(archive):
        opened = tarfile.open(archive)  # noqa: SIM115 - closed below, like its sibling
    else:
        raise InputError(f"{archive}: not a zip or tar archive")
    skipped: list[str] = []
    files: dict[PurePosixPath, Member] = {}
    with closing(opened):
        total = 0
        for count, member in enumerate(_members(opened), start=1):
            total += member.size
            _check(archive, member.name, count, total)
            name = PurePosixPath(member.name.replace("\\", "/"))
            if member.reason:
                skipped.append(f"{member.name}: {member.reason}")
            elif name in files:
                skipped.append(f"{member.name}: occurs twice; the first was taken")
            else:
                files[name] = member
        free = shutil.disk_usage(draft).free
        if total > free:
            raise EnvironmentProblem(
                f"{archive}: needs {total / 1e9:.1f} GB unpacked, but {free / 1e9:.1f} GB are free in "
                f"{draft.parent}; free some space"
            )
        for name, member in files.items():
            target = draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with _content(opened, member) as source, open(target, "xb") as copy:
                # Both libraries stop at the size that the archive's list gives.
                shutil.copyfileobj(source, copy, CHUNK)
    return skipped


def _members(opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[Member]:
    """Entries other than folders."""
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
    """Raise InputError for an entry that no legitimate dataset has."""
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
            f"{archive}: would expand to more than {MAX_RATIO} times its size, which no dataset of images "
            "does; nothing was unpacked"
        )


def _content(opened: zipfile.ZipFile | tarfile.TarFile, member: Member) -> IO[bytes]:
    """Open the content of an entry."""
    if isinstance(opened, zipfile.ZipFile):
        assert isinstance(member.content, zipfile.ZipInfo)
        return opened.open(member.content)
    assert isinstance(member.content, tarfile.TarInfo)
    content = opened.extractfile(member.content)
    if content is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    return content
