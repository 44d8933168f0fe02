"""A local Kaggle server for the real kagglehub: the requests of a download, and the ways in which they fail.

kagglehub accepts only a choice of fixed addresses; KAGGLE_API_ENVIRONMENT=LOCALHOST means http://localhost
without a port. The server is therefore the client's HTTP proxy, on any free port: it receives the requests to
http://localhost/api/v1/... and to the storage, and no name is resolved.
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
# Archives are on another host, as on Google's storage: credentials must not be sent there.
STORAGE = "storage.googleapis.test"
# Kaggle responds with 403, not 404, to a name that does not exist, as to a private dataset.
NO_SUCH_DATASET = 403
PAGE, LARGEST_PAGE = 20, 200


@dataclass
class Published:
    """One version of a dataset.

    archive: the bytes of its archive, valid or not.
    licence: as GetDataset spells it, e.g. "Attribution 4.0 International (CC BY 4.0)", "Unknown".
    files: path in the dataset -> size in bytes; the content of the archive unless given.
    """

    archive: bytes
    licence: str = "CC0: Public Domain"
    files: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.files:
            self.files = listing(self.archive)


@dataclass(frozen=True)
class ReceivedRequest:
    """One request.

    method, path: of the request.
    body: the JSON of an API call.
    range: the Range header.
    authorised: whether it carries credentials.
    """

    method: str
    path: str
    body: dict[str, Any]
    range: str | None
    authorised: bool


class KaggleServer:
    """A context manager that runs the server; its attributes can be changed at any time."""

    def __init__(self, datasets: dict[str, dict[int, Published]] | None = None) -> None:
        # "owner/name" -> version -> content; the highest version is the current one.
        self.datasets: dict[str, dict[int, Published]] = {} if datasets is None else datasets
        # If set, every response has this status, including those of the storage.
        self.status: int | None = None
        # If set, the connection of one archive breaks after this many bytes. The client keeps only whole MiB.
        # A resumed download sends two requests; the first response, unread, uses this up.
        self.break_after: int | None = None
        # Whether the storage supports Range.
        self.resumable = True
        # Whether a byte in the middle of the archive is wrong, while the checksum stays correct.
        self.corrupt = False
        # Whether the storage gives the MD5 checksum, as it does for objects uploaded in one piece.
        self.checksum = True
        self.requests: list[ReceivedRequest] = []

    def __enter__(self) -> Self:
        self._user = tempfile.TemporaryDirectory(prefix="shiftscope-kaggle-", ignore_cleanup_errors=True)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._user.cleanup()

    @property
    def port(self) -> int:
        return self._server.server_port

    def environment(self, cache: Path) -> dict[str, str]:
        """Variables that point kagglehub to this server, without credentials (it reads ~/.kaggle of HOME)."""
        return {
            "KAGGLEHUB_CACHE": str(cache),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "http_proxy": f"http://127.0.0.1:{self.port}",
            # localhost must go through the proxy; tests reach other services at 127.0.0.1.
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
            "HOME": self._user.name,
            "USERPROFILE": self._user.name,
            "KAGGLE_CONFIG_DIR": self._user.name,
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
    """Path -> size in bytes of the files in a zip or tar; empty for other content."""
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
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def respond(self) -> None:
        kaggle, url = self.kaggle, urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body: dict[str, Any] = json.loads(content) if content else {}
        byte_range, authorised = self.headers.get("Range"), "Authorization" in self.headers
        kaggle.requests.append(ReceivedRequest(self.command, url.path, body, byte_range, authorised))
        if kaggle.status is not None:
            self.refuse(kaggle.status)
        elif url.hostname == STORAGE:
            self.send_archive(url.path, byte_range)
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
            self.send_json(200, dataset_info(handle, versions))
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

    def send_archive(self, path: str, byte_range: str | None) -> None:
        kaggle = self.kaggle
        owner, name, number = path.split("/")[2:5]
        archive = kaggle.datasets[f"{owner}/{name}"][int(number)].archive
        content = bytearray(archive)
        if kaggle.corrupt and content:
            content[len(content) // 2] ^= 0xFF
        match = re.fullmatch(r"bytes=(\d+)-", byte_range or "") if kaggle.resumable else None
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
            self.send_header("x-goog-hash", f"md5={base64.b64encode(hashlib.md5(archive).digest()).decode()}")
        self.end_headers()
        cut = kaggle.break_after is not None and kaggle.break_after < len(rest)
        if cut:
            rest, kaggle.break_after = rest[: kaggle.break_after], None
        # A client that has the beginning leaves this response unread and sends a request with a Range.
        with suppress(ConnectionError):
            self.wfile.write(rest)
            if cut:
                self.connection.shutdown(socket.SHUT_RDWR)

    def refuse(self, status: int) -> None:
        """Send an error with Kaggle's body."""
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


def dataset_info(handle: str, versions: dict[int, Published]) -> dict[str, Any]:
    """Kaggle's ApiDataset, always of the current version."""
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
    """Kaggle's ApiListDatasetFilesResponse: one page of the files, and the token of the next."""
    begin = int(body.get("pageToken") or 0)
    end = begin + min(int(body.get("pageSize") or PAGE), LARGEST_PAGE)
    files = [{"name": name, "totalBytes": size} for name, size in version.files.items()]
    response: dict[str, Any] = {"datasetFiles": files[begin:end]}
    if end < len(files):
        response["nextPageToken"] = str(end)
    return response
