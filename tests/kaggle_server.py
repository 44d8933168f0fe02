"""A Kaggle on this machine for the real kagglehub: what a download asks for, and the ways in which it fails.

kagglehub takes no address from outside, only a choice of fixed ones; KAGGLE_API_ENVIRONMENT=LOCALHOST means
http://localhost without a port. So the server is the client's HTTP proxy: on whatever port was free, it is
asked for http://localhost/api/v1/... and for the storage's address, and no name is looked up.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import socket
import tarfile
import tempfile
import threading
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

API = "/api/v1/datasets.DatasetApiService/"
# Archives lie on another host, as on Google's storage: credentials must not travel there.
STORAGE = "storage.googleapis.test"
# Kaggle answers 403, not 404, for a name that does not exist: it does not tell private from absent.
NO_SUCH_DATASET = 403
PAGE, LARGEST_PAGE = 20, 200


@dataclass
class Published:
    """One version of a dataset. `archive` need not be one that can be opened."""

    archive: bytes
    # GetDataset spells it out, e.g. "Attribution 4.0 International (CC BY 4.0)", "Unknown".
    licence: str = "CC0: Public Domain"
    # Path inside the dataset -> bytes; what the archive holds unless given.
    files: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.files:
            self.files = listing(self.archive)


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; `body` is the JSON of a call of the API."""

    method: str
    path: str
    body: dict[str, Any]
    range: str | None
    authorised: bool


