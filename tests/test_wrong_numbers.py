"""What used to give a wrong number without a word: ids and units that mean something else, files about other
images, labels that are lost. Each is refused, read right, or said.
"""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from datasets.classes import with_classes
from datasets.errors import InputError
from datasets.groups import assign
from datasets.labels import parse_row
from datasets.plausibility import reading_that_fits
from datasets.source import open_source
from datasets.tables import Source
from diagnostics.class_ids import exchanged_classes
from diagnostics.domain import Domain
from diagnostics.findings import find
from diagnostics.inputs import Inputs
from reports.options import ReportOptions
from reports.page.headline import _warnings
from reports.pipeline.inference import predict_domains
from reports.pipeline.run import run_report
from reports.pipeline.sources import open_domains
from reports.progress import Reporter
from tests.conftest import complaint, run_in_process
from tests.label_writers import WRITERS, LabelledImage, coco, dump, label_studio, text, voc
from tests.test_sources import image, label
from train.history import read_history
from train.run import open_run, open_weights

SIZE = (320, 240)
NAMES = ("bus", "car", "truck")
Box = tuple[int, int, int, int]


def drawn(seed: int, count: int = 12) -> list[LabelledImage]:
    """Pictures of four objects, all inside."""
    rng = np.random.default_rng(seed)
    labelled_images = []
    for number in range(count):
        objects = []
        for k in range(4):
            w, h = rng.integers(20, 70, 2)
            x, y = rng.integers(0, SIZE[0] - w), rng.integers(0, SIZE[1] - h)
            objects.append((NAMES[(number + k) % 3], (int(x), int(y), int(x + w), int(y + h))))
        labelled_images.append(LabelledImage(f"{number:06d}.jpg", SIZE, objects))
    return labelled_images


def with_images(root: Path, labelled_images: list[LabelledImage], folder: str = "images") -> Path:
    for number, labelled_image in enumerate(labelled_images):
        image(root / folder / labelled_image.name, size=SIZE, seed=number)
    return root


def opened(path: Path, **options: object) -> Source:
    return open_source(str(path), cache=path.parent / "cache", **options)


