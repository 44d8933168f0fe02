"""The page of a review, served on 127.0.0.1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import cv2

from datasets.errors import InputError
from datasets.pixels import UnreadableImage, decode

ADDRESS = "127.0.0.1"
# Longer sides are reduced: no screen shows more, and a drone's image has 40 megapixels.
MAX_SIDE = 2560
# Bytes of an answer: ten thousand points.
LONGEST = 1_000_000


class Reviewed(Protocol):
    """A review that the page shows: frames with clicks, or labels one by one."""

    @property
    def count(self) -> int:
        """Number of frames or labels that are asked about."""

    def state(self) -> dict[str, Any]:
        """What the page needs before it shows anything."""

    def frame(self, number: int) -> dict[str, Any]:
        """What the page shows of one of them."""

    def path_of(self, number: int) -> Path:
        """Where its pixels lie."""

    def answer(self, number: int, entry: Mapping[str, Any]) -> None:
        """Keep an answer."""

    def result(self) -> dict[str, Any]:
        """What the answers so far say."""


def create_server(session: Reviewed, port: int) -> ThreadingHTTPServer:
    """A server of a review; port 0 for any free one. Raises OSError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._is_ours():
                self._answer(self._get)

        def do_POST(self) -> None:
            # A form of another site can send text, but neither this type nor from this origin.
            if not self._is_ours():
                return
            if self.headers.get("Content-Type") == "application/json":
                self._answer(self._post)
            else:
                self.send_error(HTTPStatus.FORBIDDEN)

        def _is_ours(self) -> bool:
            """Refuse requests that name another host: a script of another site must not read the images."""
            ours = (f"{ADDRESS}:{server.server_port}", f"localhost:{server.server_port}")
            origin = self.headers.get("Origin")
            if self.headers.get("Host", "") in ours and origin in (
                None,
                *(f"http://{host}" for host in ours),
            ):
                return True
            self.send_error(HTTPStatus.FORBIDDEN)
            return False

        def _answer(self, respond: Any) -> None:
            try:
                kind, content = respond()
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, InputError) as error:
                self._refuse(HTTPStatus.BAD_REQUEST, str(error).partition("\n")[0] or "bad request")
                return
            except (UnreadableImage, OSError) as error:
                self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}".partition("\n")[0])
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header(
                "Content-Security-Policy", "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'"
            )
            self.end_headers()
            self.wfile.write(content)

        def _refuse(self, code: HTTPStatus, why: str) -> None:
            """An error whose reason is the body: a status line has no room for every alphabet."""
            content = why.encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _get(self) -> tuple[str, bytes]:
            if self.path == "/":
                return "text/html; charset=utf-8", (files("reports.review") / "page.html").read_bytes()
            if self.path == "/state":
                return _json({**session.state(), "result": session.result()})
            _, what, number = self.path.split("/")
            place = _place(number, session)
            if what == "frame":
                return _json(session.frame(place))
            if what == "image":
                return "image/jpeg", _jpeg(session, place)
            raise ValueError("no such page")

        def _post(self) -> tuple[str, bytes]:
            length = int(self.headers.get("Content-Length", "0"))
            if not 0 < length <= LONGEST:
                raise ValueError("the answer is empty or too long")
            _, what, number = self.path.split("/")
            if what != "answer":
                raise ValueError("no such page")
            session.answer(_place(number, session), json.loads(self.rfile.read(length)))
            return _json(session.result())

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: stderr is for progress."""

    server = ThreadingHTTPServer((ADDRESS, port), Handler)
    server.daemon_threads = True
    return server


def _place(number: str, session: Reviewed) -> int:
    """The place of a frame from an address. Raises IndexError."""
    place = int(number)
    if not 0 <= place < session.count:
        raise IndexError(f"there is no frame {place}")
    return place


def _json(content: object) -> tuple[str, bytes]:
    return "application/json", json.dumps(content, allow_nan=False).encode()


def _jpeg(session: Reviewed, place: int) -> bytes:
    """The upright pixels of a frame, without metadata."""
    pixels = decode(session.path_of(place))
    scale = min(1.0, MAX_SIDE / max(pixels.shape[:2]))
    shown = (
        cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    )
    return cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
