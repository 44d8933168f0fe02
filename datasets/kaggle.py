"""Kaggle datasets by handle: pinned, complete, and with their licence. The only file that imports kagglehub."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from filelock import FileLock

from datasets.archives import unpack
from datasets.errors import EnvironmentProblem, InputError

PREFIX = "kaggle:"
HANDLE = re.compile(r"^(?P<owner>[\w-]+)/(?P<name>[\w.-]+)(/versions/(?P<version>[1-9]\d*))?$")
# HTTP status -> what it means here and what to do. Kaggle answers 403 also for names that do not exist.
ANSWERS = {
    401: "Kaggle does not accept the credentials; put a fresh token into ~/.kaggle/access_token or KAGGLE_API_TOKEN",
    403: "Kaggle refuses access, or has no such dataset; check the handle, accept the dataset's terms on its page, and give credentials (~/.kaggle/access_token or KAGGLE_API_TOKEN)",
    404: "Kaggle has no such dataset or version; check the handle on the dataset's page",
    429: "Kaggle asks to slow down; try again in a few minutes",
}
# A download that breaks goes on where it stopped, so often; each time at least a piece more has come.
TRIES = 4
# Seconds to connect, and between two pieces of an answer; kagglehub itself would wait for ever.
TIMEOUT = (15.0, 60.0)


@dataclass(frozen=True)
class Fetched:
    """A dataset on disk. handle: with its version. licence: as Kaggle names it today, empty where it could not be asked. notes: what was passed over."""

    folder: Path
    handle: str
    licence: str
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Where it comes from, and what of its archive was passed over, in words."""
        passed = f"; of its archive, passed over: {', '.join(self.notes[:5])}" if self.notes else ""
        return f"Kaggle {self.handle}, licence: {self.licence or 'not known'}{passed}"


def fetch(spec: str, say: Callable[[str], None] = lambda line: None) -> Fetched:
    """Bring "kaggle:owner/dataset[/versions/N]" to data/kaggle (KAGGLEHUB_CACHE if set).

    Without a version the current one is taken, and said. What is there and whole is not downloaded again: a manifest beside it knows every file's size and
    SHA-256, kagglehub's own marker knows nothing. A download that breaks goes on where it stopped, now or in the next call. Archives are unpacked by `archives.unpack`.

    Raises InputError for a malformed or unknown handle and for an archive that is no dataset, EnvironmentProblem without access, network or room.
    """
    match = HANDLE.match(spec.removeprefix(PREFIX))
    if not match:
        raise InputError(f"{spec}: expected kaggle:owner/dataset or kaggle:owner/dataset/versions/3")
    os.environ.setdefault("KAGGLEHUB_CACHE", str(Path("data", "kaggle").absolute()))
    cache = Path(os.environ["KAGGLEHUB_CACHE"]).absolute()
    os.environ["KAGGLEHUB_CACHE"] = str(cache)
    return _fetch(spec, match["owner"], match["name"], int(match["version"] or 0), cache, say)


@functools.cache
def _fetch(
    spec: str, owner: str, name: str, version: int, cache: Path, say: Callable[[str], None]
) -> Fetched:
    """Once in a process: what was whole a moment ago need not be asked for again."""
    dataset_folder = cache / "datasets" / owner / name
    dataset_folder.mkdir(parents=True, exist_ok=True)
    with FileLock(dataset_folder / ".lock"), answers(spec), patience():
        metadata: Any = None
        if not version:
            version, metadata = _current(spec, owner, name, dataset_folder, say)
        handle = f"{owner}/{name}/versions/{version}"
        manifest = dataset_folder / f"{version}.manifest.json"
        kept = _read(manifest)
        folder = dataset_folder / "versions" / str(version)
        # Without a manifest nothing says that what lies there is whole: a kill may have come between.
        damage = _damage(folder, kept) if kept else "no manifest was written" if folder.is_dir() else ""
        if kept and not damage:
            return Fetched(folder, handle, kept["licence"], tuple(kept["notes"]))
        if damage:
            say(f"  {spec}: {damage} since the download; downloading again")
        passed: list[str] = []
        found = _download(spec, handle, passed, say, force=bool(damage))
        metadata = metadata or _metadata(owner, name)
        licence = str(getattr(metadata, "license_name", "") or "")
        if found != folder:
            # A notebook of Kaggle's or Colab's mounts its datasets, read-only and complete.
            return Fetched(found, handle, licence)
        say(f"  {spec}: version {version}, licence: {licence or 'not known'}")
        _write(manifest, handle, licence, passed, folder)
        return Fetched(folder, handle, licence, tuple(passed))


def _current(
    spec: str, owner: str, name: str, dataset_folder: Path, say: Callable[[str], None]
) -> tuple[int, Any]:
    """The current version and what Kaggle says about the dataset; without a network, the newest version that is here."""
    from requests.exceptions import ConnectionError as NoConnection

    try:
        metadata = _ask(owner, name)
    except NoConnection:
        here = [int(path.name.split(".")[0]) for path in dataset_folder.glob("*.manifest.json")]
        if not here:
            raise
        say(f"  {spec}: no connection to Kaggle; version {max(here)} is here and is taken")
        return max(here), None
    version = int(metadata.current_version_number or 0)
    if not version:
        raise InputError(f"{spec}: Kaggle names no version of this dataset; give one as {spec}/versions/1")
    return version, metadata


