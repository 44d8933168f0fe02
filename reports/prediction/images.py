"""Detections of images, drawn on copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from datasets.files import write_bytes
from datasets.pixels import Pixels, decode
from datasets.rotated import ROTATED
from datasets.tables import CORNERS, Source
from diagnostics.wording import count
from reports.export.yolo import unique_path
from reports.prediction.job import PARTS, PredictionJob
from reports.prediction.tables import PredictionTables, write_part
from train.predictions import Predictions, Store, predict_folder
from train.tiling import TILES, predict_tiled
from train.transforms import Sequential, Tile, Transform


def predict_images(job: PredictionJob, source: Source) -> tuple[PredictionTables, dict[str, str]]:
    """Predict the images of a source and write a copy of each with its detections.

    Detections go through the store that reports use, so that neither predicts an image again.

    Parameters
    ----------
    job
        Detector, settings and output.
    source
        The opened source; its videos are ignored.

    Returns
    -------
    tables
        Images and detections.
    failures
        Path -> reason for each image that could not be decoded.
    """
    total = len(source.images) * (1 + len(TILES) if job.tiles else 1)
    with job.reporter.stage("predict", f"Predicting {count(len(source.images), 'image')}", total) as tick:
        result = _predict(job, source.images, None, tick)
        detections = result.detections
        if job.tiles:
            detections = predict_tiled(
                detections,
                source.images,
                lambda tile: _predict(job, source.images, tile, tick).detections,
                limit=job.settings.max_det,
            )
    images = source.images[source.images["image"].isin(result.images["image"])]
    rows_of = detections.groupby("image").indices
    rotated = [name for name in ROTATED if name in detections]
    numbers = detections[[*CORNERS, "confidence", "label", *rotated]].to_numpy(np.float32)
    taken: set[str] = set()
    rows, boxes = [], []
    with job.reporter.stage("draw", "Drawing", len(images)) as tick:
        for image in images.itertuples():
            image_boxes = numbers[rows_of.get(image.image, [])]
            out = job.folder / "images" / unique_path(str(image.image), taken)
            if not out.is_file() or job.window is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                _write_image(out, job.draw(decode(Path(str(image.path))), image_boxes))
            rows.append((image.image, image.path, image.width, image.height, 0, float(image.seconds)))
            boxes.append(image_boxes)
            tick()
    tables = write_part(job.folder / PARTS / "images", rows, boxes, job.detector.classes)
    return tables, dict(zip(result.failures["path"], result.failures["reason"], strict=True))


def _write_image(path: Path, pixels: Pixels) -> None:
    """Write an image (H, W, 3) BGR in the format of its suffix. Raises OSError if it cannot be encoded."""
    encoded_ok, encoded = cv2.imencode(path.suffix.lower(), pixels)
    if not encoded_ok:
        raise OSError(f"{path}: cannot be encoded")
    write_bytes(path, encoded.tobytes())


def _predict(
    job: PredictionJob, images: pd.DataFrame, tile: Tile | None, tick: Callable[[], None]
) -> Predictions:
    """Predict whole images, or one tile of each, through the store."""
    transform: Transform | None = job.transform
    if tile is not None:
        transform = tile if transform is None else Sequential(transform, tile)
    settings = replace(job.settings, transform=transform.name if transform is not None else "none")
    store = Store(predict_folder(settings, job.sha256))
    return job.detector.predict(
        images, settings, store, transform=transform, tick=tick, embed_detections=False
    )
