"""`python -m benchmarks.architectures`: one small detector of each architecture, trained here, beside
Ultralytics.

No checkpoint is downloaded: each network is trained from its yaml on drawn shapes, for a minute or so. Then
its AP is measured by Ultralytics' own validation and by a whole report on the same images, forward calls are
counted, and the report is read. Each adds its row to benchmarks/architectures.csv, of which
docs/architectures.md is made. Trained networks are kept below runs/, so a second call is quick.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any
from unittest import mock

import cv2
import numpy as np
import pandas as pd
import torch
import typer
from pycocotools import mask as mask_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.stats import spearmanr

from datasets.pixels import Pixels
from diagnostics.domain import Domain
from diagnostics.findings import Findings
from diagnostics.label_free import root_mean_square
from diagnostics.object_shapes import ShapeScores
from reports.options import ReportOptions
from reports.pipeline.run import run_report
from reports.progress import Reporter
from train.environment import runs_folder
from train.forward import Detector
from train.passes import ImageOutput
from train.predictions import Settings, Store

ROWS = Path(__file__).with_name("architectures.csv")
PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
SIDE = 160
CLASSES = ("square", "disc", "bar")
COLOURS = ((60, 60, 210), (70, 190, 70), (210, 90, 60))
# Size of each class across and along, in pixels.
SIZES = ((26, 26), (24, 24), (12, 46))
IMAGES = {"train": 160, "val": 60}
EPOCHS, BATCH = 24, 16
SEED = 0


@dataclass(frozen=True)
class Architecture:
    """A network to train.

    name: of Ultralytics' yaml
    task: kind of labels it learns from
    remark: what sets it apart
    epochs: of its training
    """

    name: str
    task: str = "detect"
    remark: str = ""
    epochs: int = EPOCHS


ARCHITECTURES = (
    Architecture("yolov3-tiny"),
    Architecture("yolov5n", remark="as yolov5nu"),
    Architecture("yolov6n"),
    Architecture("yolov8n"),
    Architecture("yolov9t"),
    Architecture("yolov10n", remark="no suppression"),
    Architecture("yolo11n"),
    Architecture("yolo12n"),
    Architecture("yolo26n", remark="no suppression"),
    # A transformer learns slowly from little.
    Architecture("rtdetr-small", remark="no suppression, stretched input", epochs=5 * EPOCHS),
    Architecture("yolov8n-worldv2", remark="names as text; drawn at random here"),
    Architecture("yolo11n-seg", "segment"),
    Architecture("yolo26n-seg", "segment", "no suppression"),
    Architecture("yolo11n-pose", "pose"),
    Architecture("yolo26n-pose", "pose", "no suppression"),
    Architecture("yolo11n-obb", "obb"),
    Architecture("yolo26n-obb", "obb", "no suppression"),
)


class RandomText:
    """Stands in for CLIP, which would be downloaded: a fixed random direction for each name."""

    def __init__(self, size: int = 512) -> None:
        self.size = size

    def tokenize(self, texts: Sequence[str], **_: Any) -> torch.Tensor:
        """A number for each name, (N, 1)."""
        return torch.tensor([[sum(text.encode()) % 9973] for text in texts])

    def encode_text(self, tokens: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Unit vectors, (N, size)."""
        drawn = [
            torch.randn(self.size, generator=torch.Generator().manual_seed(int(t))) for t in tokens[:, 0]
        ]
        return torch.nn.functional.normalize(torch.stack(drawn), dim=-1).to(dtype)