def content_of(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def results_of(
    labelled_images: list[LabelledImage], image_id=lambda number: f"{number:06d}", **more
) -> list[dict]:
    """Perfect predictions."""
    return [
        {
            "image_id": image_id(number),
            "category_id": NAMES.index(name),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 0.9 - 0.01 * k,
            **more,
        }
        for number, labelled_image in enumerate(labelled_images)
        for k, (name, (x1, y1, x2, y2)) in enumerate(labelled_image.objects)
    ]


def predicted(
    root: Path, sources: dict[str, Path], results: dict[str, list[dict]], say=None
) -> dict[str, float]:
    """AP50 by domain of a report on predictions; the first source is in-domain."""
    for name, content in results.items():
        dump(root / f"{name}.json", content)
    (first, inside), *others = sources.items()
    options = ReportOptions(
        in_domain=(first, str(inside)),
        real_world=tuple((name, str(path)) for name, path in others),
        predictions=tuple((name, root / f"{name}.json") for name in sources),
    )
    reporter = Reporter()
    if say is not None:
        reporter.say = say  # type: ignore[method-assign]
    findings = run_report(options, reporter).findings
    whole = findings.slices[findings.slices["slice"] == "all"]
    return dict(zip(whole["domain"], whole["ap50"], strict=True))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    root = with_images(tmp_path / "lab", drawn(1))
    WRITERS["yolo"](root, drawn(1))
    return root


# --- ids


@pytest.mark.parametrize(("list_", "key"), [("images", "image_id"), ("categories", "category_id")])
@pytest.mark.parametrize("by", [-1, 1])
def test_annotations_that_count_from_another_number_are_refused(
    tmp_path: Path, list_: str, key: str, by: int
) -> None:
    root = with_images(tmp_path / "d", drawn(2))
    coco(root, drawn(2))
    (file,) = root.rglob("*.json")
    content = content_of(file)
    assert len(opened(root).annotations) == 48
    for annotation in content["annotations"]:
        annotation[key] += by
    dump(file, content)
    with pytest.raises(InputError, match=f"number {list_} from .*; correct the json"):
        opened(root)
    dump(tmp_path / "dt.json", [])
    outcome = run_in_process("score", "--ground-truth", str(file), "--predictions", "dt.json", cwd=tmp_path)
    assert f"number {list_} from" in complaint(outcome)


@pytest.mark.parametrize("list_", ["images", "categories"])
def test_ids_that_repeat_are_refused_by_score(tmp_path: Path, list_: str) -> None:
    root = with_images(tmp_path / "d", drawn(2))
    coco(root, drawn(2))
    (file,) = root.rglob("*.json")
    content = content_of(file)
    content[list_][1]["id"] = content[list_][0]["id"]
    dump(file, content)
    dump(tmp_path / "dt.json", [])
    outcome = run_in_process("score", "--ground-truth", str(file), "--predictions", "dt.json", cwd=tmp_path)
    assert f"occurs more than once in its {list_}" in complaint(outcome)


def test_ids_of_a_json_and_numbers_of_file_names_are_never_mixed(tmp_path: Path, lab: Path) -> None:
    labelled_images = drawn(3)
    root = with_images(tmp_path / "road", labelled_images)
    coco(root, labelled_images)
    (file,) = root.rglob("*.json")
    content = content_of(file)
    # The first image, 000000.jpg, has the id 1.
    number = {entry["id"]: k for k, entry in enumerate(content["images"])}
    for entry in (*content["images"], *content["annotations"]):
        key = "id" if "file_name" in entry else "image_id"
        entry[key] = number[entry[key]] + 1
    ids = {entry["name"]: entry["id"] for entry in content["categories"]}
    dump(file, content)
    results = results_of(labelled_images, image_id=int)
    for result in results:
        result["category_id"] = ids[NAMES[result["category_id"]]]
    sources = {"lab": lab, "road": root}
    inside = results_of(drawn(1))
    assert predicted(tmp_path, sources, {"lab": inside, "road": results})["road"] == 1.0
    # Without a detection in 000000.jpg every number is also an id.
    results = [result for result in results if result["image_id"]]
    with pytest.raises(InputError, match="seem to be the numbers of the file names"):
        predicted(tmp_path, sources, {"lab": inside, "road": results})
    by_id = [result | {"image_id": result["image_id"] + 1} for result in results]
    assert predicted(tmp_path, sources, {"lab": inside, "road": by_id})["road"] > 0.9


def test_numbers_that_pandas_wrote_as_floats_are_ids(tmp_path: Path) -> None:
    root = with_images(tmp_path / "d", drawn(2))
    coco(root, drawn(2))
    (file,) = root.rglob("*.json")
    content = content_of(file)
    for entry in content["images"]:
        entry["id"] = float(entry["id"])
    dump(file, content)
    assert len(opened(root).annotations) == 48


# --- units and layouts


def as_written(writer: str, box: Box) -> Box:
    """The box whose numbers, as a writer writes them, are the corners of a box."""
    x1, y1, x2, y2 = box
    if writer in ("ndjson", "createml"):
        return x1 - x2 // 2, y1 - y2 // 2, x1 + x2 - x2 // 2, y1 + y2 - y2 // 2
    return x1, y1, x1 + x2, y1 + y2


@pytest.mark.parametrize("writer", ["via_json", "via_csv", "huggingface", "fiftyone", "ndjson", "createml"])
def test_corners_where_another_layout_belongs_are_refused_in_every_format(
    tmp_path: Path, writer: str
) -> None:
    labelled_images = drawn(4)
    right = with_images(tmp_path / "right", labelled_images)
    WRITERS[writer](right, labelled_images)
    assert len(opened(right).annotations) == 48
    wrong = with_images(tmp_path / "wrong", labelled_images)
    WRITERS[writer](
        wrong,
        [replace(p, objects=[(n, as_written(writer, b)) for n, b in p.objects]) for p in labelled_images],
    )
    with pytest.raises(InputError, match="look like left, top, right, bottom, where"):
        opened(wrong)


@pytest.mark.parametrize(
    ("scale", "words"),
    [(0.01, "fractions of the image, where percent"), (3.2, "pixels of the image, where percent")],
)
def test_label_studio_in_another_unit_is_refused(tmp_path: Path, scale: float, words: str) -> None:
    root = with_images(tmp_path / "d", drawn(5))
    label_studio(root, drawn(5))
    (file,) = root.glob("*.json")
    content = json.loads(file.read_text())
    for task in content:
        for result in task["annotations"][0]["result"]:
            for key in ("x", "y", "width", "height"):
                result["value"][key] *= scale
    dump(file, content)
    with pytest.raises(InputError, match=words):
        opened(root)


@pytest.mark.parametrize("writer", [coco, voc])
def test_labels_of_larger_images_are_refused(tmp_path: Path, writer) -> None:
    labelled_images = drawn(6)
    root = with_images(tmp_path / "d", labelled_images)
    writer(
        root,
        [replace(p, objects=[(n, tuple(2 * v for v in b)) for n, b in p.objects]) for p in labelled_images],
    )
    for file in (*root.rglob("*.json"), *root.rglob("*.xml")):
        # Nothing in the file says on which size it was drawn.
        content = file.read_text().replace("<width>320</width>", "").replace("<height>240</height>", "")
        file.write_text(content.replace('"width": 320, ', "").replace('"height": 240, ', ""))
    with pytest.raises(InputError, match="those of larger images"):
        opened(root)


def test_confidences_in_percent_are_refused(tmp_path: Path, lab: Path) -> None:
    results = [r | {"score": 100 * r["score"]} for r in results_of(drawn(1))]
    with pytest.raises(InputError, match="go up to 90, which are percent"):
        predicted(tmp_path, {"lab": lab, "road": lab}, {"lab": results_of(drawn(1)), "road": results})


def moved(root: Path, labelled_images: list[LabelledImage], change) -> tuple[Path, list[dict]]:
    """A COCO dataset, and perfect predictions of it after a change of each box; without those that lie
    outside.
    """
    with_images(root, labelled_images)
    coco(root, labelled_images)
    (file,) = root.rglob("*.json")
    content = content_of(file)
    ids = {entry["file_name"]: entry["id"] for entry in content["images"]}
    results = results_of(labelled_images, image_id=lambda number: ids[f"{number:06d}.jpg"])
    for result in results:
        result["category_id"] += min(e["id"] for e in content["categories"])
        result["bbox"] = [float(value) for value in change(result["bbox"])]
    ends = [(r["bbox"][0] + r["bbox"][2], r["bbox"][1] + r["bbox"][3]) for r in results]
    return file, [r for r, (x, y) in zip(results, ends, strict=True) if x <= SIZE[0] and y <= SIZE[1]]


def padded(box: list[float]) -> list[float]:
    scale = 640 / max(SIZE)
    left, top = ((640 - side * scale) / 2 for side in SIZE)
    return [box[0] * scale + left, box[1] * scale + top, box[2] * scale, box[3] * scale]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: [2 * v for v in b], "images twice as large"),
        (lambda b: [b[1], b[0], b[3], b[2]], "top, left, height, width"),
        (lambda b: [v / 2 for v in b], "images half as large"),
        (padded, "network's input, 640 a side and padded"),
        (lambda b: [b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]], "centre x, centre y"),
    ],
    ids=["twice as large", "y before x", "half as large", "padded input", "centres"],
)
@pytest.mark.parametrize("lucky", [0, 1])
def test_predictions_that_lie_on_annotations_under_another_reading_are_refused(
    tmp_path: Path, change, words: str, lucky: int
) -> None:
    """Also where a box or two lie on one by chance."""
    labelled_images = [replace(p, objects=p.objects[:1]) for p in drawn(16, count=100)]
    root = tmp_path / "d"
    file, results = moved(root, labelled_images, change)
    unchanged = results_of(labelled_images, image_id=lambda number: content_of(file)["images"][number]["id"])[
        :lucky
    ]
    for result in unchanged:
        result["category_id"] += min(e["id"] for e in content_of(file)["categories"])
    dump(tmp_path / "dt.json", unchanged + results)
    outcome = run_in_process("score", "--ground-truth", str(file), "--predictions", "dt.json", cwd=tmp_path)
    assert outcome.code == 2
    assert words in outcome.stderr
    lab_root = with_images(tmp_path / "lab2", drawn(1))
    WRITERS["yolo"](lab_root, drawn(1))
    with pytest.raises(InputError, match=re.escape(words)):
        predicted(
            tmp_path,
            {"lab": lab_root, "road": root},
            {"lab": results_of(drawn(1)), "road": unchanged + results},
        )


