"""Older versions of report.json, brought up to the current one.

Version 1 is that of the first release; its words were the project's own. Only names have changed: every
number is where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SHIFT = {
    "n_home": "n_in_domain",
    "n_away": "n_real_world",
    "groups_home": "groups_in_domain",
    "groups_away": "groups_real_world",
}
COUNTS = {"pictures": "images", "objects": "annotations", "speaking": "detection_rate"}
SIDES = {"home": "in_domain", "away": "real_world"}
THRESHOLD = {
    "away_confidence": "best_confidence",
    "home": "in_domain_f1",
    "carried": "real_world_f1",
    "away": "best_f1",
    "crossfitted": "crossfitted_f1",
}
SIZE = {"home_recall": "in_domain_recall", "away_recall": "real_world_recall"}
LABEL_FREE = {
    "with_box": "detection_rate",
    "home_with_box": "in_domain_detection_rate",
    "boxes_per_image": "detections_per_image",
}
EARLIER_RUN = {"before": "earlier_run", "ap50_before": "ap50_earlier_run", "pictures": "images"}
OPTIONS = {"allow": "allow_root", "trust": "trust_checkpoint"}
TOP = {"request": "options", "ladders": "contributions", "before": "earlier_run"}


def upgrade(record: dict[str, Any]) -> dict[str, Any]:
    """A report.json of any version in the words of the current one; the current one unchanged."""
    if record.get("schema_version", 1) != 1:
        return record
    new = _renamed(record, TOP)
    for name, change in _CHANGES.items():
        if name in new:
            new[name] = change(new[name])
    return {**new, "schema_version": 2}


def _renamed(value: Mapping[str, Any] | None, names: Mapping[str, str]) -> Any:
    """A record with keys renamed; None stays None."""
    return None if value is None else {names.get(key, key): entry for key, entry in value.items()}


def _each(names: Mapping[str, str]) -> Callable[[Any], Any]:
    """Rename keys in every record of a list."""
    return lambda entries: [_renamed(entry, names) for entry in entries]


def _run(run: dict[str, Any]) -> dict[str, Any]:
    return {**run, **{name: _each(COUNTS)(run[name]) for name in ("watched", "checkpoints") if name in run}}


def _shift(shift: dict[str, Any]) -> dict[str, Any]:
    new: dict[str, Any] = _renamed(shift, {"look": "descriptors"})
    for name in ("image", "object", "descriptors"):
        if name in new:
            new[name] = {domain: _renamed(entry, SHIFT) for domain, entry in new[name].items()}
    if "factors" in new:
        new["factors"] = _each(SIDES)(new["factors"])
    return new


def _evidence(evidence: dict[str, Any]) -> dict[str, Any]:
    new: dict[str, Any] = _renamed(evidence, {"second_looks": "interventions", "carried": "carried_over"})
    for name, names in (("threshold", THRESHOLD), ("size_match", SIZE), ("carried_over", SIDES)):
        if name in new:
            new[name] = _renamed(new[name], names)
    return new


def _contributions(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    new = [_renamed(entry, {"rungs": "contributions", "home": "in_domain"}) for entry in entries]
    return [{**entry, "contributions": _each({"won": "recovered"})(entry["contributions"])} for entry in new]


def _gallery(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    new = [_renamed(card, {"look": "cluster"}) for card in cards]
    return [{**card, "kind": "true_positive" if card["kind"] == "hit" else card["kind"]} for card in new]


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "options": lambda options: _renamed(options, OPTIONS),
    "run": _run,
    "shift": _shift,
    "evidence": _evidence,
    "contributions": _contributions,
    "gallery": _gallery,
    "earlier_run": _each(EARLIER_RUN),
    "label_free": _each(LABEL_FREE),
    "label_free_check": _each({"reading": "estimate"}),
    "few_labels": _each(COUNTS),
    "next": _each(COUNTS),
}
