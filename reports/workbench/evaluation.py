"""Evaluation results whose mAP is right for any part of a dataset.

FiftyOne's `use_subset` narrows precision, recall and the confusion matrix, but keeps the mAP and the curves
of the whole dataset (1.22.1). The results here store the boxes, and match and score any part of them again.
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

from diagnostics.averaging import RECALL_POINTS
from diagnostics.domain import BOX_ATTRIBUTES, Domain
from diagnostics.matching import COCO_IOUS, Annotations, Bools, Detections, MatchTable, match
from diagnostics.precision import curves
from reports.workbench.documents import BoxDocuments, sample_id

# Attributes that FiftyOne's `use_subset` leaves unchanged.
STALE_ATTRIBUTES = ("precision", "recall_sweep", "_classwise_AP", "_classwise_AR")
Names = npt.NDArray[np.str_]


@dataclass(frozen=True)
class EvaluationInputs:
    """What an evaluation matches.

    images: sample ids, (n,)
    annotation_ids: label ids, (m,), in the order of annotations
    annotations: labelled boxes, (m,)
    detections: predicted boxes, (d,)
    annotation_ranges: name of BOX_ATTRIBUTES -> range of each annotation, (m,)
    detection_ranges: name of BOX_ATTRIBUTES -> range of each detection, (d,)
    """

    images: list[str]
    annotation_ids: list[str]
    annotations: Annotations
    detections: Detections
    annotation_ranges: dict[str, Names]
    detection_ranges: dict[str, Names]

    def pack(self) -> str:
        """Everything as text, because the database stores results as JSON."""
        annotations, detections = self.annotations, self.detections
        arrays: dict[str, Any] = {
            "names": np.frombuffer(json.dumps([self.images, self.annotation_ids]).encode(), np.uint8),
            "annotation_image": annotations.image.astype(np.int32),
            "annotation_label": annotations.label.astype(np.int16),
            "annotation_xywh": annotations.xywh,
            "annotation_area": annotations.area,
            "annotation_crowd": annotations.crowd,
            "image": detections.image.astype(np.int32),
            "label": detections.label.astype(np.int16),
            "xywh": detections.xywh,
            "confidence": detections.confidence,
            **{f"object_{name}": values for name, values in self.annotation_ranges.items()},
            **{f"part_{name}": values for name, values in self.detection_ranges.items()},
        }
        file = io.BytesIO()
        np.savez(file, **arrays)
        return base64.b64encode(file.getvalue()).decode("ascii")

    @classmethod
    def unpack(cls, text: str) -> EvaluationInputs:
        """Read what `pack` wrote."""
        with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as arrays:
            images, annotation_ids = json.loads(arrays["names"].tobytes())
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
            annotation_ranges = {name: arrays[f"object_{name}"] for name in BOX_ATTRIBUTES}
            detection_ranges = {name: arrays[f"part_{name}"] for name in BOX_ATTRIBUTES}
        return cls(images, annotation_ids, annotations, detections, annotation_ranges, detection_ranges)

    def match_subset(
        self, n_classes: int, images: Bools, annotations: Bools, ranges: dict[str, str]
    ) -> MatchTable:
        """Match the detections in some images with some annotations.

        Other annotations are ignored: none is missed, and detections that match them are not counted.

        Parameters
        ----------
        n_classes : int
            Number of classes.
        images : Bools
            The images, (n,).
        annotations : Bools
            The annotations that count, (m,).
        ranges : dict
            Name of BOX_ATTRIBUTES -> the range that counts. An unmatched detection of another range is not
            counted, as with COCO's areas.

        Returns
        -------
        MatchTable
            The matching. Its images are numbered anew.
        """
        boxes, detections = self.annotations, self.detections
        new_numbers = np.cumsum(images) - 1
        in_images, detected_in_images = images[boxes.image], images[detections.image]
        counted, detections_counted = annotations.copy(), np.ones(len(detections.image), bool)
        for name, value in ranges.items():
            counted &= self.annotation_ranges[name] == value
            detections_counted &= self.detection_ranges[name] == value
        return match(
            Annotations(
                new_numbers[boxes.image[in_images]],
                boxes.label[in_images],
                boxes.xywh[in_images],
                # In place of areas: `match` ignores what lies outside the range below.
                counted[in_images].astype(float),
                boxes.crowd[in_images],
            ),
            Detections(
                new_numbers[detections.image[detected_in_images]],
                detections.label[detected_in_images],
                detections.xywh[detected_in_images],
                detections.confidence[detected_in_images],
            ),
            n_images=int(images.sum()),
            n_classes=n_classes,
            areas={"all": (0.5, 1.5)},
            detection_area=detections_counted[detected_in_images].astype(float),
        )


def _evaluation_inputs(domain: Domain, annotation_ids: list[str]) -> EvaluationInputs:
    """What a domain's evaluation matches. annotation_ids: in the order of its annotations."""
    annotations, detections = domain.annotation_arrays, domain.detection_arrays
    return EvaluationInputs(
        [str(sample_id(domain.name, image)) for image in domain.labelled_images["image"]],
        annotation_ids,
        annotations,
        detections,
        *(
            {name: domain.attribute_ranges(name, boxes) for name in BOX_ATTRIBUTES}
            for boxes in (annotations, detections)
        ),
    )