def test_predictions_that_lie_nowhere_are_said(tmp_path: Path) -> None:
    """Whatever they are: these are the boxes of other images, mirrored."""
    labelled_images = [replace(p, objects=p.objects[:1]) for p in drawn(16)]
    root = tmp_path / "d"
    file, results = moved(
        root, labelled_images, lambda b: [SIZE[0] - b[0] - b[2], SIZE[1] - b[1] - b[3], b[2], b[3]]
    )
    results = [r for r in results if abs(r["bbox"][0] + r["bbox"][2] / 2 - SIZE[0] / 2) > r["bbox"][2]]
    dump(tmp_path / "dt.json", results)
    outcome = run_in_process("score", "--ground-truth", str(file), "--predictions", "dt.json", cwd=tmp_path)
    scored = json.loads(outcome.stdout)
    assert scored["overall"]["ap50"] == 0
    assert any("no detection lies on an annotation" in line for line in scored["notes"])
    said: list[str] = []
    lab_root = with_images(tmp_path / "lab2", drawn(1))
    WRITERS["yolo"](lab_root, drawn(1))
    sources = {"lab": lab_root, "road": root}
    predicted(tmp_path, sources, {"lab": results_of(drawn(1)), "road": results}, said.append)
    assert any("lies on an annotation" in line for line in said)


