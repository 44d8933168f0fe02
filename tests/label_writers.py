"""One dataset written as each tool writes it, independently of the readers, for tests of the readers.

Writers were made after the formats' own descriptions and exports seen in public; each gets the folder with
images/NAME.jpg and writes labels beside it.
"""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Name, corners in whole pixels.
Object = tuple[str, tuple[int, int, int, int]]


@dataclass(frozen=True)
class LabelledImage:
    """An image and its objects."""

    name: str
    size: tuple[int, int]
    objects: list[Object]


def dump(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def classes_of(labelled_images: list[LabelledImage]) -> list[str]:
    return sorted({name for labelled_image in labelled_images for name, _ in labelled_image.objects})


def xywh(box: tuple[int, int, int, int]) -> list[int]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def centred(box: tuple[int, int, int, int], size: tuple[int, int]) -> list[float]:
    x, y, w, h = xywh(box)
    return [(x + w / 2) / size[0], (y + h / 2) / size[1], w / size[0], h / size[1]]


def yolo(root: Path, labelled_images: list[LabelledImage]) -> None:
    names = classes_of(labelled_images)
    text(root / "classes.txt", "\n".join(names))
    for labelled_image in labelled_images:
        rows = [
            f"{names.index(n)} " + " ".join(f"{v:.9f}" for v in centred(b, labelled_image.size))
            for n, b in labelled_image.objects
        ]
        text(root / "labels" / f"{Path(labelled_image.name).stem}.txt", "\n".join(rows))


def coco(root: Path, labelled_images: list[LabelledImage]) -> None:
    names = classes_of(labelled_images)
    images = [
        {"id": i, "file_name": p.name, "width": p.size[0], "height": p.size[1]}
        for i, p in enumerate(labelled_images)
    ]
    annotations = [
        {"id": 0, "image_id": i, "category_id": names.index(n) + 1, "bbox": xywh(b), "iscrowd": 0}
        for i, p in enumerate(labelled_images)
        for n, b in p.objects
    ]
    categories = [{"id": i + 1, "name": n} for i, n in enumerate(names)]
    dump(root / "annotations.json", {"images": images, "annotations": annotations, "categories": categories})


def runs_down_columns(box: tuple[int, int, int, int], size: tuple[int, int]) -> list[int]:
    """Run lengths of a filled box, pixel by pixel."""
    width, height = size
    x1, y1, x2, y2 = box
    pixels = [int(x1 <= i // height < x2 and y1 <= i % height < y2) for i in range(width * height)]
    runs, value = [0], 0
    for pixel in pixels:
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def coco_masks(root: Path, labelled_images: list[LabelledImage]) -> None:
    """COCO with run-length masks in place of boxes, all marked iscrowd, as CVAT exports masks."""
    coco(root, labelled_images)
    content = json.loads((root / "annotations.json").read_text())
    for annotation in content["annotations"]:
        labelled_image = labelled_images[annotation["image_id"]]
        x, y, w, h = annotation.pop("bbox")
        counts = runs_down_columns((x, y, x + w, y + h), labelled_image.size)
        annotation |= {
            "segmentation": {"counts": counts, "size": list(labelled_image.size[::-1])},
            "iscrowd": 1,
        }
    dump(root / "annotations.json", content)


def voc(root: Path, labelled_images: list[LabelledImage]) -> None:
    for labelled_image in labelled_images:
        tree = ET.Element("annotation")
        size = ET.SubElement(tree, "size")
        ET.SubElement(size, "width").text, ET.SubElement(size, "height").text = map(str, labelled_image.size)
        for name, box in labelled_image.objects:
            node = ET.SubElement(tree, "object")
            ET.SubElement(node, "name").text = name
            corners = ET.SubElement(node, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                ET.SubElement(corners, key).text = str(value)
        text(root / "Annotations" / f"{Path(labelled_image.name).stem}.xml", ET.tostring(tree, "unicode"))


def labelme(root: Path, labelled_images: list[LabelledImage]) -> None:
    for number, labelled_image in enumerate(labelled_images):
        shapes = []
        for name, (x1, y1, x2, y2) in labelled_image.objects:
            # People drag rectangles from any corner.
            points = [[x1, y1], [x2, y2]] if number % 2 else [[x2, y1], [x1, y2]]
            shapes.append({"label": name, "points": points, "shape_type": "rectangle", "flags": {}})
        record = {
            "version": "5.4.1",
            "shapes": shapes,
            "imagePath": f"..\\images\\{labelled_image.name}",
            "imageData": None,
        }
        record |= {"imageWidth": labelled_image.size[0], "imageHeight": labelled_image.size[1]}
        dump(root / "images" / f"{Path(labelled_image.name).stem}.json", record)


def cvat(root: Path, labelled_images: list[LabelledImage]) -> None:
    tree = ET.Element("annotations")
    ET.SubElement(tree, "version").text = "1.1"
    for number, labelled_image in enumerate(labelled_images):
        width, height = map(str, labelled_image.size)
        node = ET.SubElement(
            tree, "image", id=str(number), name=labelled_image.name, width=width, height=height
        )
        for name, box in labelled_image.objects:
            keys = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{v:.2f}" for v in box), strict=True))
            ET.SubElement(node, "box", label=name, occluded="0", **keys)
    text(root / "annotations.xml", ET.tostring(tree, "unicode"))


def dota(root: Path, labelled_images: list[LabelledImage]) -> None:
    for labelled_image in labelled_images:
        rows = ["imagesource:GoogleEarth", "gsd:0.15"]
        for name, (x1, y1, x2, y2) in labelled_image.objects:
            rows.append(f"{x1}.0 {y1}.0 {x2}.0 {y1}.0 {x2}.0 {y2}.0 {x1}.0 {y2}.0 {name} 0")
        text(root / "labelTxt" / f"{Path(labelled_image.name).stem}.txt", "\n".join(rows) + "\n")


def bdd(root: Path, labelled_images: list[LabelledImage]) -> None:
    frames = [
        {
            "name": p.name,
            "attributes": {"weather": "rainy"},
            "timestamp": 10000,
            "labels": [
                {"category": n, "box2d": dict(zip(("x1", "y1", "x2", "y2"), b, strict=True)), "id": 1}
                for n, b in p.objects
            ],
        }
        for p in labelled_images
    ]
    dump(root / "labels" / "bdd100k_labels_images_val.json", frames)


def ndjson(root: Path, labelled_images: list[LabelledImage]) -> None:
    names = classes_of(labelled_images)
    lines: list[dict] = [{"type": "dataset", "task": "detect", "class_names": dict(enumerate(names))}]
    for p in labelled_images:
        boxes = [[names.index(n), *centred(b, p.size)] for n, b in p.objects]
        lines.append({"type": "image", "file": f"images/{p.name}", "annotations": {"boxes": boxes}})
    text(root / "road.ndjson", "\n".join(map(json.dumps, lines)))


def via_regions(labelled_image: LabelledImage) -> list[dict]:
    return [
        {
            "shape_attributes": {
                "name": "rect",
                **dict(zip(("x", "y", "width", "height"), xywh(b), strict=True)),
            },
            "region_attributes": {"class": n},
        }
        for n, b in labelled_image.objects
    ]


def via_json(root: Path, labelled_images: list[LabelledImage]) -> None:
    entries = {
        f"{p.name}123": {"filename": p.name, "size": 123, "regions": via_regions(p)} for p in labelled_images
    }
    dump(root / "via_project.json", {"_via_settings": {}, "_via_img_metadata": entries})


def via_csv(root: Path, labelled_images: list[LabelledImage]) -> None:
    with (root / "via_export.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(
            ["filename", "file_size", "region_count", "region_shape_attributes", "region_attributes"]
        )
        for p in labelled_images:
            for region in via_regions(p) or [{"shape_attributes": {}, "region_attributes": {}}]:
                writer.writerow(
                    [
                        p.name,
                        1,
                        len(p.objects),
                        *(json.dumps(region[k]) for k in ("shape_attributes", "region_attributes")),
                    ]
                )


def createml(root: Path, labelled_images: list[LabelledImage]) -> None:
    entries = []
    for p in labelled_images:
        rows = []
        for name, box in p.objects:
            x, y, w, h = xywh(box)
            rows.append(
                {"label": name, "coordinates": {"x": x + w / 2, "y": y + h / 2, "width": w, "height": h}}
            )
        entries.append({"image": p.name, "annotations": rows})
    dump(root / "_annotations.createml.json", entries)


def fiftyone(root: Path, labelled_images: list[LabelledImage]) -> None:
    names = classes_of(labelled_images)
    labels = {}
    for p in labelled_images:
        rows = []
        for name, box in p.objects:
            x, y, w, h = xywh(box)
            box_ = [x / p.size[0], y / p.size[1], w / p.size[0], h / p.size[1]]
            rows.append({"label": names.index(name), "bounding_box": box_})
        labels[Path(p.name).stem] = rows
    dump(root / "labels.json", {"classes": names, "labels": labels})


def label_studio(root: Path, labelled_images: list[LabelledImage]) -> None:
    tasks = []
    for number, p in enumerate(labelled_images):
        results = []
        for name, box in p.objects:
            x, y, w, h = xywh(box)
            value = {"x": 100 * x / p.size[0], "y": 100 * y / p.size[1]}
            value |= {"width": 100 * w / p.size[0], "height": 100 * h / p.size[1], "rotation": 0}
            value |= {"rectanglelabels": [name]}
            result = {"type": "rectanglelabels", "original_width": p.size[0], "original_height": p.size[1]}
            results.append({**result, "value": value})
        annotation = {"id": number, "was_cancelled": False, "result": results}
        tasks.append(
            {"id": number, "data": {"image": f"/data/upload/1/{p.name}"}, "annotations": [annotation]}
        )
    dump(root / "project-1-at-2026.json", tasks)


def huggingface(root: Path, labelled_images: list[LabelledImage]) -> None:
    rows = [
        {
            "file_name": p.name,
            "objects": {"bbox": [xywh(b) for _, b in p.objects], "categories": [n for n, _ in p.objects]},
        }
        for p in labelled_images
    ]
    text(root / "images" / "metadata.jsonl", "\n".join(map(json.dumps, rows)))


def tensorflow_csv(root: Path, labelled_images: list[LabelledImage]) -> None:
    with (root / "_annotations.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
        writer.writerows([p.name, *p.size, n, *b] for p in labelled_images for n, b in p.objects)


def kitti(root: Path, labelled_images: list[LabelledImage]) -> None:
    for p in labelled_images:
        rows = [
            f"{n} 0.00 0 -1.57 {x1}.00 {y1}.00 {x2}.00 {y2}.00 1.5 1.6 3.7 -2.0 1.7 20.0 -1.6"
            for n, (x1, y1, x2, y2) in p.objects
        ]
        text(root / "label_2" / f"{Path(p.name).stem}.txt", "\n".join(rows))


def oidv4(root: Path, labelled_images: list[LabelledImage]) -> None:
    for p in labelled_images:
        rows = [f"{n} {x1}.0 {y1}.5 {x2}.0 {y2}.0".replace(".5", ".0") for n, (x1, y1, x2, y2) in p.objects]
        text(root / "Label" / f"{Path(p.name).stem}.txt", "\n".join(rows))


WRITERS: dict[str, Callable[[Path, list[LabelledImage]], None]] = {
    writer.__name__: writer
    for writer in (
        yolo,
        coco,
        coco_masks,
        voc,
        labelme,
        cvat,
        dota,
        bdd,
        ndjson,
        via_json,
        via_csv,
        createml,
        fiftyone,
        label_studio,
        huggingface,
        tensorflow_csv,
        kitti,
        oidv4,
    )
}
# A table of boxes has no row for an image without any.
WITHOUT_BACKGROUND = frozenset({"tensorflow_csv"})