def _ranges_in(subset: Any) -> dict[str, str]:
    """The ranges of BOX_ATTRIBUTES that a FiftyOne subset definition selects."""
    parts = [subset] if isinstance(subset, dict) else subset if isinstance(subset, (list, tuple)) else []
    return {
        part["field"]: part["value"]
        for part in parts
        if part.get("type") == "attribute" and part.get("field") in BOX_ATTRIBUTES
    }


class SliceResults(foec.COCODetectionResults):  # type: ignore[misc]
    """COCO results whose mAP, mAR and curves follow `use_subset`.

    They equal those of an evaluation of that part alone.

    inputs: the text of `EvaluationInputs.pack`
    """

    def __init__(self, *arguments: Any, inputs: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.inputs = inputs
        self._complete: dict[str, Any] = {}

    @classmethod
    def _from_dict(cls, d: dict[str, Any], samples: Any, config: Any, eval_key: str, **options: Any) -> Any:
        return super()._from_dict(d, samples, config, eval_key, inputs=d["inputs"], **options)

    def use_subset(self, subset_def: Any) -> SliceResults:
        """Restrict all results to a subset."""
        super().use_subset(subset_def)
        self._complete = {name: getattr(self, name) for name in STALE_ATTRIBUTES}
        inputs = EvaluationInputs.unpack(self.inputs or "")
        images = set(self._samples.values("id"))
        _, path = self._samples._get_label_field_path(self.config.gt_field, "id")
        annotations = set(self._samples.values(path, unwind=True))
        table = inputs.match_subset(
            len(self.classes),
            np.array([image in images for image in inputs.images], bool),
            np.array([annotation in annotations for annotation in inputs.annotation_ids], bool),
            _ranges_in(subset_def),
        )
        precision, recall = curves(table)
        values = (precision, recall, precision.mean(axis=(0, 2)), recall.mean(axis=0))
        for name, value in zip(STALE_ATTRIBUTES, values, strict=True):
            setattr(self, name, value)
        return self

    def clear_subset(self) -> None:
        """Return to the results of the complete dataset."""
        super().clear_subset()
        for name, value in self._complete.items():
            setattr(self, name, value)
        self._complete = {}


def store_evaluation(
    view: Any, domain: Domain, key: str, boxes: BoxDocuments, field: str = "predictions"
) -> None:
    """Store a domain's evaluation for the Model Evaluation panel.

    Parameters
    ----------
    view : DatasetView
        The domain's images.
    domain : Domain
        Annotations and detections.
    key : str
        Evaluation key.
    boxes : BoxDocuments
        The domain's boxes in the dataset.
    field : str
        Field of its detections.
    """
    config = foec.COCOEvaluationConfig(
        field, "ground_truth", iou=0.5, classwise=False, compute_mAP=True, iou_threshs=list(COCO_IOUS)
    )
    method = config.build()
    method.register_run(view, key)
    precision, recall = curves(domain.table)
    results = SliceResults(
        view,
        config,
        key,
        boxes.matches,
        precision,
        RECALL_POINTS,
        list(COCO_IOUS),
        list(domain.classes),
        recall_sweep=recall,
        backend=method,
        inputs=_evaluation_inputs(domain, [str(id_) for id_ in boxes.annotation_ids]).pack(),
    )
    method.save_run_results(view, key, results)
