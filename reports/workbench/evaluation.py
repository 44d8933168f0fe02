"""Evaluation results that stay right on a part of the dataset.

FiftyOne's own results keep the curves of the whole: `use_subset` narrows precision, recall and the confusion matrix, but mAP goes on giving the whole dataset's
value (1.22.1). These keep the boxes instead, and score any part of them anew.
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import fiftyone.utils.eval.coco as foec
import numpy as np
import numpy.typing as npt

from diagnostics.domain import BOX_ATTRIBUTES, Domain
from diagnostics.matching import COCO_IOUS, Annotations, Bools, Detections, MatchTable, match
from diagnostics.precision import RECALL_POINTS, curves
from reports.workbench.documents import Boxes, sample_id

# What FiftyOne's `use_subset` leaves as it was.
NARROWED = ("precision", "recall_sweep", "_classwise_AP", "_classwise_AR")
Names = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Inputs:
    """What is matched. images: sample ids, (n,). truths: label ids, (m,), in the order of objects.

    object_parts, parts: name of OBJECT_ATTRIBUTES -> the range in which each object, and each detection, lies; (m,) and (d,).
    """

    images: list[str]
    truths: list[str]
    annotations: Annotations
    detections: Detections
    box_parts: dict[str, Names]
    parts: dict[str, Names]

    def pack(self) -> str:
        """Everything as text, for a database that keeps results as JSON."""
        o, d = self.annotations, self.detections
        arrays: dict[str, Any] = {
            "names": np.frombuffer(json.dumps([self.images, self.truths]).encode(), np.uint8),
            "annotation_image": o.image.astype(np.int32),
            "annotation_label": o.label.astype(np.int16),
            "annotation_xywh": o.xywh,
            "annotation_area": o.area,
            "annotation_crowd": o.crowd,
            "image": d.image.astype(np.int32),
            "label": d.label.astype(np.int16),
            "xywh": d.xywh,
            "confidence": d.confidence,
            **{f"object_{name}": values for name, values in self.box_parts.items()},
            **{f"part_{name}": values for name, values in self.parts.items()},
        }
        file = io.BytesIO()
        np.savez(file, **arrays)
        return base64.b64encode(file.getvalue()).decode("ascii")

    @classmethod
    def unpack(cls, text: str) -> Inputs:
        """What `pack` wrote."""
        with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as arrays:
            images, truths = json.loads(arrays["names"].tobytes())
            annotations = Annotations(
                arrays["annotation_image"].astype(np.int64),
                arrays["annotation_label"].astype(np.int64),
                arrays["annotation_xywh"],
                arrays["annotation_area"],
                arrays["annotation_crowd"],
            )
            detections = Detections(
                arrays["image"].astype(np.int64),
                arrays["label"].astype(np.int64),
                arrays["xywh"],
                arrays["confidence"],
            )
            box_parts = {name: arrays[f"object_{name}"] for name in BOX_ATTRIBUTES}
            parts = {name: arrays[f"part_{name}"] for name in BOX_ATTRIBUTES}
        return cls(images, truths, annotations, detections, box_parts, parts)

    def matched(self, classes: int, images: Bools, truths: Bools, ranges: dict[str, str]) -> MatchTable:
        """Matching of some images (n,) and objects (m,). Other objects count neither as found nor as missed, and what finds them is no false alarm.

        ranges: name of OBJECT_ATTRIBUTES -> the one wanted. Detections of another range are false alarms of that other range, as with COCO's areas.
        """
        o, d = self.annotations, self.detections
        new = np.cumsum(images) - 1
        mine, seen = images[o.image], images[d.image]
        counted, wanted = truths.copy(), np.ones(len(d.image), bool)
        for name, value in ranges.items():
            counted &= self.box_parts[name] == value
            wanted &= self.parts[name] == value
        return match(
            Annotations(
                new[o.image[mine]], o.label[mine], o.xywh[mine], counted[mine].astype(float), o.crowd[mine]
            ),
            Detections(new[d.image[seen]], d.label[seen], d.xywh[seen], d.confidence[seen]),
            n_images=int(images.sum()),
            n_classes=classes,
            areas={"all": (0.5, 1.5)},
            detection_area=wanted[seen].astype(float),
        )


def _inputs_of(domain: Domain, truths: list[str]) -> Inputs:
    """What a domain matches. truths: ids of its boxes, in their order."""
    annotations, detections = domain.annotation_arrays, domain.detection_arrays
    return Inputs(
        [str(sample_id(domain.name, image)) for image in domain.labelled_images["image"]],
        truths,
        annotations,
        detections,
        *(
            {name: domain.parts(name, boxes) for name in BOX_ATTRIBUTES}
            for boxes in (annotations, detections)
        ),
    )


def _ranges_of(subset: Any) -> dict[str, str]:
    """The ranges of OBJECT_ATTRIBUTES that a FiftyOne subset definition asks for."""
    parts = [subset] if isinstance(subset, dict) else subset if isinstance(subset, (list, tuple)) else []
    return {
        part["field"]: part["value"]
        for part in parts
        if part.get("type") == "attribute" and part.get("field") in BOX_ATTRIBUTES
    }


class SliceResults(foec.COCODetectionResults):  # type: ignore[misc]
    """COCO results whose mAP and mAR follow `use_subset`, equal to scoring that part alone.

    inputs: `Inputs.pack`.
    """

    def __init__(self, *arguments: Any, inputs: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.inputs = inputs
        self._whole: dict[str, Any] = {}

    @classmethod
    def _from_dict(cls, d: dict[str, Any], samples: Any, config: Any, eval_key: str, **options: Any) -> Any:
        return super()._from_dict(d, samples, config, eval_key, inputs=d["inputs"], **options)

    def use_subset(self, subset_def: Any) -> SliceResults:
        """Narrow everything, mAP, mAR and the curves included."""
        super().use_subset(subset_def)
        self._whole = {name: getattr(self, name) for name in NARROWED}
        found = Inputs.unpack(self.inputs or "")
        within = set(self._samples.values("id"))
        _, path = self._samples._get_label_field_path(self.config.gt_field, "id")
        counted = set(self._samples.values(path, unwind=True))
        table = found.matched(
            len(self.classes),
            np.array([image in within for image in found.images], bool),
            np.array([truth in counted for truth in found.truths], bool),
            _ranges_of(subset_def),
        )
        precision, recall = curves(table)
        for name, value in zip(
            NARROWED, (precision, recall, precision.mean(axis=(0, 2)), recall.mean(axis=0)), strict=True
        ):
            setattr(self, name, value)
        return self

    def clear_subset(self) -> None:
        """Back to the whole."""
        super().clear_subset()
        for name, value in self._whole.items():
            setattr(self, name, value)
        self._whole = {}


def store_evaluation(view: Any, domain: Domain, key: str, drawn: Boxes, field: str = "predictions") -> None:
    """Store a domain's evaluation under key, as the Model Evaluation panel lists it. view: its images. field: where its detections are."""
    config = foec.COCOEvaluationConfig(
        field, "ground_truth", iou=0.5, classwise=True, compute_mAP=True, iou_threshs=list(COCO_IOUS)
    )
    method = config.build()
    method.register_run(view, key)
    precision, recall = curves(domain.table)
    results = SliceResults(
        view,
        config,
        key,
        drawn.matches,
        precision,
        RECALL_POINTS,
        list(COCO_IOUS),
        list(domain.classes),
        recall_sweep=recall,
        backend=method,
        inputs=_inputs_of(domain, [str(found) for found in drawn.truth_ids]).pack(),
    )
    method.save_run_results(view, key, results)
