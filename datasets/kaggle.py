"""Kaggle datasets by handle, pinned to a version, verified and with their licence.

The only module that imports kagglehub.
"""

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
from datasets.files import write_text

PREFIX = "kaggle:"
HANDLE = re.compile(r"^(?P<owner>[\w-]+)/(?P<name>[\w.-]+)(/versions/(?P<version>[1-9]\d*))?$")
# HTTP status -> cause and next step. Kaggle also returns 403 for names that do not exist.
HTTP_ERRORS = {
    401: "Kaggle does not accept the credentials; "
    "put a new token into ~/.kaggle/access_token or KAGGLE_API_TOKEN",
    403: "Kaggle refuses access, or has no such dataset; check the handle, accept the dataset's terms on its "
    "page, and give credentials (~/.kaggle/access_token or KAGGLE_API_TOKEN)",
    404: "Kaggle has no such dataset or version; check the handle on the dataset's page",
    429: "Kaggle limits the rate of requests; try again in a few minutes",
}
# Attempts at a download; each resumes where the last one stopped.
TRIES = 4
# Seconds to connect, and between two chunks of a response; kagglehub itself sets no time limit.
TIMEOUT = (15.0, 60.0)


@dataclass(frozen=True)
class Fetched:
    """A dataset on disk.

    folder: its folder.
    handle: owner/name/versions/N.
    licence: as Kaggle names it, empty if Kaggle could not be reached.
    notes: archive entries that were skipped, in words.
    """

    folder: Path
    handle: str
    licence: str
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The handle, the licence and the skipped archive entries, in words."""
        skipped = f"; skipped in its archive: {', '.join(self.notes[:5])}" if self.notes else ""
        return f"Kaggle {self.handle}, licence: {self.licence or 'not known'}{skipped}"


def fetch(spec: str, say: Callable[[str], None] = lambda line: None) -> Fetched:
    """Download "kaggle:owner/dataset[/versions/N]" to data/kaggle (KAGGLEHUB_CACHE if set).

    Without a version the current one is taken. A complete download is not repeated: a manifest beside it has
    every file's size and SHA-256, which kagglehub's own marker lacks. An interrupted download resumes
    where it stopped, in this call or the next. Archives are unpacked by `archives.unpack`.

    Parameters
    ----------
    spec
        The specification, with the prefix "kaggle:".
    say
        Receives a line about the version, and about every retry.

    Returns
    -------
    Fetched
        The dataset on disk.

    Raises
    ------
    InputError
        If the handle is malformed or unknown, or the archive is unusable.
    EnvironmentProblem
        Without access, network or disk space.
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
    """`fetch`, cached for the process, which verifies each dataset once."""
    dataset_folder = cache / "datasets" / owner / name
    dataset_folder.mkdir(parents=True, exist_ok=True)
    with FileLock(dataset_folder / ".lock"), _translated_errors(spec), _request_timeouts():
        metadata: Any = None
        if not version:
            version, metadata = _current(spec, owner, name, dataset_folder, say)
        handle = f"{owner}/{name}/versions/{version}"
        manifest = dataset_folder / f"{version}.manifest.json"
        recorded = _read(manifest)
        folder = dataset_folder / "versions" / str(version)
        # A folder without a manifest may be incomplete: the process may have been killed in between.
        damage = (
            _damage(folder, recorded) if recorded else "no manifest was written" if folder.is_dir() else ""
        )
        if recorded and not damage:
            return Fetched(folder, handle, recorded["licence"], tuple(recorded["notes"]))
        if damage:
            say(f"  {spec}: {damage} since the download; downloading again")
        skipped: list[str] = []
        downloaded = _download(spec, handle, skipped, say, force=bool(damage))
        metadata = metadata or _metadata(owner, name)
        licence = str(getattr(metadata, "license_name", "") or "")
        if downloaded != folder:
            # Kaggle and Colab notebooks mount datasets read-only and complete.
            return Fetched(downloaded, handle, licence)
        say(f"  {spec}: version {version}, licence: {licence or 'not known'}")
        _write(manifest, handle, licence, skipped, folder)
        return Fetched(folder, handle, licence, tuple(skipped))


def _current(
    spec: str, owner: str, name: str, dataset_folder: Path, say: Callable[[str], None]
) -> tuple[int, Any]:
    """Current version and Kaggle's metadata; without a network, the newest version on disk and None."""
    from requests.exceptions import ConnectionError as NoConnection

    try:
        metadata = _request_metadata(owner, name)
    except NoConnection:
        local = [int(path.name.split(".")[0]) for path in dataset_folder.glob("*.manifest.json")]
        if not local:
            raise
        say(f"  {spec}: no connection to Kaggle; using version {max(local)}, which is on disk")
        return max(local), None
    version = int(metadata.current_version_number or 0)
    if not version:
        raise InputError(f"{spec}: Kaggle names no version of this dataset; give one as {spec}/versions/1")
    return version, metadata