def _metadata(owner: str, name: str) -> Any:
    """What Kaggle says about a dataset, None where it does not: a dataset that is here can be used without."""
    from requests.exceptions import RequestException

    try:
        return _ask(owner, name)
    except (RequestException, ValueError):
        return None


def _ask(owner: str, name: str) -> Any:
    from kagglehub.clients import build_kaggle_client
    from kagglehub.exceptions import handle_call
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = owner, name
    with build_kaggle_client() as client:
        return handle_call(lambda: client.datasets.dataset_api_client.get_dataset(request))


def _download(spec: str, handle: str, passed: list[str], say: Callable[[str], None], *, force: bool) -> Path:
    """Kagglehub's download with our unpacking, taken up again when the connection breaks."""
    import kagglehub
    from kagglehub import http_resolver
    from requests.exceptions import ChunkedEncodingError

    if not hasattr(http_resolver, "_extract_archive"):
        raise EnvironmentProblem(
            f"{spec}: this version of kagglehub unpacks archives in a way that cannot be limited; install the version in requirements.lock"
        )

    def unpacking(archive: str, folder: str) -> None:
        try:
            passed.extend(unpack(Path(archive), Path(folder)))
        except InputError:
            # kagglehub would take what is there for a finished download, and never check it again.
            Path(archive).unlink(missing_ok=True)
            raise

    original = http_resolver._extract_archive
    http_resolver._extract_archive = unpacking
    try:
        for left in reversed(range(TRIES)):
            try:
                return Path(kagglehub.dataset_download(handle, force_download=force))
            except ChunkedEncodingError:
                if not left:
                    raise
                say(f"  {spec}: the connection broke; going on from where it stopped")
        raise AssertionError("unreachable")
    finally:
        http_resolver._extract_archive = original


@contextmanager
def answers(spec: str) -> Iterator[None]:
    """Turn whatever kagglehub and its parts raise into our two errors."""
    from kagglehub.exceptions import DataCorruptionError, KaggleApiHTTPError, UnauthenticatedError
    from requests.exceptions import ChunkedEncodingError, RequestException, Timeout
    from requests.exceptions import ConnectionError as NoConnection

    try:
        yield
    except KaggleApiHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        problem = InputError if status == 404 else EnvironmentProblem
        raise problem(
            f"{spec}: {ANSWERS.get(status, f'Kaggle answered with status {status}; try again later')}"
        ) from None
    except UnauthenticatedError:
        raise EnvironmentProblem(f"{spec}: {ANSWERS[401]}") from None
    except ChunkedEncodingError:
        raise EnvironmentProblem(
            f"{spec}: the connection broke {TRIES} times; run the same command again, it goes on from where it stopped"
        ) from None
    except DataCorruptionError:
        raise EnvironmentProblem(
            f"{spec}: what arrived is not what Kaggle sent (checksums differ) and was thrown away; run the same command again"
        ) from None
    except Timeout:
        raise EnvironmentProblem(f"{spec}: Kaggle does not answer; try again later") from None
    except NoConnection:
        raise EnvironmentProblem(
            f"{spec}: no connection to Kaggle; download the dataset elsewhere and give its folder"
        ) from None
    except (RequestException, BadZipFile, ValueError) as error:
        first = str(error).strip().splitlines()
        raise EnvironmentProblem(
            f"{spec}: Kaggle's answer cannot be used ({first[0][:160] if first else type(error).__name__}); try again later"
        ) from None


@contextmanager
def patience() -> Iterator[None]:
    """Give requests that set no time limit one of ours, for as long as this lasts."""
    from requests import Session

    original = Session.send

    def send(self: Session, request: Any, **kwargs: Any) -> Any:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = TIMEOUT
        return original(self, request, **kwargs)

    Session.send = send  # type: ignore[method-assign]
    try:
        yield
    finally:
        Session.send = original  # type: ignore[method-assign]


def _read(manifest: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"files", "licence", "notes"} <= set(content) else None


def _write(manifest: Path, handle: str, licence: str, notes: list[str], folder: Path) -> None:
    """Write down every file's size, time of change and SHA-256."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = path.stat()
        files[path.relative_to(folder).as_posix()] = [status.st_size, status.st_mtime_ns, _sha256(path)]
    draft = manifest.with_suffix(".partial")
    content = {"handle": handle, "licence": licence, "notes": notes, "files": files}
    draft.write_text(json.dumps(content), encoding="utf-8")
    draft.replace(manifest)


def _damage(folder: Path, manifest: dict[str, Any]) -> str:
    """What is missing or changed against a manifest, in words. Content is read again only where a file's time has changed."""
    gone = changed = 0
    for name, (size, moment, digest) in manifest["files"].items():
        try:
            status = os.stat(folder / name)
        except OSError:
            gone += 1
            continue
        same = status.st_size == size and (status.st_mtime_ns == moment or _sha256(folder / name) == digest)
        changed += not same
    words = [
        f"{number} of {len(manifest['files'])} files {what}"
        for number, what in ((gone, "are gone"), (changed, "have changed"))
        if number
    ]
    return " and ".join(words)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
