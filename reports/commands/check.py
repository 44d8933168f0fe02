"""`shiftscope check`: rules that a report must meet, for pull requests and pipelines."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from datasets.errors import InputError
from datasets.files import made_folder, write_text
from diagnostics.paired import regressions
from diagnostics.wording import count, fraction, points, points_interval
from reports.commands.compare import pair_reports, threshold_of
from reports.options import CheckOptions
from reports.page.reader import WrittenReport, read_report
from reports.progress import Reporter

# In a rule -> key in report.json: of the domain "all" in the slices, and of a point of its sweep.
SLICE_MEASURES = {"ap50": "ap50", "ap": "ap", "ap75": "ap75", "recall_at_any_threshold": "max_recall"}
POINT_MEASURES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "false_positives": "false_positives_per_image",
}
MEASURES = (*SLICE_MEASURES, *POINT_MEASURES)
COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
RULE = re.compile(
    r"^\s*(?P<domain>.+?)\s+(?P<measure>\w+)\s*(?P<sign>>=|<=|>|<)\s*(?P<number>[-+.\deE]+)\s*$"
)
ROLES = {"real-world": "real_world", "in-domain": "in_domain"}


@dataclass(frozen=True)
class Check:
    """One rule for one domain.

    rule: as it was given
    domain: name of the domain
    state: "passed", "failed", or "not tested" where it could not be decided
    message: the numbers, in one line
    """

    rule: str
    domain: str
    state: str
    message: str


def run_check(options: CheckOptions, reporter: Reporter) -> list[Check]:
    """Check every rule.

    Raises InputError where there is no rule, one cannot be read, or names a domain that the report does not
    have; and where --no-regression has no baseline, or one that cannot be compared.
    """
    if not options.require and options.no_regression is None:
        raise InputError(
            "no rule: give --require 'real-world ap50 >= 0.5', or --baseline REPORT --no-regression 2"
        )
    if (options.no_regression is None) != (options.baseline is None):
        raise InputError("--no-regression POINTS and --baseline REPORT belong together; give both")
    report = read_report(options.report)
    checks = [check for rule in options.require for check in check_rule(rule, report)]
    if options.baseline is not None and options.no_regression is not None:
        baseline = read_report(options.baseline)
        checks += _check_regression(report, baseline, options.no_regression, reporter, seed=options.seed)
    if options.junit is not None:
        made_folder(options.junit.absolute().parent)
        write_text(options.junit, junit(checks, report))
    if options.summary is not None:
        earlier = options.summary.read_text(encoding="utf-8") if options.summary.exists() else ""
        write_text(options.summary, earlier + summary(checks, report))
    return checks


def check_rule(rule: str, report: WrittenReport) -> list[Check]:
    """One rule, for every domain it means. Raises InputError where it cannot be read."""
    found = RULE.match(rule)
    if found is None:
        raise InputError(
            f"--require {rule!r}: expected DOMAIN MEASURE >= NUMBER, such as 'real-world ap50 >= 0.5'"
        )
    measure, sign = found["measure"].lower(), found["sign"]
    if measure not in MEASURES:
        raise InputError(
            f"--require {rule!r}: no measure {found['measure']!r}; measures are {', '.join(MEASURES)}"
        )
    try:
        number = float(found["number"])
    except ValueError:
        raise InputError(f"--require {rule!r}: {found['number']!r} is not a number") from None
    if measure != "false_positives" and number > 1:
        raise InputError(
            f"--require {rule!r}: {measure} is a fraction from 0 to 1; did you mean {number / 100:g}?"
        )
    checks = []
    for name in _domains_of(found["domain"], rule, report):
        value = _value(report, name, measure)
        if value is None:
            checks.append(
                Check(rule, name, "not tested", f"{name}: {measure} is not measurable: it has too few labels")
            )
            continue
        state = "passed" if COMPARE[sign](value, number) else "failed"
        checks.append(
            Check(rule, name, state, f"{name}: {measure} is {fraction(value)}, required {sign} {number:g}")
        )
    return checks


def _domains_of(asked: str, rule: str, report: WrittenReport) -> list[str]:
    """The domains that a rule means. Raises InputError where there is none."""
    domains = report.record["domains"]
    named = [d["name"] for d in domains if d["name"] == asked]
    found = named or [d["name"] for d in domains if d["role"] == ROLES.get(asked.lower().replace("_", "-"))]
    if not found:
        names = ", ".join(d["name"] for d in domains)
        raise InputError(
            f"--require {rule!r}: no domain {asked!r}; domains are {names}, real-world and in-domain"
        )
    return found


def _value(report: WrittenReport, domain: str, measure: str) -> float | None:
    """A measure of a whole domain, at the report's threshold where it takes one; None where there is none."""
    if measure in SLICE_MEASURES:
        whole = next(
            (s for s in report.record["slices"] if s["domain"] == domain and s["attribute"] == "all"), None
        )
        return None if whole is None else whole[SLICE_MEASURES[measure]]
    sweep = next((entry for entry in report.record["sweep"] if entry["domain"] == domain), None)
    if sweep is None or not sweep["points"]:
        return None
    threshold = threshold_of(report)
    nearest = min(sweep["points"], key=lambda point: abs(point["confidence"] - threshold))
    return None if nearest[POINT_MEASURES[measure]] is None else float(nearest[POINT_MEASURES[measure]])