def _metadata(owner: str, name: str) -> Any:
    """Kaggle's metadata of a dataset, None if unavailable: a dataset on disk is usable without."""
    from requests.exceptions import RequestException

    try:
        return _request_metadata(owner, name)
    except (RequestException, ValueError):
        return None


def _request_metadata(owner: str, name: str) -> Any:
    """Request a dataset's metadata from Kaggle."""
    from kagglehub.clients import build_kaggle_client
    from kagglehub.exceptions import handle_call
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = owner, name
    with build_kaggle_client() as client:
        return handle_call(lambda: client.datasets.dataset_api_client.get_dataset(request))


def _download(spec: str, handle: str, skipped: list[str], say: Callable[[str], None], *, force: bool) -> Path:
    """Download with kagglehub but unpack with `unpack`, and retry when the connection breaks."""
    import kagglehub
    from kagglehub import http_resolver
    from requests.exceptions import ChunkedEncodingError

    if not hasattr(http_resolver, "_extract_archive"):
        raise EnvironmentProblem(
            f"{spec}: this version of kagglehub unpacks archives in a way that cannot be limited; "
            "install the version in requirements.lock"
        )

    def unpacking(archive: str, folder: str) -> None:
        try:
            skipped.extend(unpack(Path(archive), Path(folder)))
        except InputError:
            # kagglehub would treat the archive as a finished download and never check it again.
            Path(archive).unlink(missing_ok=True)
            raise

    original = http_resolver._extract_archive
    http_resolver._extract_archive = unpacking
    try:
        for retries_left in reversed(range(TRIES)):
            try:
                return Path(kagglehub.dataset_download(handle, force_download=force))
            except ChunkedEncodingError:
                if not retries_left:
                    raise
                say(f"  {spec}: the connection broke; resuming the download")
        raise AssertionError("unreachable")
    finally:
        http_resolver._extract_archive = original


@contextmanager
def _translated_errors(spec: str) -> Iterator[None]:
    """Raise errors of kagglehub and its dependencies as InputError or EnvironmentProblem."""
    from kagglehub.exceptions import DataCorruptionError, KaggleApiHTTPError, UnauthenticatedError
    from requests.exceptions import ChunkedEncodingError, RequestException, Timeout
    from requests.exceptions import ConnectionError as NoConnection

    try:
        yield
    except KaggleApiHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        problem = InputError if status == 404 else EnvironmentProblem
        cause = HTTP_ERRORS.get(status, f"Kaggle responded with status {status}; try again later")
        raise problem(f"{spec}: {cause}") from None
    except UnauthenticatedError:
        raise EnvironmentProblem(f"{spec}: {HTTP_ERRORS[401]}") from None
    except ChunkedEncodingError:
        raise EnvironmentProblem(
            f"{spec}: the connection broke {TRIES} times; run the same command again to resume the download"
        ) from None
    except DataCorruptionError:
        raise EnvironmentProblem(
            f"{spec}: the download is corrupt (checksums differ) and was deleted; run the same command again"
        ) from None
    except Timeout:
        raise EnvironmentProblem(f"{spec}: Kaggle does not respond; try again later") from None
    except NoConnection:
        raise EnvironmentProblem(
            f"{spec}: no connection to Kaggle; download the dataset elsewhere and give its folder"
        ) from None
    except (RequestException, BadZipFile, ValueError) as error:
        lines = str(error).strip().splitlines()
        cause = lines[0][:160] if lines else type(error).__name__
        raise EnvironmentProblem(
            f"{spec}: Kaggle's response is unusable ({cause}); try again later"
        ) from None


@contextmanager
def _request_timeouts() -> Iterator[None]:
    """Within the block, give requests without a time limit `TIMEOUT`."""
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
    """Content of a manifest, None if there is no usable one."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"files", "licence", "notes"} <= set(content) else None


def _write(manifest: Path, handle: str, licence: str, notes: list[str], folder: Path) -> None:
    """Write a manifest with every file's size, modification time and SHA-256."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        status = path.stat()
        files[path.relative_to(folder).as_posix()] = [status.st_size, status.st_mtime_ns, _sha256(path)]
    content = {"handle": handle, "licence": licence, "notes": notes, "files": files}
    write_text(manifest, json.dumps(content))


def _damage(folder: Path, manifest: dict[str, Any]) -> str:
    """What is missing or changed against a manifest; content is read only if a file's time changed."""
    gone = changed = 0
    for name, (size, modified, digest) in manifest["files"].items():
        try:
            status = os.stat(folder / name)
        except OSError:
            gone += 1
            continue
        same = status.st_size == size and (status.st_mtime_ns == modified or _sha256(folder / name) == digest)
        changed += not same
    words = [
        f"{number} of {len(manifest['files'])} files {state}"
        for number, state in ((gone, "are gone"), (changed, "have changed"))
        if number
    ]
    return " and ".join(words)


def _sha256(path: Path) -> str:
    """SHA-256 of a file, in hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
