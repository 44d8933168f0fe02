"""What is being looked at, as it happens, in a browser on this machine: the OpenCV that comes with us has no windows of its own."""

from __future__ import annotations

import contextlib
import threading
import webbrowser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2

from datasets.pixels import Pixels

BOUNDARY = "frame"
# A viewer that got nothing for so long is sent the last image again, so that one who has gone is noticed.
PATIENCE = 5.0


class Window:
    """Shows the newest image to whoever has its address open; bound to 127.0.0.1. To be closed."""

    def __init__(self, *, browse: bool = True) -> None:
        self._changed = threading.Condition()
        self._image: bytes | None = None
        self._viewers = 0
        window = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                window.serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: stderr is for progress."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        if browse:
            webbrowser.open(self.address)

    def put(self, pixels: Pixels) -> None:
        """Show an image (H, W, 3) BGR; costs nothing while nobody looks."""
        if not self._viewers and self._image is not None:
            return
        encoded = cv2.imencode(".jpg", pixels)[1].tobytes()
        with self._changed:
            self._image = encoded
            self._changed.notify_all()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Stream images to one viewer as they come. Requests that name another host are refused: another site's script must not look on."""
        if request.headers.get("Host", "") not in (
            self.address[7:-1],
            f"localhost:{self._server.server_port}",
        ):
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
                        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
                        request.wfile.write(head.encode() + image + b"\r\n")
                    with self._changed:
                        self._changed.wait(PATIENCE)
                        image = self._image
        finally:
            self._viewers -= 1

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
