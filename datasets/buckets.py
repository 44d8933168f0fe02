"""Images, videos and labels in an S3 bucket, fetched once into a folder that mirrors it.

The only module that imports pyarrow's file systems. Credentials and regions are those of every AWS tool
(AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws); other services of the protocol (MinIO, R2, Ceph) are named by
AWS_ENDPOINT_URL or by `?endpoint_override=HOST:PORT&scheme=http` after the address.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from filelock import FileLock

from datasets import archives, video
from datasets.errors import EnvironmentProblem, InputError
from datasets.files import draft_file, write_text
from datasets.formats import registry
from datasets.pixels import SUFFIXES

PREFIX = "s3://"
ADDRESS = re.compile(
    r"^s3://(?:(?P<user>[^/@?]*)@)?(?P<bucket>[^/?@]+)(?P<key>/[^?]*)?(?:\?(?P<query>.*))?$", re.IGNORECASE
)
ANONYMOUS = "anonymous"
# What a reader opens beside images and videos. Checkpoints, archives and documents below a folder stay
# where they are.
LABELS = frozenset({".txt", ".xml", ".json", ".yaml", ".yml"}) | registry.SUFFIXES
# Requests at a time: waiting for the first byte takes longer than a small image.
AT_ONCE = 16
CHUNK = 1 << 20
# Of the disk, left free beside what is fetched.
KEPT_FREE = 1_000_000_000
# Seconds between two lines of progress.
PATIENCE = 10.0


@dataclass(frozen=True)
class Stored:
    """A file of a bucket.

    key: its name in the bucket.
    size: bytes.
    modified: when it was stored, seconds since 1970.
    """

    key: str
    size: int
    modified: int


@dataclass(frozen=True)
class Fetched:
    """What an address names, on disk.

    path: the folder or file.
    origin: where it comes from, in words.
    """

    path: Path
    origin: str


def fetch(spec: str, say: Callable[[str], None] = lambda line: None) -> Fetched:
    """Fetch "s3://bucket/folder", or one image, video or archive, into data/s3 (SHIFTSCOPE_S3 if set).

    Files that are there with the size and time of the bucket's are not fetched again; what the bucket no
    longer has is deleted, if it was fetched for this address. An interrupted call goes on where it stopped,
    file by file. Without a connection, what was fetched before is used.

    Parameters
    ----------
    spec
        The address.
    say
        Receives how much there is to fetch, and how far it is every ten seconds.

    Returns
    -------
    Fetched
        The copy on disk.

    Raises
    ------
    InputError
        The address is malformed, or names nothing that can be read.
    EnvironmentProblem
        Without access, connection or disk space.
    """
    match = ADDRESS.match(spec)
    if not match or match["user"] not in (None, ANONYMOUS):
        # Not repeated: it may hold a key.
        reason = "credentials in an address end up in reports" if match else "this is no address of a bucket"
        raise InputError(
            f"{PREFIX}...: {reason}; write s3://BUCKET/FOLDER, and give credentials as for any AWS tool "
            "(AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or s3://anonymous@BUCKET/FOLDER)"
        )
    root = Path(os.environ.get("SHIFTSCOPE_S3") or Path("data", "s3")).absolute()
    return _fetch(spec, root, say)


@functools.cache
def _fetch(spec: str, root: Path, say: Callable[[str], None]) -> Fetched:
    """`fetch`, cached for the process, which asks for each address once."""
    match = ADDRESS.match(spec)
    assert match is not None
    server = parse_qs(match["query"] or "").get("endpoint_override") or [
        os.environ.get("AWS_ENDPOINT_URL") or ""
    ]
    folder = root / (re.sub(r"\W+", "-", server[0].partition("://")[2] or server[0]) or "aws")
    bucket, key = match["bucket"], (match["key"] or "").strip("/")
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in key.split("/") if key):
        raise InputError(f"{spec}: not a name of a folder or file in a bucket")
    folder.mkdir(parents=True, exist_ok=True)
    # By content of the address: "a b" and "a_b" are two, and a key may be longer than a file's name.
    manifest = folder / f".{hashlib.sha256(f'{bucket}/{key}'.encode()).hexdigest()[:24]}.json"
    with FileLock(folder / ".lock"):
        fetched_before = _read(manifest)
        try:
            with _translated_errors(spec):
                files, is_file = _listed(spec, bucket, key, match["user"], match["query"])
        except _Unreachable as problem:
            if fetched_before is None:
                raise EnvironmentProblem(str(problem)) from None
            files, is_file = [], bool(fetched_before["file"])
            say(
                f"  {spec}: no connection; using what was fetched before "
                f"({len(fetched_before['keys'])} files)"
            )
        else:
            try:
                _mirror(spec, files, folder / bucket, match, say)
            except _Unreachable as problem:
                raise EnvironmentProblem(
                    f"{problem}; run the same command again to go on where it stopped"
                ) from None
            keys = [file.key for file in files]
            for gone in set((fetched_before or {"keys": []})["keys"]) - set(keys):
                (folder / bucket / gone).unlink(missing_ok=True)
            write_text(manifest, json.dumps({"file": is_file, "keys": keys}))
    path = folder / bucket / key if key else folder / bucket
    return Fetched(path, f"fetched from {PREFIX}{bucket}/{key}")


class _Unreachable(Exception):
    """The service cannot be reached."""


def _connected(bucket: str, user: str | None, query: str | None) -> Any:
    """The file system of a bucket."""
    from pyarrow.fs import FileSystem

    who = f"{user}@" if user else ""
    system, _ = FileSystem.from_uri(f"{PREFIX}{who}{bucket}{f'?{query}' if query else ''}")
    return system


def _listed(
    spec: str, bucket: str, key: str, user: str | None, query: str | None
) -> tuple[list[Stored], bool]:
    """What an address names that can be read, and whether it names a single file.

    Raises InputError where that is nothing.
    """
    from pyarrow.fs import FileSelector, FileType

    system = _connected(bucket, user, query)
    place = f"{bucket}/{key}" if key else bucket
    info = system.get_file_info(place)
    if info.type == FileType.File:
        if Path(key).suffix.lower() not in SUFFIXES | video.SUFFIXES | archives.SUFFIXES:
            raise InputError(
                f"{spec}: what this file lists or labels is not fetched with it; give the folder that holds "
                "both"
            )
        return [Stored(key, info.size, int(info.mtime.timestamp()))], True
    if info.type == FileType.NotFound:
        # Also where the bucket itself is missing, which listing tells.
        system.get_file_info(FileSelector(bucket))
        raise InputError(f"{spec}: the bucket has no such folder or file")
    readable = SUFFIXES | video.SUFFIXES | LABELS
    files = [
        Stored(entry.path.removeprefix(f"{bucket}/"), entry.size, int(entry.mtime.timestamp()))
        for entry in system.get_file_info(FileSelector(place, recursive=True))
        if entry.type == FileType.File
        and Path(entry.path).suffix.lower() in readable
        and not {"", ".", ".."} & set(entry.path.split("/"))
    ]
    if not files:
        raise InputError(f"{spec}: there is no image, video or label file below it")
    return sorted(files, key=lambda file: file.key), False


def _mirror(
    spec: str, files: list[Stored], folder: Path, match: re.Match[str], say: Callable[[str], None]
) -> None:
    """Fetch the files that are not there as the bucket has them.

    Raises InputError and EnvironmentProblem as `fetch`.
    """
    missing = [file for file in files if not _is_current(folder / file.key, file)]
    if not missing:
        return
    size = sum(file.size for file in missing)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size + KEPT_FREE:
        raise EnvironmentProblem(
            f"{spec}: {size / 1e9:.1f} GB are to be fetched, and {folder} has {free / 1e9:.1f} GB; free some "
            "space, give a part of the bucket, or set SHIFTSCOPE_S3 to a folder with more"
        )
    say(f"  {spec}: fetching {len(missing):,} of {len(files):,} files ({size / 1e6:,.0f} MB) into {folder}")
    done, told = 0, time.monotonic()
    with _translated_errors(spec):
        system = _connected(match["bucket"], match["user"], match["query"])
        with ThreadPoolExecutor(AT_ONCE) as threads:
            tasks = {
                threads.submit(_copy, system, match["bucket"], file, folder / file.key): file
                for file in missing
            }
            try:
                for number, task in enumerate(as_completed(tasks), 1):
                    task.result()
                    done += tasks[task].size
                    if time.monotonic() > told + PATIENCE:
                        told = time.monotonic()
                        say(
                            f"  {number:,} of {len(missing):,} files, {done / 1e6:,.0f} "
                            f"of {size / 1e6:,.0f} MB"
                        )
            except BaseException:
                threads.shutdown(wait=True, cancel_futures=True)
                raise


def _is_current(path: Path, file: Stored) -> bool:
    """Whether a file is there as the bucket has it."""
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, int(status.st_mtime)) == (file.size, file.modified)


def _copy(system: Any, bucket: str, file: Stored, path: Path) -> None:
    """Fetch one file, whole or not at all; its time is the bucket's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft_file(path) as draft:
        with system.open_input_stream(f"{bucket}/{file.key}") as stream, draft.open("wb") as target:
            while chunk := stream.read(CHUNK):
                target.write(chunk)
        if draft.stat().st_size != file.size:
            raise OSError(f"{file.key}: {draft.stat().st_size} of {file.size} bytes came")
        os.utime(draft, (file.modified, file.modified))