def _check_regression(
    report: WrittenReport, baseline: WrittenReport, tolerance: float, reporter: Reporter, *, seed: int
) -> list[Check]:
    """Whether a domain lost more AP50 than a tolerance in points, beyond chance, on the images that both
    have.

    Raises InputError where nothing can be compared.
    """
    rule = f"no regression of more than {tolerance:g} points"
    pair = pair_reports(report, baseline, report.folder.name, reporter, seed=seed)
    lost = regressions(list(pair.domains), tolerance / 100)
    checks = []
    for domain, is_lost in zip(pair.domains, lost, strict=True):
        found = domain.comparison
        interval = points_interval(found.interval.low, found.interval.high, found.interval.note)
        change = "gains" if found.difference >= 0 else "loses"
        words = (
            f"{domain.name}: AP50 {change} {points(abs(found.difference))} against {baseline.folder.name} "
            f"({interval}; {count(domain.images, 'image')})"
        )
        if is_lost:
            checks.append(Check(rule, domain.name, "failed", f"{words}, beyond chance"))
        elif found.p is None:
            checks.append(Check(rule, domain.name, "not tested", f"{words}: {found.note}"))
        else:
            checks.append(Check(rule, domain.name, "passed", words))
    return checks + [Check(rule, name, "not tested", f"{name}: {why}") for name, why in pair.refused.items()]


def junit(checks: Sequence[Check], report: WrittenReport) -> str:
    """The checks as JUnit XML, which GitHub, GitLab and Jenkins read."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"shiftscope check {report.folder.resolve().name}",
        tests=str(len(checks)),
        failures=str(sum(check.state == "failed" for check in checks)),
        errors="0",
        skipped=str(sum(check.state == "not tested" for check in checks)),
    )
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname=check.domain, name=check.rule)
        if check.state == "failed":
            ElementTree.SubElement(case, "failure", message=check.message)
        elif check.state == "not tested":
            ElementTree.SubElement(case, "skipped", message=check.message)
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def summary(checks: Sequence[Check], report: WrittenReport) -> str:
    """The checks as Markdown, for a pull request or GITHUB_STEP_SUMMARY."""
    failed = sum(check.state == "failed" for check in checks)
    title = f"{count(failed, 'rule')} broken" if failed else "all rules hold"
    rows = [f"| {check.state} | {_cell(check.rule)} | {_cell(check.message)} |" for check in checks]
    return "\n".join(
        [
            f"### Shiftscope {_cell(report.folder.resolve().name)}: {title}",
            "",
            "| | rule | measured |",
            "|---|---|---|",
            *rows,
            "",
            "",
        ]
    )


def _cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def lines(checks: Sequence[Check]) -> list[str]:
    """One line a rule and domain, broken ones first."""
    order = ("failed", "not tested", "passed")
    return [
        f"{check.state:<10}  {check.message}" for check in sorted(checks, key=lambda c: order.index(c.state))
    ]


def as_record(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks as JSON values."""
    return {"passed": all(check.state != "failed" for check in checks), "checks": [asdict(c) for c in checks]}