def draw(folder: Path, task: str) -> Path:
    """Shapes on noise with labels of a task; returns data.yaml."""
    data = folder / "data.yaml"
    if data.exists():
        return data
    for split, count in IMAGES.items():
        rng = np.random.default_rng([SEED, len(split)])
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = rng.normal(rng.uniform(90, 150), 18, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            rows = []
            for _ in range(int(rng.integers(1, 5))):
                label = int(rng.integers(len(CLASSES)))
                outline = _outline(label, rng)
                shade = np.array(COLOURS[label]) + rng.normal(0, 18, 3)
                cv2.fillPoly(
                    pixels, [outline.round().astype(np.int32)], shade.clip(0, 255).tolist(), cv2.LINE_AA
                )
                rows.append(_label(label, outline, task))
            pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.3, 1.2)))
            stem = f"{split}{number:03d}"
            cv2.imwrite(str(folder / "images" / split / f"{stem}.png"), pixels)
            (folder / "labels" / split / f"{stem}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    points = "kpt_shape: [4, 3]\n" if task == "pose" else ""
    data.write_text(
        f"path: {folder}\ntrain: images/train\nval: images/val\nnames: {json.dumps(list(CLASSES))}\n{points}",
        encoding="utf-8",
    )
    return data


def _outline(label: int, rng: np.random.Generator) -> np.ndarray:
    """The outline of an object, (N, 2) pixels; the first of eight corners that stand for a disc are not
    special.
    """
    across, along = np.array(SIZES[label]) * rng.uniform(0.7, 1.4) / 2
    centre, turn = rng.uniform(30, SIDE - 30, 2), rng.uniform(0, np.pi)
    if label == 1:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        shape = np.stack([across * np.cos(angle), along * np.sin(angle)], 1)
    else:
        shape = np.array([[-across, -along], [across, -along], [across, along], [-across, along]])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(centre + shape @ rotation.T)


def _label(label: int, outline: np.ndarray, task: str) -> str:
    """A row of a label file."""
    low, high = outline.min(0), outline.max(0)
    box = [*((low + high) / 2), *(high - low)]
    corners = outline if len(outline) == 4 else np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    values = {
        "detect": np.array(box),
        "segment": outline.ravel(),
        "obb": corners.ravel(),
        "pose": np.array(box),
    }[task] / SIDE
    row = [f"{value:.5f}" for value in values]
    if task == "pose":
        row += [f"{x / SIDE:.5f} {y / SIDE:.5f} 2" for x, y in corners]
    return f"{label} {' '.join(row)}"


def trained(architecture: Architecture, data: Path) -> Path:
    """The run folder of a trained network."""
    folder = runs_folder() / "architectures" / architecture.name
    if (folder / "weights" / "best.pt").exists() and (folder / "done").exists():
        return folder
    from ultralytics import RTDETR, YOLO

    kind = RTDETR if architecture.name.startswith("rtdetr") else YOLO
    own = Path(__file__).with_name(f"{architecture.name}.yaml")
    kind(str(own) if own.exists() else f"{architecture.name}.yaml").train(
        data=str(data), epochs=architecture.epochs, imgsz=SIDE, batch=BATCH, nbs=BATCH, device="cpu", seed=SEED, workers=0,
        project=str(folder.parent), name=folder.name, exist_ok=True, optimizer="AdamW", lr0=0.002, lrf=0.05,
        warmup_epochs=0.5, mosaic=0.0, erasing=0.0, auto_augment=None, cache="ram", pretrained=False, plots=False,
        verbose=False, amp=False,
    )  # fmt: skip
    (folder / "done").touch()
    return folder


def measure(architecture: Architecture, reporter: Reporter) -> dict[str, Any]:
    """AP by both, and forward calls an image."""
    from ultralytics import YOLO

    data = draw(runs_folder() / "architectures" / f"shapes-{architecture.task}", architecture.task)
    run = trained(architecture, data)
    weights = run / "weights" / "best.pt"
    theirs = YOLO(str(weights)).val(
        data=str(data), imgsz=SIDE, batch=1, conf=0.001, max_det=100, device="cpu", plots=False, verbose=False, workers=0,
        project=str(run), name="val", exist_ok=True, save_json=architecture.task == "segment",
    )  # fmt: skip
    options = ReportOptions(
        run=run, in_domain=("in-domain", str(data)), real_world=(("darker", str(darker(data))),), label_free=True,
        checkpoints=0, seed=SEED,
    )  # fmt: skip
    result = run_report(options, reporter)
    findings, shapes = result.findings, result.shapes.get("in-domain")
    table = findings.classes.table
    ours = table[table["domain"] == "in-domain"]
    forwarded, images = forward_passes(weights, findings.in_domain)
    return {
        "network": architecture.name,
        "task": architecture.task,
        "remark": architecture.remark,
        "map50": float(theirs.box.map50),
        "map": float(theirs.box.map),
        "ap50": float(ours["ap50"].mean()),
        "ap": float(ours["ap"].mean()),
        "forwarded": forwarded,
        "images": images,
        **_shape_scores(theirs, shapes),
        **_saved_masks(run / "val" / "predictions.json", data.parent, architecture.task),
        **label_free_error(findings),
    }


def _shape_scores(theirs: Any, ours: ShapeScores | None) -> dict[str, float]:
    """AP of masks or key points by both; NaN for a model of boxes."""
    if ours is None:
        return dict.fromkeys(("shape_map50", "shape_map", "shape_ap50", "shape_ap"), float("nan"))
    measured = theirs.seg if ours.kind == "masks" else theirs.pose
    return {
        "shape_map50": float(measured.map50),
        "shape_map": float(measured.map),
        "shape_ap50": ours.ap50,
        "shape_ap": ours.ap,
    }


def _saved_masks(predictions: Path, folder: Path, task: str) -> dict[str, float]:
    """AP by pycocotools of the masks that validation saved; NaN for other tasks."""
    if task != "segment":
        return {"saved_ap50": float("nan"), "saved_ap": float("nan")}
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    truth["categories"] = [{"id": number + 1, "name": name} for number, name in enumerate(CLASSES)]
    numbers = {}
    for number, path in enumerate(sorted((folder / "images" / "val").iterdir())):
        numbers[path.stem] = number
        truth["images"].append({"id": number, "width": SIDE, "height": SIDE, "file_name": path.name})
        for line in (folder / "labels" / "val" / f"{path.stem}.txt").read_text(encoding="utf-8").splitlines():
            label, *values = map(float, line.split())
            canvas = np.zeros((SIDE, SIDE), np.uint8)
            cv2.fillPoly(canvas, [(np.array(values).reshape(-1, 2) * SIDE).astype(np.int32)], 1)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "segmentation": mask_tools.encode(np.asfortranarray(canvas)),
                    "area": int(canvas.sum()),
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": 0,
                }
            )
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    results = json.loads(predictions.read_text(encoding="utf-8"))
    found = [
        {key: result[key] for key in ("category_id", "segmentation", "score")}
        | {"image_id": numbers[str(result["image_id"])]}
        for result in results
    ]
    evaluation = COCOeval(coco, coco.loadRes(found), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 2]
    return {"saved_ap50": float(precision[0].mean()), "saved_ap": float(precision.mean())}


