"""`make prove`: severe planted causes are named, and none is named without the signal that decides it."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.planted import CODE, PLANTS
from benchmarks.prove_cases import WITHHELD, Case, diagnose_withheld, diagnose_world
from benchmarks.prove_classes import COLUMNS, PlantedFault, page, row
from benchmarks.prove_page import confusion_table, summarise
from diagnostics.class_causes import Cause, ClassCause
from diagnostics.classes import DROP_COLUMNS, ClassFindings

# Worlds used neither to write the rules nor for the published tables.
SEED = 5_000_000


@pytest.mark.parametrize("plant", PLANTS)
def test_a_severe_cause_is_first_and_no_other_is_supported(plant: str) -> None:
    case = diagnose_world(((plant,), 3, SEED))
    assert case.ranked[0] == CODE[plant]
    # The cause itself may be inconclusive; `make prove` measures how often.
    assert set(case.supported) <= {CODE[plant]}


@pytest.mark.parametrize("name", WITHHELD)
def test_no_cause_is_named_without_the_signal_that_decides_it(name: str) -> None:
    assert diagnose_withheld((name, SEED + 1)) == (name, True)


def test_the_summary_counts_cases() -> None:
    ranked = tuple(dict.fromkeys(CODE.values()))
    cases = [Case((plant,), s, CODE[plant], ranked, ()) for plant in PLANTS for s in (1, 2, 3)]
    cases[6] = Case(("underfit",), 1, None, ("none", "scale", "underfit"), ())
    cases += [Case(("scale", "viewpoint"), 1, "scale", ("scale", "none", "domain_shift"), ("scale",))]
    figures = summarise(cases)
    # One of the three worlds of one of nine harmful plants is not named.
    assert figures["top1"] == pytest.approx(1 - 1 / 27)
    assert figures["by_severity"] == {1: pytest.approx(8 / 9), 2: 1.0, 3: 1.0}
    assert figures["healthy"].startswith("1.00")
    assert figures["both"].startswith("1.00")
    assert "| underfit |  | **2** |" in confusion_table(cases)


def class_findings(name: str, cause: Cause, other: str = "", drop: float = 0.3) -> ClassFindings:
    """One class loses, for a cause."""
    rows = [{"domain": "w", "class": name, "in_domain_ap50": 0.8, "drop": drop, "hit": True}]
    rows += [{"domain": "w", "class": unhit, "drop": 0.0, "hit": False} for unhit in ("car", "sign")]
    drops = pd.DataFrame(rows, columns=list(DROP_COLUMNS))
    found = ClassCause("w", name, cause, other, 0.5, 0.1, "its 40 objects", 0.6)
    return ClassFindings(pd.DataFrame(), drops, pd.DataFrame(), {}, {"w": (found,)})


@pytest.mark.parametrize(
    ("fault", "found", "right"),
    [
        (PlantedFault("left_out", "patch"), class_findings("patch", "left_out"), True),
        (PlantedFault("left_out", "patch"), class_findings("patch", "background"), False),
        (PlantedFault("left_out", "patch"), class_findings("puddle", "left_out"), True),
        (PlantedFault("renamed", "patch", "puddle"), class_findings("puddle", "other_name", "patch"), True),
        (PlantedFault("renamed", "patch", "puddle"), class_findings("patch", "other_name", "manhole"), False),
        (PlantedFault("altered", "manhole"), class_findings("manhole", "confusion", "patch"), True),
        (PlantedFault("altered", "manhole"), class_findings("manhole", "left_out"), False),
    ],
)
def test_a_class_fault_counts_as_named_by_class_and_cause(
    fault: PlantedFault, found: ClassFindings, right: bool
) -> None:
    # The class that was not touched loses nothing: there, no fault shows, and naming one is wrong.
    touched = found.drops["class"].iloc[0] in (fault.name, fault.other)
    assert row(found, "w", fault, "")["right"] == (right and touched)


def test_the_page_of_classes_counts_only_sets_that_nobody_looked_at() -> None:
    base = {**dict.fromkeys(COLUMNS, ""), "fault": "left_out", "detector": "net", "right": True}
    rows = pd.DataFrame([base | {"set": "new"}, base | {"set": "dawn_fog", "right": False}])
    text = page(rows)
    assert "| photographs, planted faults | 0.50 " in text
    assert "| photographs not looked at, planted faults | 1.00 " in text