def test_a_poor_detector_is_not_refused() -> None:
    """Detections of which one in twenty lies on an annotation, and the rest somewhere: no reading explains
    them.
    """
    rng = np.random.default_rng(5)
    truth = np.column_stack([rng.uniform(0, 500, (400, 2)), rng.uniform(20, 80, (400, 2))])
    boxes = np.column_stack([rng.uniform(0, 500, (400, 2)), rng.uniform(20, 80, (400, 2))])
    boxes[::20] = truth[::20]
    images = np.arange(400) // 4
    corners = np.column_stack([truth[:, :2], truth[:, :2] + truth[:, 2:]])
    annotated = {image: corners[images == image] for image in range(100)}
    assert reading_that_fits(boxes, images, np.full((400, 2), 640.0), annotated) == ""


def test_an_empty_list_of_predictions_is_said(tmp_path: Path) -> None:
    root = with_images(tmp_path / "d", drawn(7))
    coco(root, drawn(7))
    (file,) = root.rglob("*.json")
    dump(tmp_path / "dt.json", [])
    outcome = run_in_process("score", "--ground-truth", str(file), "--predictions", "dt.json", cwd=tmp_path)
    assert "the predictions hold no detection" in json.loads(outcome.stdout)["notes"]


# --- classes


def of_one_class_an_image(domain: Domain) -> Domain:
    """Every image shows one class, and the detector is right about it."""
    label_of = {image: number % 3 for number, image in enumerate(domain.images["image"])}
    return replace(
        domain,
        annotations=domain.annotations.assign(label=domain.annotations["image"].map(label_of)),
        detections=domain.detections.assign(label=domain.detections["image"].map(label_of)),
    )


def test_exchanged_classes_are_named_and_confused_ones_are_not() -> None:
    names = ("car", "bus", "sign")
    in_domain = of_one_class_an_image(make_domain(clips=8, classes=names))
    real_world = of_one_class_an_image(make_domain("road", role="real_world", clips=8, seed=1, classes=names))
    order = np.array([1, 0, 2])
    swapped = replace(
        real_world, annotations=real_world.annotations.assign(label=order[real_world.annotations["label"]])
    )
    # Every bus is called a car, and cars are cars: a poor detector, whose ids are right.
    blind = replace(
        real_world,
        detections=real_world.detections.assign(label=real_world.detections["label"].replace(1, 0)),
    )
    for domain, expected in ((real_world, {}), (blind, {}), (swapped, {"car": "bus", "bus": "car"})):
        findings = find(Inputs(in_domain, [domain], None, pd.DataFrame()))
        assert findings.exchanged_classes["road"] == expected
        assert sum("exchange classes" in line for line in _warnings(findings)) == bool(expected)
    assert exchanged_classes(
        swapped.annotation_arrays, swapped.detection_arrays, n_images=swapped.table.n_images, n_classes=3
    ) == {0: 1, 1: 0}


def test_a_category_name_in_another_case_is_a_name(tmp_path: Path) -> None:
    labelled_images = drawn(8)
    root = with_images(tmp_path / "d", labelled_images)
    coco(root, labelled_images)
    (file,) = root.rglob("*.json")
    content = content_of(file)
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    ids = sorted(names)
    other = dict(zip(ids, [*ids[1:], ids[0]], strict=True))
    results = [
        {
            "image_id": a["image_id"], "category_id": other[a["category_id"]], "bbox": a["bbox"], "score": 0.9,
            "category_name": names[a["category_id"]].title(),
        }
        for a in content["annotations"]
    ]  # fmt: skip
    dump(tmp_path / "dt.json", results)
    arguments = ("score", "--ground-truth", str(file), "--predictions", "dt.json")
    scored = json.loads(run_in_process(*arguments, cwd=tmp_path).stdout)
    assert scored["overall"]["ap"] == pytest.approx(1.0)
    # Without the name, the ids are another order.
    dump(tmp_path / "dt.json", [{k: v for k, v in r.items() if k != "category_name"} for r in results])
    outcome = run_in_process(*arguments, cwd=tmp_path)
    assert "different classes" in outcome.stderr or "another order" in outcome.stdout