def label_free_error(findings: Findings) -> dict[str, float]:
    """How wrong AP50 is without labels on families of corruptions left out, beside assuming the in-domain
    AP50; and how well the signal that suppression of boxes leaves behind ("contested") follows AP50, as a
    rank correlation.
    """
    estimator = findings.estimator
    if estimator is None:
        return dict.fromkeys(("error", "naive", "contested", "expected"), float("nan"))
    errors, signals = estimator.errors, estimator.signals
    return {
        "error": root_mean_square(errors["estimate"] - errors["truth"]),
        "naive": root_mean_square(pd.Series(estimator.truth - findings.evidence.in_domain_ap50)),
        "contested": float(spearmanr(signals["contested"], estimator.truth)[0]),
        "expected": float(spearmanr(signals["expected"], estimator.truth)[0]),
    }


def darker(data: Path) -> Path:
    """The validation images of a dataset, darker; returns their data.yaml."""
    folder = data.parent.with_name(f"{data.parent.name}-darker")
    if not (folder / "data.yaml").exists():
        shutil.copytree(data.parent, folder, ignore=shutil.ignore_patterns("*.cache", "train", "data.yaml"))
        for path in (folder / "images" / "val").iterdir():
            pixels = cv2.imread(str(path))
            assert pixels is not None
            cv2.imwrite(str(path), (pixels * 0.4).astype(np.uint8))
        text = data.read_text(encoding="utf-8").replace(f"path: {data.parent}\n", f"path: {folder}\n")
        (folder / "data.yaml").write_text(text.replace("train: images/train\n", ""), encoding="utf-8")
    return folder / "data.yaml"


