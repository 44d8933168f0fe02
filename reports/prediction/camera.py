"""Frames of a camera and their prediction."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from datasets.errors import EnvironmentProblem
from reports.prediction.job import PARTS, PredictionJob
from reports.prediction.segments import FrameSource, finished_segments, join_segments, write_segments
from reports.prediction.tables import PredictionTables
from reports.prediction.video import VideoFrame

CAMERA = "webcam"


def is_camera(spec: str) -> bool:
    """Whether a source is webcam or webcam:NUMBER."""
    name, _, number = spec.partition(":")
    return name == CAMERA and (not number or number.isdigit())


def predict_camera(job: PredictionJob, spec: str) -> PredictionTables:
    """Predict the frames of a camera until it ends or Ctrl-C is pressed; the frames so far are kept.

    Parameters
    ----------
    job
        Detector, settings and output.
    spec
        webcam or webcam:NUMBER.

    Returns
    -------
    PredictionTables
        Its frames and detections.

    Raises
    ------
    EnvironmentProblem
        The camera gives no image; the output folder is deleted.
    """
    number = int(spec.partition(":")[2] or 0)
    source = FrameSource(Path(spec), spec, job.folder / PARTS / CAMERA)
    source.parts.mkdir(parents=True, exist_ok=True)
    job.reporter.say("Press Ctrl-C to stop; the frames predicted so far are kept")
    with job.reporter.stage("predict", f"Predicting camera {number}") as tick, _stop_on_interrupt() as stop:
        write_segments(job, source, _camera_frames(number, job.stride, stop), tick)
    segments = finished_segments(source)
    if not segments:
        shutil.rmtree(job.folder)
        raise EnvironmentProblem(
            f"camera {number} gives no image; check that it is plugged in, allowed and not in use. "
            f"Other cameras are {CAMERA}:1, {CAMERA}:2 ..."
        )
    return join_segments(job, segments, source, original=None, out=spec.replace(":", "-") + ".mp4")


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C sets, instead of ending the program in the middle of a frame."""
    stop = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


def _camera_frames(number: int, stride: int, stop: threading.Event) -> Iterator[VideoFrame]:
    """Read every stride-th frame with its arrival time (ms), until the camera ends or stop is set."""
    # OpenCV prints its own warning about a missing camera; the error message says the same.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    camera = cv2.VideoCapture(number)
    begin = time.monotonic()
    try:
        index, last = 0, -1
        while camera.isOpened() and not stop.is_set():
            has_frame, pixels = camera.read()
            if not has_frame:
                return
            now = max(last + 1, round(1000 * (time.monotonic() - begin)))
            if index % stride == 0:
                last = now
                yield VideoFrame(index, np.asarray(pixels, np.uint8), now, Fraction(1, 1000), now / 1000)
            index += 1
    finally:
        camera.release()
