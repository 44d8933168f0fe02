"""Chosen images handed to whoever labels them: copies with the detector's boxes as a first draft, in the formats that annotation tools read.

The folder is a YOLO dataset as it stands: its data.yaml names the old training images too, so that training goes on with both once labels are repaired.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from datasets.containment import vouch
from datasets.labels import label_text
from datasets.pairing import enclosing_roots
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from reports.export.cvat import as_cvat
from reports.export.drafts import Drafted
from reports.export.label_studio import as_label_studio, label_studio_view
from reports.files import write_text


def write_handoff(
    folder: Path,
    chosen: pd.DataFrame,
    domains: Sequence[Domain],
    classes: Sequence[str],
    confidence: float,
    old: pd.DataFrame | None,
    cache: Path,
) -> Path:
    """Write chosen images (rank, domain, group, image, path) into a new folder, and return its data.yaml.

    Images without labels get the detections at or above confidence as a draft. old: images table of the YOLO dataset that training goes on from, None where it is
    not known. cache: as `datasets.source.open_source` takes it; remembers there that this data.yaml may name the old images. Raises FileExistsError where the folder is there: somebody may have repaired labels in it.
    """
    if folder.exists():
        raise FileExistsError(folder)
    draft = folder.with_name(folder.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    for kind in ("images", "labels"):
        (draft / kind).mkdir(parents=True)
    by_name = {domain.name: domain for domain in domains}
    images = [_drafted(draft, row, by_name[row["domain"]], confidence) for row in chosen.to_dict("records")]
    write_text(draft / "coco.json", json.dumps(_as_coco(images, classes), indent=1))
    write_text(draft / "label-studio.json", json.dumps(as_label_studio(images, classes), indent=1))
    write_text(draft / "label-studio.xml", label_studio_view(classes))
    write_text(draft / "cvat.xml", as_cvat(images, classes))
    write_text(draft / "data.yaml", yaml.safe_dump(card(draft, folder, classes, old), sort_keys=False))
    draft.rename(folder)
    if old is not None:
        folders = sorted({Path(path).parent for path in old["path"]})
        vouch(folder / "data.yaml", enclosing_roots(folders), cache)
    return folder / "data.yaml"


def _drafted(folder: Path, row: dict[str, Any], domain: Domain, confidence: float) -> Drafted:
    """Copy one image and write its YOLO labels."""
    image = domain.images[domain.images["image"] == row["image"]].iloc[0]
    original = Path(row["path"])
    # The clip first and a number last, which is how clips are told from file names.
    clip = re.sub(r"[^A-Za-z0-9-]+", "-", f"{row['domain']}-{row['group']}").strip("-")[-80:] or "image"
    file = f"{clip}_{row['rank']:04d}{original.suffix.lower()}"
    shutil.copyfile(original, folder / "images" / file)
    labelled, width, height = bool(image["labelled"]), int(image["width"]), int(image["height"])
    # A crowd is no object that a detector could be taught.
    table = domain.annotations[~domain.annotations["crowd"].astype(bool)].assign(confidence=1.0)
    if not labelled:
        table = domain.detections[domain.detections["confidence"] >= confidence]
    mine = table[table["image"] == row["image"]]
    boxes = tuple(
        (int(row.label), float(row.x1), float(row.y1), float(row.x2), float(row.y2), float(row.confidence))
        for row in mine.itertuples()
    )
    text = label_text(mine["label"].tolist(), mine[CORNERS].to_numpy(float), width, height)
    (folder / "labels" / file).with_suffix(".txt").write_text(text, encoding="utf-8")
    return Drafted(file, width, height, labelled, boxes)


def card(draft: Path, folder: Path, classes: Sequence[str], old: pd.DataFrame | None) -> dict[str, Any]:
    """A data.yaml of the old training images and the chosen ones, whose validation stays what it was; the old ones are named one by one in lists beside it."""
    content: dict[str, Any] = {"path": str(folder.absolute()), "train": ["images"]}
    for split in ("train", "val"):
        paths = [] if old is None else old.loc[old["split"] == split, "path"].tolist()
        if paths:
            write_text(draft / f"{split}.txt", "".join(f"{path}\n" for path in paths))
            content[split] = [*content.get(split, []), f"{split}.txt"]
    return {**content, "names": dict(enumerate(classes))}


def _as_coco(images: Sequence[Drafted], classes: Sequence[str]) -> dict[str, Any]:
    """COCO json; drafts carry their score."""
    annotations = [
        {
            "id": 0,
            "image_id": number,
            "category_id": label + 1,
            "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
            "area": round((x2 - x1) * (y2 - y1), 2),
            "iscrowd": 0,
            **({} if image.labelled else {"score": round(sure, 4)}),
        }
        for number, image in enumerate(images, 1)
        for label, x1, y1, x2, y2, sure in image.boxes
    ]
    return {
        "images": [
            {"id": number, "file_name": f"images/{p.file}", "width": p.width, "height": p.height}
            for number, p in enumerate(images, 1)
        ],
        "annotations": [{**a, "id": number} for number, a in enumerate(annotations, 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }
