"""What people did in the App, read back: tags, and labels drawn, moved, renamed or taken away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from datasets.corrections import Box, Correction, as_text, read_corrections, same_boxes
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.wording import count
from reports.atomic import write_text
from reports.workbench.connection import database
from reports.workbench.dataset import own_tags, report_of
from reports.workbench.documents import fractions, object_id
from train.environment import corrections_path

# A box whose edges stay within this fraction of the picture was not moved.
UNMOVED = 1e-6
PIXEL_DIGITS = 2


@dataclass
class Pulled:
    """What was found in a dataset. pictures: with changed labels. objects: how many were "added", "taken away", "moved", "renamed". tags: pictures by tag."""

    pictures: int = 0
    objects: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    corrections: dict[str, Correction] = field(default_factory=dict)


def pull(name: str) -> Pulled:
    """Read a dataset's tags and labels back into the file of corrections. Raises InputError when its report is gone, EnvironmentProblem without a database."""
    with database() as fo:
        return pull_from(fo.load_dataset(name))


def pull_from(dataset: Any) -> Pulled:
    """The same of an open dataset. Raises InputError."""
    found = read_dataset(dataset)
    path = corrections_path()
    known = read_corrections(path)
    for picture, correction in found.corrections.items():
        merged = merge(known.get(picture), correction)
        if merged is None:
            known.pop(picture, None)
        else:
            known[picture] = merged
    if known or path.exists():
        write_text(path, as_text(known))
    return found


def merge(earlier: Correction | None, now: Correction) -> Correction | None:
    """A picture's correction after an earlier one, which told what the source itself says; None where nothing is left to correct."""
    if earlier is not None and earlier.now is not None:
        labels = earlier.now if now.now is None else now.now
        now = Correction(earlier.was, labels, now.tags)
    if now.now is not None and now.was is not None and same_boxes(now.now, now.was):
        now = Correction(now.was, None, now.tags)
    return now if now.now is not None or now.tags else None


def read_dataset(dataset: Any) -> Pulled:
    """Every picture's tags, and its labels against those that were written."""
    result = Pulled()
    for domain in report_of(dataset).domains:
        written = dict(written_boxes(domain))
        sizes = domain.pictures.set_index("image")[["width", "height"]]
        labelled = dict(zip(domain.pictures["image"], domain.labelled.tolist(), strict=True))
        wanted = {"image_id": 1, "filepath": 1, "tags": 1, "ground_truth.detections": 1}
        for document in dataset._sample_collection.find({"domain": domain.name}, wanted):
            image = document["image_id"]
            if image not in labelled:
                continue
            tags = own_tags(document.get("tags") or [])
            result.tags.update(tags)
            was = written.get(image, {}) if labelled[image] else None
            drawn = (document.get("ground_truth") or {}).get("detections")
            width, height = sizes.loc[image]
            now = None
            if drawn is not None and (was is not None or drawn):
                changes = differences(was or {}, drawn)
                if changes:
                    now = tuple(pixels(box, float(width), float(height)) for box in drawn)
                    result.pictures += 1
                    result.objects.update(changes)
            before = (
                None
                if was is None
                else tuple(pixels(box, float(width), float(height)) for box in was.values())
            )
            result.corrections[document["filepath"]] = Correction(before, now, tags)
    return result


def written_boxes(domain: Domain) -> Iterator[tuple[str, dict[Any, dict[str, Any]]]]:
    """Image -> the boxes that were written for it, by id."""
    size = domain.pictures.set_index("image")[["width", "height"]]
    boxes = domain.boxes
    places = (
        fractions(boxes[CORNERS].to_numpy(float), size.loc[boxes["image"]].to_numpy(float))
        if len(boxes)
        else []
    )
    found: dict[str, dict[Any, dict[str, Any]]] = {}
    for row, image, label, crowd, place in zip(
        boxes.index.tolist(),
        boxes["image"].tolist(),
        boxes["label"].tolist(),
        boxes["crowd"].tolist(),
        places,
        strict=True,
    ):
        found.setdefault(image, {})[object_id("truth", domain.name, image, row)] = {
            "label": domain.classes[label],
            "bounding_box": place,
            "iscrowd": bool(crowd),
        }
    yield from found.items()


def differences(was: dict[Any, dict[str, Any]], drawn: list[dict[str, Any]]) -> Counter[str]:
    """What became of a picture's objects. A box with a new id that lies where one of the same label lay is that one: tools that write labels anew give new ids."""
    changes: Counter[str] = Counter()
    before = dict(was)
    new = []
    for box in drawn:
        old = before.pop(box["_id"], None)
        if old is None:
            new.append(box)
            continue
        changes["moved"] += not lies_at(old, box)
        changes["renamed"] += old["label"] != box["label"]
        changes["marked as crowd or not"] += old["iscrowd"] != bool(box.get("iscrowd"))
    for box in new:
        same = next(
            (key for key, old in before.items() if old["label"] == box["label"] and lies_at(old, box)), None
        )
        if same is None:
            changes["added"] += 1
        else:
            del before[same]
    changes["taken away"] = len(before)
    return +changes


def lies_at(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two boxes have the same edges."""
    pairs = zip(first["bounding_box"], second["bounding_box"], strict=True)
    return all(abs(a - b) <= UNMOVED for a, b in pairs)


def pixels(box: dict[str, Any], width: float, height: float) -> Box:
    """A box of FiftyOne in pixels."""
    left, top, wide, high = box["bounding_box"]
    corners = (left * width, top * height, (left + wide) * width, (top + high) * height)
    x1, y1, x2, y2 = (round(v, PIXEL_DIGITS) for v in corners)
    return str(box["label"]), x1, y1, x2, y2, bool(box.get("iscrowd"))


def lines(found: Pulled) -> list[str]:
    """What was read back, in sentences."""
    said = []
    if found.pictures:
        what = ", ".join(f"{number} {kind}" for kind, number in sorted(found.objects.items()))
        said.append(f"Labels of {count(found.pictures, 'picture')} changed; objects: {what}.")
    said += [f"{count(number, 'picture')} tagged “{tag}”." for tag, number in sorted(found.tags.items())]
    if not said:
        return ["Nothing was changed in the App: no tags, and every label as it was written."]
    return [
        *said,
        f"Kept in {corrections_path()}; the next report uses it, and the sources stay as they are.",
    ]