class KaggleServer:
    """As a context manager, a server until its end; what it does is set on its attributes at any time."""

    def __init__(self, datasets: dict[str, dict[int, Published]] | None = None) -> None:
        # "owner/name" -> version -> what it holds; the highest version is the current one.
        self.datasets: dict[str, dict[int, Published]] = {} if datasets is None else datasets
        # Every call, the storage's too, is answered with this status.
        self.status: int | None = None
        # Once, an archive ends after this many bytes and the connection with it. The client writes whole MiB:
        # of less it keeps nothing. A resumed download asks twice, and the first answer, unread, uses this up.
        self.break_after: int | None = None
        # The storage offers and honours Range.
        self.resumable = True
        # A byte in the middle of the archive is wrong, its checksum is the true one's.
        self.corrupt = False
        # The storage names the MD5 sum, as it does for objects uploaded in one piece.
        self.checksum = True
        self.requests: list[Asked] = []

    def __enter__(self) -> Self:
        self._in_domain = tempfile.TemporaryDirectory(prefix="shiftscope-kaggle-", ignore_cleanup_errors=True)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._in_domain.cleanup()

    @property
    def port(self) -> int:
        return self._server.server_port

    def environment(self, cache: Path) -> dict[str, str]:
        """What points kagglehub here, without credentials; it reads ~/.kaggle, too, so HOME is empty."""
        return {
            "KAGGLEHUB_CACHE": str(cache),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": f"http://127.0.0.1:{self.port}",
            # localhost must go through the proxy; other services of a test are reached at 127.0.0.1.
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
            "HOME": self._in_domain.name,
            "USERPROFILE": self._in_domain.name,
            "KAGGLE_CONFIG_DIR": self._in_domain.name,
            "KAGGLE_API_TOKEN": "",
            "KAGGLE_USERNAME": "",
            "KAGGLE_KEY": "",
            "KAGGLE_LOGGING_ENABLED": "false",
            "DISABLE_KAGGLE_CACHE": "true",
            "DISABLE_COLAB_CACHE": "true",
        }


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip with these files, to be published."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def listing(archive: bytes) -> dict[str, int]:
    """Path -> bytes of the files in a zip or tar; nothing of what is neither."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return {entry.filename: entry.file_size for entry in opened.infolist() if not entry.is_dir()}
    except zipfile.BadZipFile:
        pass
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as unpacked:
            return {member.name: member.size for member in unpacked if member.isfile()}
    except (tarfile.TarError, EOFError):
        return {}


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, kaggle: KaggleServer, *arguments: Any) -> None:
        self.kaggle = kaggle
        super().__init__(*arguments)

    def do_POST(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def answer(self) -> None:
        kaggle, url = self.kaggle, urlsplit(self.path)
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body: dict[str, Any] = json.loads(sent) if sent else {}
        wanted, authorised = self.headers.get("Range"), "Authorization" in self.headers
        kaggle.requests.append(Asked(self.command, url.path, body, wanted, authorised))
        if kaggle.status is not None:
            self.refuse(kaggle.status)
        elif url.hostname == STORAGE:
            self.send_archive(url.path, wanted)
        elif url.hostname == "localhost" and url.path.startswith(API):
            self.call(url.path.removeprefix(API), body)
        else:
            self.refuse(502)

    def call(self, name: str, body: dict[str, Any]) -> None:
        handle = f"{body.get('ownerSlug')}/{body.get('datasetSlug')}"
        versions = self.kaggle.datasets.get(handle)
        if not versions:
            self.refuse(NO_SUCH_DATASET)
            return
        number = int(body.get("datasetVersionNumber", max(versions)))
        if number not in versions:
            self.refuse(404)
        elif name == "GetDataset":
            self.send_json(200, described(handle, versions))
        elif name == "ListDatasetFiles":
            self.send_json(200, page(versions[number], body))
        elif name == "DownloadDataset" and "fileName" not in body:
            self.send_response(302)
            self.send_header(
                "Location", f"http://{STORAGE}/kaggle-data-sets/{handle}/{number}/bundle/archive.zip"
            )
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.refuse(501)

    def send_archive(self, path: str, wanted: str | None) -> None:
        kaggle = self.kaggle
        owner, name, number = path.split("/")[2:5]
        true = kaggle.datasets[f"{owner}/{name}"][int(number)].archive
        content = bytearray(true)
        if kaggle.corrupt and content:
            content[len(content) // 2] ^= 0xFF
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "") if kaggle.resumable else None
        begin = int(match[1]) if match else None
        if begin is not None and begin >= len(content):
            self.refuse(416)
            return
        rest = bytes(content[begin:])
        self.send_response(200 if begin is None else 206)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(rest)))
        if kaggle.resumable:
            self.send_header("Accept-Ranges", "bytes")
        if begin is not None:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        if kaggle.checksum:
            self.send_header("x-goog-hash", f"md5={base64.b64encode(hashlib.md5(true).digest()).decode()}")
        self.end_headers()
        cut = kaggle.break_after is not None and kaggle.break_after < len(rest)
        if cut:
            rest, kaggle.break_after = rest[: kaggle.break_after], None
        # A client that has the beginning already leaves this answer unread and asks again with a Range.
        with suppress(ConnectionError):
            self.wfile.write(rest)
            if cut:
                self.connection.shutdown(socket.SHUT_RDWR)

    def refuse(self, status: int) -> None:
        """Kaggle's body for an error."""
        phrase = HTTPStatus(status).phrase
        error = {"code": status, "message": phrase, "status": phrase.upper().replace(" ", "_")}
        self.send_json(status, {"error": error})

    def send_json(self, status: int, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def described(handle: str, versions: dict[int, Published]) -> dict[str, Any]:
    """Kaggle's ApiDataset: always of the current version, whichever is wanted."""
    owner, name = handle.split("/")
    current = max(versions)
    return {
        "ref": handle,
        "title": name,
        "ownerRef": owner,
        "licenseName": versions[current].licence,
        "totalBytes": len(versions[current].archive),
        "currentVersionNumber": current,
        "versions": [{"versionNumber": number} for number in sorted(versions, reverse=True)],
    }


def page(version: Published, body: dict[str, Any]) -> dict[str, Any]:
    """Kaggle's ApiListDatasetFilesResponse: some of the files, and how to ask for more."""
    begin = int(body.get("pageToken") or 0)
    end = begin + min(int(body.get("pageSize") or PAGE), LARGEST_PAGE)
    files = [{"name": name, "totalBytes": size} for name, size in version.files.items()]
    answer: dict[str, Any] = {"datasetFiles": files[begin:end]}
    if end < len(files):
        answer["nextPageToken"] = str(end)
    return answer