@pytest.mark.parametrize("part", ["train/images", "train.txt"])
def test_a_part_of_a_dataset_takes_the_names_of_the_dataset(tmp_path: Path, part: str) -> None:
    labelled_images = drawn(9)
    root = with_images(tmp_path / "rf", labelled_images, "train/images")
    for labelled_image in labelled_images:
        rows = [
            f"{('truck', 'car', 'bus').index(n)} {(x1 + x2) / 640} {(y1 + y2) / 480} {(x2 - x1) / 320} "
            f"{(y2 - y1) / 240}"
            for n, (x1, y1, x2, y2) in labelled_image.objects
        ]
        label(root / "train" / "labels" / f"{Path(labelled_image.name).stem}.txt", "\n".join(rows))
    text(root / "data.yaml", "train: train/images\nval: train/images\nnames: [truck, car, bus]\n")
    text(root / "train.txt", "\n".join(f"train/images/{p.name}" for p in labelled_images))
    source = with_classes(opened(root / part, classes=NAMES), NAMES, {})
    assert not source.unnamed
    counts = source.annotations["label"].map(dict(enumerate(NAMES))).value_counts()
    assert (
        counts.to_dict()
        == pd.Series([n for p in labelled_images for n, _ in p.objects]).value_counts().to_dict()
    )


def test_a_data_yaml_of_something_else_names_no_classes(tmp_path: Path) -> None:
    root = with_images(tmp_path / "other", drawn(9)[:2])
    label(root / "labels" / "000000.txt", "0 0.5 0.5 0.2 0.2")
    image(tmp_path / "mine" / "val" / "a.jpg")
    text(tmp_path / "data.yaml", "val: mine/val\nnames: [dog]\n")
    assert opened(root, classes=NAMES).unnamed


def test_names_of_one_folder_that_differ_in_case_only_are_one(tmp_path: Path) -> None:
    labelled_images = drawn(10)
    root = with_images(tmp_path / "d", labelled_images)
    spelled = {"car": ("Car", "CAR", "car")}
    voc(
        root,
        [
            replace(p, objects=[(spelled.get(n, (n, n, n))[k % 3], b) for n, b in p.objects])
            for k, p in enumerate(labelled_images)
        ],
    )
    source = with_classes(opened(root, classes=NAMES), NAMES, {})
    assert source.classes == NAMES
    assert len(source.annotations) == 48


# --- files about other images, labels that are lost


def test_splits_that_were_not_predicted_are_left_out_and_said(tmp_path: Path, lab: Path) -> None:
    labelled_images = drawn(11, 24)
    root = tmp_path / "rf"
    for number, labelled_image in enumerate(labelled_images):
        split = ("train", "val")[number % 2]
        image(root / split / "images" / labelled_image.name, size=SIZE, seed=number)
        rows = [
            f"{NAMES.index(n)} {(x1 + x2) / 640} {(y1 + y2) / 480} {(x2 - x1) / 320} {(y2 - y1) / 240}"
            for n, (x1, y1, x2, y2) in labelled_image.objects
        ]
        label(root / split / "labels" / f"{Path(labelled_image.name).stem}.txt", "\n".join(rows))
    text(root / "data.yaml", f"train: train/images\nval: val/images\nnames: {list(NAMES)}\n")
    results = [r for r in results_of(labelled_images) if int(r["image_id"]) % 2]
    said: list[str] = []
    sources = {"lab": lab, "road": root}
    scores = predicted(tmp_path, sources, {"lab": results_of(drawn(1)), "road": results}, said.append)
    assert scores["road"] == 1.0
    assert any("12 images of split train, which are left out" in line for line in said)
    half = [r for r in results if int(r["image_id"]) < 12]
    said.clear()
    predicted(tmp_path, sources, {"lab": results_of(drawn(1)), "road": half}, said.append)
    assert any("no detection in 6 of 12 images" in line for line in said)


def test_images_of_two_domains_are_said(tmp_path: Path, lab: Path) -> None:
    mixed = with_images(tmp_path / "mixed", drawn(1)[:6])
    for number in range(6, 12):
        image(mixed / "images" / f"own_{number}.jpg", size=SIZE, seed=100 + number)
    text(mixed / "classes.txt", "\n".join(NAMES))
    options = ReportOptions(
        in_domain=("lab", str(lab)),
        real_world=(("mixed", str(mixed)),),
        predictions=(("lab", tmp_path / "a.json"), ("mixed", tmp_path / "b.json")),
    )
    dump(tmp_path / "a.json", results_of(drawn(1)))
    dump(tmp_path / "b.json", [results_of(drawn(1))[0]])
    warnings = _warnings(run_report(options, Reporter()).findings)
    assert any("6 of 12 images of mixed are images of lab too" in line for line in warnings)


def test_a_source_that_is_given_twice_is_said(lab: Path) -> None:
    options = ReportOptions(
        in_domain=("inside", str(lab)), real_world=(("a", str(lab)), ("b", str(lab / "images")))
    )
    said: list[str] = []
    open_domains(options, None, NAMES, said.append)
    assert "  b holds the same files as a: one source was given twice" in said


