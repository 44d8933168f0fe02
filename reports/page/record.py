"""report.json: the findings as plain data. Fractions, never percentages; null where a value cannot be
measured, with a note.
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from datasets.tables import objects_in
from diagnostics.findings import Findings
from diagnostics.matching import COCO_IOUS, MAX_DETECTIONS
from diagnostics.sweep import best_f_beta, f1_at, summary
from reports.page import earlier_run
from reports.page.headline import domain_verdict
from reports.page.interventions import not_run
from reports.pipeline.earlier_run import without_training_images
from reports.pipeline.run import Result
from reports.plain import plain, review_record, verdict_record
from train.run import Run
from train.staging import count_boxes_by_split

# 2: the words of the field (see `reports.page.schema`, which reads version 1), status "inconclusive".
SCHEMA_VERSION = 2
PACKAGES = (
    "shiftscope",
    "ultralytics",
    "torch",
    "fiftyone",
    "numpy",
    "pandas",
    "scikit-learn",
    "opencv-python-headless",
    "av",
)


def build_record(result: Result, timings: dict[str, float], app_urls: dict[int, str]) -> dict[str, Any]:
    """The content of report.json.

    Parameters
    ----------
    result : Result
        What the pipeline measured.
    timings : dict
        Seconds by stage.
    app_urls : dict
        Links into the FiftyOne App by card number.
    """
    findings = result.findings
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": result.options.seed,
        "options": result.options.as_record(),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "run": _run_record(result),
        "protocol": _protocol_record(result),
        "domains": [_domain_record(result, domain.name) for domain in findings.domains],
        "shapes": [{"domain": name, **plain(scores)} for name, scores in result.shapes.items()],
        "slices": plain(findings.slices),
        "discovered": plain(findings.discovered),
        "classes": plain(findings.classes.table),
        "class_drops": plain(findings.classes.drops),
        "confusion": plain(findings.classes.confusion),
        "deployment": plain(list(findings.deployments.values())),
        "sweep": _sweep_record(findings),
        "risk_control": [
            {"domain": name, **plain(control)}
            for name, controls in findings.risk.items()
            for control in controls
        ],
        "transfer": _transfer_record(findings),
        "errors": plain(findings.errors),
        "error_differences": _error_differences(findings),
        "slice_errors": plain(findings.slice_errors),
        "calibration": [
            {"domain": name, **plain(calibration)} for name, calibration in findings.calibration.items()
        ],
        "shift": _shift_record(findings),
        "label_free": plain(list(findings.evidence.label_free.values())),
        "label_free_check": []
        if findings.estimator is None
        else plain(findings.estimator.errors.drop(columns="row")),
        "few_labels": plain(findings.few_labels),
        "review": [review_record(reviewed) for reviewed in findings.evidence.reviewed.values()],
        "label_audits": [plain(audit) for audit in findings.evidence.audits.values()],
        "contributions": [
            {**plain(decomposition), "left": plain(decomposition.left)}
            for decomposition in findings.evidence.decompositions
        ],
        "videos": plain(findings.steadiness),
        "not_run": not_run(result),
        "verdict": {"domain": findings.focus, **verdict_record(findings.verdict)},
        "evidence": _evidence_record(findings),
        "earlier_run": [earlier_run.values(run) for run in result.run_comparisons],
        "next": plain(findings.next),
        "reserved_test_clips": list(findings.reserved),
        "gallery": _gallery_record(findings, app_urls),
        "ledger": _ledger_record(result),
        "timings": {stage: round(seconds, 3) for stage, seconds in timings.items()},
    }


def _verdict_of_domain(findings: Findings, name: str) -> dict[str, Any]:
    """The verdict about one real-world domain, with the AP50 it compares and the next step."""
    evidence = findings.evidences[name]
    words = domain_verdict(findings, name)
    copies = evidence.copies.get(name)
    verdict = findings.verdicts[name]
    undecided = [
        h.missing for h in verdict.hypotheses if h.code in (verdict.rival, verdict.leading) and h.missing
    ]
    return {
        **verdict_record(verdict),
        "cause": words["cause"],
        "statement": words["statement"],
        "next_step": words["step"],
        "deciding_test": next(iter(undecided), None),
        "classes": list(evidence.classes) or None,
        "classes_hit": findings.classes.hit(name),
        "class_causes": [
            {**plain(cause), "code": cause.code, "statement": cause.statement}
            for cause in findings.classes.causes.get(name, ())
        ],
        "ap50": plain({"in_domain": evidence.in_domain_ap50, "real_world": evidence.real_world_ap50}),
        "gap": plain(evidence.gap),
        "gap_interval": plain(evidence.gap_interval),
        "training_images": None
        if copies is None
        else {
            "images": copies.images,
            "ap50": plain(copies.ap50),
            "ap50_without": plain(copies.ap50_without),
        },
        "interventions": plain(evidence.recoveries),
        "resized": plain(evidence.resized.get(name)),
    }


def _protocol_record(result: Result) -> dict[str, Any]:
    """How the numbers were made."""
    return {
        "matcher": "COCO greedy matching, 101-point interpolation (equal to pycocotools)",
        "iou_thresholds": list(COCO_IOUS),
        "max_detections": MAX_DETECTIONS,
        "confidence_floor": result.settings.conf,
        "nms_iou": result.settings.iou,
        "imgsz": result.settings.imgsz,
        "backend": result.backend,
        "experiment_passes": result.passes,
        "left_out": list(result.left_out),
        "intervals": "95 %, cluster bootstrap over groups, 1000 replicates, BCa",
        "grouping": {opened.name: opened.source.grouping for opened in result.opened},
    }


def _shift_record(findings: Findings) -> dict[str, Any]:
    """Shift metrics by domain, and the readable factors."""
    evidence = findings.evidence
    return {
        "image": plain(evidence.shift_image),
        "object": plain(evidence.shift_detections),
        "descriptors": plain(evidence.shift_descriptors),
        "boxes": plain(evidence.shift_boxes),
        "factors": [
            {"domain": name, **row} for name, table in evidence.factors.items() for row in plain(table)
        ],
    }


def _evidence_record(findings: Findings) -> dict[str, Any]:
    """The measurements behind the hypotheses."""
    evidence = findings.evidence
    record: dict[str, Any] = plain(
        {
            "ap50": evidence.ap50,
            "max_recall": evidence.max_recall,
            "ap_at_iou_0.1": evidence.loose,
            "gap": evidence.gap,
            "gap_interval": evidence.gap_interval,
            "learning": evidence.learning,
            "threshold": evidence.threshold,
            "size_match": evidence.size,
            "interventions": evidence.recoveries,
            "carried_over": evidence.carried,
            "redrawn": evidence.redrawn,
            "leakage": evidence.leak,
        }
    )
    return record


def _run_record(result: Result) -> dict[str, Any]:
    """The run under diagnosis; nulls where only predictions were given."""
    run = result.run
    if run is None:
        return {
            "weights": None,
            "detector": None,
            "sha256": None,
            "classes": list(result.classes),
            "imgsz": result.settings.imgsz,
            "epochs": None,
            "training_boxes": None,
            "parent_sha256": None,
            "history": [],
            "watched": [],
            "checkpoints": [],
        }
    return {
        "weights": str(run.weights.absolute()),
        "detector": run.function,
        "sha256": run.sha256,
        "classes": list(result.classes),
        "imgsz": result.settings.imgsz,
        "trained_imgsz": run.imgsz,
        "epochs": run.epochs or None,
        "training_boxes": _training_boxes(result, run),
        "parent_sha256": run.lineage.get("model_sha256") if run.lineage.get("parent") else None,
        "history": plain(run.history),
        "watched": plain(run.watched),
        "checkpoints": plain(result.checkpoints.checkpoint_results),
    }


def _training_boxes(result: Result, run: Run) -> int | None:
    """Boxes that the run's training was shown: as its lineage says, else those of the data that its own
    data.yaml names; None where neither tells.
    """
    if run.recorded_boxes is not None:
        return run.recorded_boxes
    opened = next((o for o in result.opened if o.role == "training"), None)
    # Other data than the run names, or other labels by now, are not what it was shown.
    if opened is None or result.options.in_domain is not None or opened.corrected.labels:
        return None
    return count_boxes_by_split(opened.source, run.arguments).get("train")


def _domain_record(result: Result, name: str) -> dict[str, Any]:
    """Counts of one domain."""
    domain = next(d for d in result.findings.domains if d.name == name)
    opened = next(o for o in result.opened if o.name == name)
    mine = result.ledger[result.ledger["source"] == opened.source.spec]
    return {
        "name": name,
        "role": domain.role,
        "source": opened.source.spec,
        "kind": opened.source.kind,
        "origin": opened.source.origin or None,
        "images": len(domain.images),
        "labelled_images": int(domain.labelled.sum()),
        "boxes": objects_in(domain.annotations),
        "groups": int(domain.images["group"].nunique()),
        # Images of clips that training shows: AP50 on them is no forecast.
        "trained_on": without_training_images(domain, result.findings.training)[1]
        if domain.role == "real_world"
        else None,
        "verdict": _verdict_of_domain(result.findings, name) if domain.role == "real_world" else None,
        "skipped": int((mine["bucket"] != "used").sum()),
        "corrected": plain(opened.corrected),
    }


def _sweep_record(findings: Findings) -> list[dict[str, Any]]:
    """One entry a labelled domain."""
    entries = []
    for name, points in findings.sweeps.items():
        entries.append(
            {
                "domain": name,
                "points": plain(points),
                **summary(points),
                "classes": [{"name": key, **found} for key, found in findings.class_sweeps[name].items()],
            }
        )
    return entries


def _error_differences(findings: Findings) -> list[dict[str, Any]]:
    """How many more errors of each type an image of each real-world domain has than one of home."""
    table = findings.errors.set_index(["domain", "type"])
    in_domain = findings.in_domain.name
    if in_domain not in table.index.get_level_values("domain"):
        return []
    return [
        {
            "domain": name,
            "type": kind,
            "per_image": plain(row["per_image"] - table.loc[(in_domain, kind), "per_image"]),
            "delta_ap50": plain(row["delta_ap50"] - table.loc[(in_domain, kind), "delta_ap50"]),
        }
        for (name, kind), row in table.iterrows()
        if name != in_domain
    ]


def _transfer_record(findings: Findings) -> dict[str, Any]:
    """The in-domain best threshold and the F1 that each domain loses by using it instead of its own."""
    in_domain = findings.sweeps.get(findings.in_domain.name)
    confidence = best_f_beta(in_domain)[1] if in_domain is not None else None
    if confidence is None:
        return {"confidence": None, "regret": {}, "note": "no labelled in-domain images"}
    regret = {}
    for name, points in findings.sweeps.items():
        top, _ = best_f_beta(points)
        regret[name] = None if top is None else top - f1_at(points, confidence)
    threshold = findings.evidence.threshold
    crossfitted = (
        None
        if threshold is None or threshold.crossfitted_f1 is None
        else max(0.0, threshold.crossfitted_f1 - threshold.real_world_f1)
    )
    return {
        "confidence": confidence,
        "regret": regret,
        "crossfitted_regret": {findings.evidence.real_world: crossfitted}
        if findings.evidence.real_world
        else {},
    }


def _gallery_record(findings: Findings, app_urls: dict[int, str]) -> list[dict[str, Any]]:
    """The cards without their images."""
    return [
        {
            "kind": card["kind"],
            "domain": card["domain"],
            "image": card["image"],
            "group": card["group"],
            "box": [plain(card[c]) for c in ("x1", "y1", "x2", "y2")],
            "confidence": plain(card["confidence"]),
            "actual": card["actual"] or None,
            "predicted": card["predicted"] or None,
            "cluster": plain(card["cluster"]),
            "nearest_training_images": [entry["image"] for entry in card["nearest"]],
            "app_url": app_urls.get(number),
        }
        for number, card in enumerate(findings.cards.to_dict("records"))
    ]


def _ledger_record(result: Result) -> dict[str, Any]:
    """How many files ended in which bucket, and how many label rows were repaired or rejected."""
    return {
        "files": {
            str(bucket): int(count) for bucket, count in result.ledger["bucket"].value_counts().items()
        },
        "reasons": {
            str(reason): int(count)
            for reason, count in result.ledger[result.ledger["bucket"] != "used"]["reason"]
            .value_counts()
            .items()
        },
        "label_rows": {
            f"{action}: {reason}": len(part)
            for (action, reason), part in result.rows.groupby(["action", "reason"])
        },
    }
