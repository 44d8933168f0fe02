"""A live view of a prediction in a browser on this machine.

A browser shows it because headless OpenCV, which Shiftscope installs, opens no windows.
"""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2

from datasets.pixels import Pixels

BOUNDARY = "frame"
# After so many seconds without a new image the last one is sent again: sending detects a closed connection.
RESEND_SECONDS = 5.0


class Window:
    """Serves the newest image on 127.0.0.1; call close at the end."""

    def __init__(self, *, browse: bool = True) -> None:
        self._changed = threading.Condition()
        self._image: bytes | None = None
        self._viewers = 0
        window = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                window.serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing: stderr is for progress."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        if browse:
            webbrowser.open(self.address)

    def put(self, pixels: Pixels) -> None:
        """Show an image (H, W, 3) BGR; after the first it is encoded only while a viewer is connected."""
        if not self._viewers and self._image is not None:
            return
        encoded = cv2.imencode(".jpg", pixels)[1].tobytes()
        with self._changed:
            self._image = encoded
            self._changed.notify_all()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Stream images to one viewer.

        Requests that name another host are refused, so that a script of another site cannot read the images.
        """
        port = self._server.server_port
        if request.headers.get("Host", "") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            request.send_error(403)
            return
        request.send_response(200)
        request.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        request.end_headers()
        self._viewers += 1
        try:
            with contextlib.suppress(OSError):
                image = self._image
                while True:
                    if image is not None:
                        head = (
                            f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                            f"Content-Length: {len(image)}\r\n\r\n"
                        )
                        request.wfile.write(head.encode() + image + b"\r\n")
                    with self._changed:
                        self._changed.wait(RESEND_SECONDS)
                        image = self._image
        finally:
            self._viewers -= 1

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