def forward_passes(weights: Path, domain: Domain) -> tuple[int, int]:
    """Images that go through the network to predict a domain, and images in it."""
    passed: list[int] = []
    predict = Detector.predict_pixels

    def counted(detector: Detector, images: Sequence[Pixels], settings: Settings) -> list[ImageOutput]:
        passed.append(len(images))
        return predict(detector, images, settings)

    # Not a hook of the network: OpenVINO computes it elsewhere, and several detectors share the work.
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Detector, "predict_pixels", counted):
        Detector(weights, device="cpu").predict(domain.images, Settings(SIDE), Store(Path(folder)))
    return sum(passed), len(domain.images)


def main(
    only: Annotated[list[str], typer.Option(help="Names of architectures; default: all.")] = [],  # noqa: B006
) -> None:
    """Train, measure and write the page."""
    # Ultralytics installs CLIP when it is first imported.
    sys.modules.setdefault("clip", ModuleType("clip"))
    text_model: Any = import_module("ultralytics.nn.text_model")
    text_model.build_text_model = lambda *_, **__: RandomText()
    reporter = Reporter()
    earlier = pd.read_csv(ROWS).to_dict("records") if ROWS.exists() else []
    rows = {str(row["network"]): row for row in earlier}
    for architecture in ARCHITECTURES:
        if only and architecture.name not in only:
            continue
        rows[architecture.name] = measure(architecture, reporter)
        reporter.say(str(rows[architecture.name]))
        known = [rows[a.name] for a in ARCHITECTURES if a.name in rows]
        pd.DataFrame(known).round(4).to_csv(ROWS, index=False)
        PAGE.write_text(page(known), encoding="utf-8")


def page(rows: Sequence[dict[str, Any]]) -> str:
    """docs/architectures.md."""
    lines = [
        "# Architectures",
        "",
        "`python -m benchmarks.architectures` writes this page. One small network of each architecture, trained here on drawn",
        "shapes of three classes, scored on the same images by Ultralytics' own validation (`model.val`) and by a whole report.",
        "They differ by little: validation lets a box have several classes, and interpolates precision by the trapezoid rule",
        "where pycocotools sums over 101 points of recall. Forward passes are those of a prediction of the validation images.",
        "",
        "| network | task | remark | AP50 of model.val | AP50 here | AP of model.val | AP here | forward passes | images |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        words = [str(row[key]) if row[key] == row[key] else "" for key in ("network", "task", "remark")]
        values = [f"{row[key]:.3f}" for key in ("map50", "ap50", "map", "ap")]
        lines.append(f"| {' | '.join([*words, *values])} | {row['forwarded']} | {row['images']} |")
    lines += [
        "",
        "## Masks and key points",
        "",
        "The same networks by their masks (IoU) or key points (OKS). Validation compares masks at a quarter of the input's",
        "resolution; here they are compared at the whole, as pycocotools compares the masks that validation saves",
        "(`save_json`).",
        "",
        "| network | task | AP50 of model.val | of its saved masks | AP50 here | AP of model.val | of its saved masks | AP here |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.get("shape_ap50") == row.get("shape_ap50") and row.get("shape_ap50") is not None:
            keys = ("shape_map50", "saved_ap50", "shape_ap50", "shape_map", "saved_ap", "shape_ap")
            values = [f"{row[key]:.3f}" if row.get(key) == row.get(key) else "" for key in keys]
            lines.append(f"| {row['network']} | {row['task']} | {' | '.join(values)} |")
    lines += [
        "",
        "## AP50 without labels",
        "",
        "Root mean square error of the estimate on corruptions of families left out, beside that of assuming the in-domain",
        "AP50; and rank correlations with AP50 over all corruptions: of the confidence of weaker boxes across a confident one,",
        "which suppression leaves behind, and of AP50 expected from calibrated confidences.",
        "",
        "| network | remark | error | of assuming no change | weaker boxes | calibrated confidence |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        words = [str(row[key]) if row[key] == row[key] else "" for key in ("network", "remark")]
        values = [f"{row[key]:.3f}" for key in ("error", "naive", "contested", "expected")]
        lines.append(f"| {' | '.join([*words, *values])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