def test_rejected_rows_are_said(tmp_path: Path, lab: Path) -> None:
    for file in (lab / "labels").glob("*.txt"):
        file.write_text(file.read_text() + "\n0 0.5 0.5 0.1 0.1 0.87\n")
    dump(tmp_path / "a.json", results_of(drawn(1)))
    options = ReportOptions(in_domain=("lab", str(lab)), predictions=(("lab", tmp_path / "a.json"),))
    said: list[str] = []
    reporter = Reporter()
    reporter.say = said.append  # type: ignore[method-assign]
    predict_domains(options, None, reporter)
    assert any("12 of 60 label rows are not used: six columns" in line for line in said)


def test_names_with_accents_written_in_two_ways_and_in_another_case_meet(tmp_path: Path) -> None:
    one, two = (unicodedata.normalize(form, "caf\u00e9_1") for form in ("NFC", "NFD"))
    image(tmp_path / "d" / "images" / f"{one}.jpg", size=SIZE)
    label(tmp_path / "d" / "labels" / f"{two}.txt", "0 0.5 0.5 0.2 0.2")
    image(tmp_path / "d" / "images" / "IMG_7.JPG", size=SIZE)
    label(tmp_path / "d" / "labels" / "img_7.txt", "0 0.5 0.5 0.2 0.2")
    # Beside A.jpg, a.txt belongs to a.jpg.
    for name in ("A", "a"):
        image(tmp_path / "d" / "images" / f"{name}.jpg", size=SIZE)
    label(tmp_path / "d" / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2")
    source = opened(tmp_path / "d", classes=["pothole"])
    labelled = {Path(name).name for name in source.images.loc[source.images["labelled"], "image"]}
    assert labelled == {f"{one}.jpg", "IMG_7.JPG", "a.jpg"}
    image(tmp_path / "c" / "images" / f"{one}.jpg", size=SIZE)
    dump(
        tmp_path / "c" / "labels.json",
        {
            "images": [{"id": 1, "file_name": f"{two}.jpg"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 50, 50]}],
            "categories": [{"id": 1, "name": "pothole"}],
        },
    )
    assert len(opened(tmp_path / "c").annotations) == 1


@pytest.mark.parametrize("folder", ["JPEGImages", "images/part one"])
def test_a_json_whose_file_names_lack_their_folder_is_read(tmp_path: Path, folder: str) -> None:
    labelled_images = drawn(12)
    root = with_images(tmp_path / "d", labelled_images, folder)
    coco(root, labelled_images)
    (file,) = root.rglob("*.json")
    content = content_of(file)
    for entry in content["images"]:
        entry["file_name"] = Path(entry["file_name"]).name
    dump(file, content)
    assert len(opened(root).annotations) == 48
    # Of two images of one name nobody knows which is meant.
    image(root / "other" / labelled_images[0].name, size=SIZE, seed=99)
    assert len(opened(root).annotations) == 44


def test_voc_files_under_other_names_belong_to_the_image_that_they_name(tmp_path: Path) -> None:
    labelled_images = drawn(3)
    root = with_images(tmp_path, labelled_images, "JPEGImages")
    voc(root, labelled_images)
    expected = opened(root).annotations
    for number, file in enumerate(sorted((root / "Annotations").glob("*.xml"))):
        name = f"<filename>C:\\d\\{file.stem}.jpg</filename>"
        text(
            file.with_name(f"annotation {number}.xml"), file.read_text().replace("<size>", f"{name}<size>", 1)
        )
        file.unlink()
    source = opened(root)
    assert source.images["labelled"].all()
    pd.testing.assert_frame_equal(source.annotations, expected)
    # Two images of one name: none of them is the one.
    shutil.copytree(root / "JPEGImages", root / "again" / "JPEGImages")
    assert not opened(root).images["labelled"].any()


def test_a_json_with_a_byte_order_mark_is_found_in_its_folder(tmp_path: Path) -> None:
    root = with_images(tmp_path / "d", drawn(2))
    coco(root, drawn(2))
    (file,) = root.rglob("*.json")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert len(opened(root).annotations) == 48


def test_of_several_annotators_the_ground_truth_counts_else_the_newest(tmp_path: Path) -> None:
    labelled_images = drawn(13)
    root = with_images(tmp_path / "d", labelled_images)
    label_studio(root, labelled_images)
    (file,) = root.glob("*.json")
    content = json.loads(file.read_text())
    for number, task in enumerate(content):
        right = task["annotations"][0] | {"updated_at": "2024-06-01T00:00:00Z"}
        other = {"result": right["result"][:1], "updated_at": "2024-05-01T00:00:00Z"}
        if number % 2:
            right, other = right | {"ground_truth": True, "updated_at": "2024-01-01T00:00:00Z"}, other
        task["annotations"] = [right, other]
    dump(file, content)
    source = opened(root)
    assert len(source.annotations) == 48
    assert "12 tasks have several annotations" in source.ledger["reason"].str.cat(sep=" ")


