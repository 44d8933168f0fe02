"""A camera as frames."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import cv2
import numpy as np

from reports.prediction.video import VideoFrame

if TYPE_CHECKING:
    pass


CAMERA = "webcam"


def is_camera(spec: str) -> bool:
    """Whether a source is webcam or webcam:NUMBER."""
    name, _, number = spec.partition(":")
    return name == CAMERA and (not number or number.isdigit())


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, in the place of ending the program in the middle of an image."""
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def camera_frames(number: int, stride: int, stop: threading.Event) -> Iterator[VideoFrame]:
    """Frames of a camera with the time at which they came, in milliseconds, until it ends or stop is set."""
    # It tells the terminal in its own words what our message says.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    camera = cv2.VideoCapture(number)
    begin = time.monotonic()
    try:
        index, last = 0, -1
        while camera.isOpened() and not stop.is_set():
            there, pixels = camera.read()
            if not there:
                return
            now = max(last + 1, round(1000 * (time.monotonic() - begin)))
            if index % stride == 0:
                last = now
                yield VideoFrame(index, np.asarray(pixels, np.uint8), now, Fraction(1, 1000), now / 1000)
            index += 1
    finally:
        camera.release()
