"""A local S3 service for pyarrow's client: listing, sizes and content of one bucket, and the ways in which it
fails.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "footage"
STORED = 1_750_000_000


@dataclass
class S3Server:
    """Serves files by key. refuse: an error code for every request. break_at: a key whose content is cut
    off.
    """

    files: dict[str, bytes]
    refuse: str = ""
    break_at: str = ""
    modified: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> S3Server:
        handler = type("Handler", (_Handler,), {"service": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self._http.server_address[1]}"

    def address(self, key: str = "", bucket: str = BUCKET, user: str = "") -> str:
        query = f"region=us-east-1&scheme=http&endpoint_override={self.endpoint}"
        return f"s3://{user}{bucket}{f'/{key}' if key else ''}?{query}"

    def stored(self, key: str) -> int:
        return self.modified.get(key, STORED)

    @property
    def fetched(self) -> list[str]:
        """The keys of which content was asked for."""
        return sorted(line.removeprefix("GET ") for line in self.requests if line.startswith("GET "))


class _Handler(BaseHTTPRequestHandler):
    service: S3Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests read `requests`."""

    def error(self, status: int, code: str) -> None:
        self.reply(status, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())

    def reply(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        service, url = self.service, urlsplit(self.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        if service.refuse:
            self.error(403, service.refuse)
        elif bucket != BUCKET:
            self.error(404, "NoSuchBucket")
        elif not key:
            self.listing({name: values[0] for name, values in parse_qs(url.query).items()})
        elif key not in service.files:
            self.error(404, "NoSuchKey")
        else:
            if self.command == "GET":
                service.requests.append(f"GET {key}")
            body, first, status = service.files[key], 0, 200
            if (wanted := self.headers.get("Range")) is not None:
                first, _, last = wanted.removeprefix("bytes=").partition("-")  # type: ignore[assignment]
                body, status = body[int(first) : int(last) + 1 if last else None], 206
            headers = {"Last-Modified": formatdate(service.stored(key), usegmt=True), "ETag": '"1"'}
            if status == 206:
                headers["Content-Range"] = (
                    f"bytes {first}-{int(first) + len(body) - 1}/{len(service.files[key])}"
                )
            self.reply(status, body, headers, cut=key == service.break_at and self.command == "GET")

    def listing(self, query: dict[str, str]) -> None:
        """ListObjectsV2, two keys at a time so that continuing is needed."""
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        keys = sorted(key for key in self.service.files if key.startswith(prefix) and key > after)
        at_once = min(int(query.get("max-keys", 2)), 2)
        page, rest = keys[:at_once], keys[at_once:]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.service.files[key])}</Size>"
            f"<LastModified>{_iso(self.service.stored(key))}</LastModified></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if rest else ""
        body = (
            f'<?xml version="1.0"?><ListBucketResult><Name>{BUCKET}</Name><KeyCount>{len(page)}</KeyCount>'
            f"<IsTruncated>{str(bool(rest)).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
        )
        self.reply(200, body.encode(), {"Content-Type": "application/xml"})


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