def test_frames_of_one_name_in_two_subsets_of_cvat_are_two_images(tmp_path: Path) -> None:
    rows = []
    for subset, left in (("Train", 10), ("Validation", 100)):
        image(tmp_path / "d" / "images" / subset / "frame_000000.png", size=SIZE, seed=left)
        box = f'<box label="car" xtl="{left}" ytl="10" xbr="{left + 50}" ybr="60"/>'
        rows.append(
            f'<image id="0" name="frame_000000.png" subset="{subset}" width="320" height="240">{box}</image>'
        )
    text(
        tmp_path / "d" / "annotations.xml",
        f"<annotations><version>1.1</version>{''.join(rows)}</annotations>",
    )
    source = opened(tmp_path / "d")
    assert sorted(source.annotations["x1"]) == [10, 100]
    assert source.annotations["image"].nunique() == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("mark", [",", ";"])
def test_csv_as_excel_writes_it_is_read(tmp_path: Path, encoding: str, mark: str) -> None:
    image(tmp_path / "d" / "images" / "a.jpg", size=SIZE)
    rows = [
        '"filename","width","height","class","xmin","ymin","xmax","ymax"',
        "a.jpg,320,240,car,10,20,60,70",
    ]
    (tmp_path / "d" / "labels.csv").write_text("\r\n".join(rows).replace(",", mark), encoding=encoding)
    assert opened(tmp_path / "d").annotations["x2"].tolist() == [60]


def test_a_list_that_lies_elsewhere_takes_the_names_of_its_images(tmp_path: Path) -> None:
    labelled_images = drawn(14)
    root = with_images(tmp_path / "data", labelled_images)
    WRITERS["yolo"](root, labelled_images)
    (root / "classes.txt").rename(root / "obj.names")
    rows = "\n".join(str(root / "images" / p.name) for p in labelled_images)
    text(tmp_path / "lists" / "test.txt", rows)
    expected = pd.Series([n for p in labelled_images for n, _ in p.objects]).value_counts().to_dict()
    model = ("truck", "bus", "car")
    source = open_source(str(tmp_path / "lists" / "test.txt"), cache=tmp_path, classes=model, allow=[root])
    source = with_classes(source, model, {})
    assert source.annotations["label"].map(dict(enumerate(model))).value_counts().to_dict() == expected


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([f"{'0a1b2c3d' if c == 1 else 'ffffffff'}-clip{c}_{n:04d}" for c in (1, 2) for n in range(1, 5)], 2),
        ([f"DJI_2023050{d}1230{n:02d}_{n:04d}_V" for d in (1, 2) for n in range(1, 5)], 2),
        ([f"GX0{c}00{v}_{n:04d}" for v in (42, 43) for c in (1, 2) for n in range(1, 4)], 2),
        ([f"flight_{f}_t{n}.5" for f in "AB" for n in range(5)], 2),
        ([f"frame_{n}_clip_{c}" for n in range(10) for c in range(6)], 6),
        ([f"run{r}_{n:04d}_{side}" for r in (1, 2) for n in range(5) for side in ("left", "right")], 2),
        ([f"{n}{lens}" for n in ("site_0001", "site_0002", "yard_0001") for lens in ("_T", "_W")], 2),
        ([f"ortho{o}_r{r}_c{c}" for o in "AB" for r in range(3) for c in range(3)], 2),
        ([f"ortho{o}_x{x}_y{y}" for o in "AB" for x in (0, 640) for y in (0, 640)], 2),
        ([f"site{s}_tile_{t}" for s in "AB" for t in range(5)], 2),
        ([f"{100 + f}MEDIA/DJI_{20 * f + n:04d}" for f in (0, 1) for n in range(20)], 2),
    ],
    ids=[
        "label studio",
        "dji",
        "gopro",
        "seconds",
        "frame before clip",
        "stereo",
        "lenses",
        "rows and columns",
        "left and top",
        "tiles",
        "card that counts on",
    ],
)
def test_names_of_recorders_give_their_recordings(names: list[str], count: int) -> None:
    groups, _ = assign(pd.Series([f"/d/{name}.jpg" for name in names]), None, ())
    assert groups.nunique() == count