@contextmanager
def _translated_errors(spec: str) -> Iterator[None]:
    """Turn what pyarrow raises into one line with a cause and a next step."""
    try:
        yield
    except ImportError:
        raise EnvironmentProblem(
            f"{spec}: this pyarrow was built without S3; install pyarrow from PyPI, or mount the bucket"
        ) from None
    except ValueError as error:
        # pyarrow's own words about an address, such as "Unexpected query parameter".
        cause = str(error).strip().splitlines()[0][:200]
        raise InputError(f"{spec}: {cause}; write s3://BUCKET/FOLDER?region=REGION") from None
    except OSError as error:
        lines = str(error).strip().splitlines()
        cause = lines[0][:200] if lines else type(error).__name__
        if "NO_SUCH_BUCKET" in cause:
            raise InputError(f"{spec}: there is no such bucket; check its name and the endpoint") from None
        if re.search(r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|status 40[13]|NO_CREDENTIALS", cause):
            raise EnvironmentProblem(
                f"{spec}: access is refused; give credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY), or s3://anonymous@... for a public bucket"
            ) from None
        if "NETWORK_CONNECTION" in cause or "curlCode" in cause:
            raise _Unreachable(
                f"{spec}: the service cannot be reached; check the connection, AWS_REGION and the endpoint"
            ) from None
        raise EnvironmentProblem(
            f"{spec}: {cause}; run the same command again to go on where it stopped"
        ) from None


def _read(manifest: Path) -> dict[str, Any] | None:
    """What was fetched for an address before, None where nothing was."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"file", "keys"} <= set(content) else None