@pytest.mark.parametrize("pattern", [r"(?P<group>clip\d+)?", r"(?P<group>x*)"])
def test_a_pattern_that_gives_no_group_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match="no group: its named group matches nothing there"):
        assign(pd.Series(["/d/a_1.jpg", "/d/clip2_1.jpg"]), pattern, ())


def test_of_two_trainings_in_one_history_the_last_counts(tmp_path: Path) -> None:
    first = [f"{e},{0.007 * e}" for e in range(1, 101)]
    second = [f"{e},{0.02 * e}" for e in range(1, 31)]
    for between in ([], ["epoch,metrics/mAP50(B)"]):
        text(tmp_path / "results.csv", "\n".join(["epoch,metrics/mAP50(B)", *first, *between, *second]))
        history = read_history(tmp_path / "results.csv")
        assert (len(history), history["ap50"].iloc[-1]) == (30, pytest.approx(0.6))
    # Resumed in the middle: its epochs go on.
    text(tmp_path / "results.csv", "\n".join(["epoch,metrics/mAP50(B)", *first[:50], *first[47:]]))
    assert len(read_history(tmp_path / "results.csv")) == 100
    text(tmp_path / "results.csv", "epoch,metrics/mAP50(B)\n1,-1\n2,-1\n")
    with pytest.raises(InputError, match="shares are from 0 to 1"):
        read_history(tmp_path / "results.csv")


def test_a_recall_that_is_no_share_is_missing_and_the_history_is_read(tmp_path: Path) -> None:
    text(tmp_path / "results.csv", "epoch,metrics/recall,metrics/mAP_0.5\n0,-0.02,0.1\n1,0.4,0.3\n2,40,0.5\n")
    history = read_history(tmp_path / "results.csv")
    assert history["ap50"].tolist() == [0.1, 0.3, 0.5]
    assert history["recall"].isna().tolist() == [True, False, True]


def test_a_checkpoint_in_its_run_folder_is_predicted_as_its_run(tmp_path: Path) -> None:
    weights = tmp_path / "run" / "weights" / "best.pt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"any")
    text(tmp_path / "run" / "args.yaml", "imgsz: 320\nclasses: [0]\niou: 0.5\nmax_det: 5\n")
    alone, of_run = open_weights(weights, None), open_run(tmp_path / "run")
    assert (alone.imgsz, alone.arguments) == (of_run.imgsz, of_run.arguments)
    assert alone.settings(320) == of_run.settings(320)
    copy = tmp_path / "best.pt"
    copy.write_bytes(b"any")
    assert open_weights(copy, None).arguments == {}


def test_a_video_whose_times_begin_late_is_as_long_as_it_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    taken = []
    for begin in (0, 36_000):
        path = tmp_path / f"from_{begin}.mkv"
        with av.open(str(path), "w", format="matroska") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(40):
                frame = av.VideoFrame.from_ndarray(
                    rng.integers(0, 255, (48, 64, 3), np.uint8), format="bgr24"
                )
                frame.pts, frame.time_base = begin * 10 + number, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        taken.append(len(open_source(str(path), cache=tmp_path / "cache").images))
    assert taken[0] == taken[1] > 4


def test_rows_of_other_programs_are_named() -> None:
    for row, reason in (
        ("0, 0.5, 0.5, 0.1, 0.1", "comma-separated"),
        ("0 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4 0.87", "predicted polygon with its confidence"),
    ):
        with pytest.raises(ValueError, match=reason):
            parse_row(row, NAMES)


@pytest.mark.parametrize("suffix", ["jpg", "JPG", "JPEG", "png_jpg"])
def test_exported_frames_are_one_recording_whatever_their_suffix(suffix: str) -> None:
    names = [f"/d/flight{f}_{n:04d}_{suffix}.rf.{'0a' * 16}.jpg" for f in (1, 2) for n in range(1, 5)]
    groups, _ = assign(pd.Series(names), None, ())
    assert groups.nunique() == 2


def test_times_of_one_day_are_one_recording() -> None:
    names = [f"/d/cam{c}_2023-05-0{d}_12-{m:02d}-30.jpg" for c in (1, 2) for d in (1, 2) for m in range(5)]
    groups, _ = assign(pd.Series(names), None, ())
    assert groups.nunique() == 4


def test_an_image_that_is_cut_short_is_named(lab: Path, tmp_path: Path) -> None:
    cut = lab / "images" / "000003.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
    other = with_images(tmp_path / "other", drawn(5))
    WRITERS["yolo"](other, drawn(5))
    said: list[str] = []
    results = {"lab": results_of(drawn(1)), "other": results_of(drawn(5))}
    predicted(tmp_path, {"lab": lab, "other": other}, results, said.append)
    assert any("lab: 1 image cannot be decoded" in line and str(cut) in line for line in said), said
