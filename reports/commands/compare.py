"""`shiftscope compare`: reports beside each other, on the images that they share."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from datasets.errors import InputError
from datasets.files import made_folder, write_text
from diagnostics.paired import NotComparable, pair_domains
from diagnostics.slices import edges
from diagnostics.wording import count, fraction, points_interval, signed_points
from reports.options import CompareOptions
from reports.page.comparison import ReportPair, comparison_page
from reports.page.reader import WrittenReport, read_report
from reports.plain import plain
from reports.progress import Reporter
from train.environment import runs_folder

PAGE, RECORD = "compare.html", "compare.json"
# Images in the record, of each pair: more are in the reports.
MOST_IMAGES = 50


def threshold_of(report: WrittenReport) -> float:
    """The confidence threshold that a report uses; Ultralytics' default where it has none."""
    transfer = report.record.get("transfer") or {}
    return float(transfer.get("confidence") or 0.25)


def pair_reports(
    now: WrittenReport, before: WrittenReport, name: str, reporter: Reporter, *, seed: int
) -> ReportPair:
    """Every domain that both reports have, by its name; the in-domain ones belong to each other whatever
    their names.

    Raises InputError where nothing can be compared.
    """
    thresholds = threshold_of(now), threshold_of(before)
    earlier = {domain.name: domain for domain in before.domains}
    # As in the report of now, so that a slice of the same name has the same images.
    cuts = edges(now.domains)
    held_out = next(domain for domain in before.domains if domain.role == "in_domain")
    pairs, refused = [], {}
    for domain in now.domains:
        other = held_out if domain.role == "in_domain" else earlier.get(domain.name)
        if other is None:
            refused[domain.name] = f"{before.folder.name} has no domain of this name"
            continue
        try:
            with reporter.stage("compare", f"{name}: {domain.name}"):
                pairs.append(pair_domains(domain, other, thresholds, seed=seed, cuts=cuts))
        except NotComparable as reason:
            refused[domain.name] = str(reason)
    paired = {domain.name for domain in now.domains}
    for domain in before.domains:
        if domain.role != "in_domain" and domain.name not in paired:
            refused[domain.name] = (
                f"it is in {before.folder.name}, and {now.folder.name} has no domain of this name"
            )
    if not pairs:
        reasons = "; ".join(f"{domain}: {why}" for domain, why in refused.items())
        raise InputError(f"{now.folder} and {before.folder} cannot be compared ({reasons})")
    return ReportPair(name, tuple(pairs), refused)


def _names_of(reports: list[WrittenReport]) -> list[str]:
    """Folder names, with as many parents as tell them apart."""
    names = [report.folder.resolve().name for report in reports]
    taken = Counter(names)
    return [
        name if taken[name] == 1 else f"{report.folder.resolve().parent.name}/{name}"
        for name, report in zip(names, reports, strict=True)
    ]


def run_compare(options: CompareOptions, reporter: Reporter) -> tuple[dict[str, Any], Path]:
    """Compare every report with the first, and write the page.

    Parameters
    ----------
    options : CompareOptions
        The reports, and where to write.
    reporter : Reporter
        Shows progress.

    Returns
    -------
    dict
        The content of compare.json.
    Path
        compare.html.

    Raises
    ------
    InputError
        Fewer than two reports, one that cannot be read, or two that have nothing in common.
    """
    if len(options.reports) < 2:
        raise InputError("give the folders of two reports or more, the earlier one first")
    reports = [read_report(folder) for folder in options.reports]
    names = _names_of(reports)
    before = reports[0]
    pairs = [
        pair_reports(now, before, name, reporter, seed=options.seed)
        for now, name in zip(reports[1:], names[1:], strict=True)
    ]
    described = [_report_record(report, name) for report, name in zip(reports, names, strict=True)]
    record = {
        "baseline": names[0],
        "reports": described,
        "comparisons": [
            {**_pair_record(pair), "differs": what_differs(now, described[0])}
            for pair, now in zip(pairs, described[1:], strict=True)
        ],
    }
    folder = (
        options.out or runs_folder() / "compare" / "-vs-".join(n.replace("/", "-") for n in names)
    ).absolute()
    made_folder(folder)
    page = comparison_page(record, reports, pairs)
    write_text(folder / RECORD, json.dumps(record, indent=1, allow_nan=False))
    write_text(folder / PAGE, page)
    return record, folder / PAGE


def _report_record(report: WrittenReport, name: str) -> dict[str, Any]:
    """What stands beside each other of every report."""
    run = report.record["run"]
    return {
        "name": name,
        "folder": str(report.folder.resolve()),
        "created": report.record.get("created"),
        "weights": run.get("weights"),
        "sha256": run.get("sha256"),
        "imgsz": run.get("imgsz"),
        "training_boxes": run.get("training_boxes"),
        "confidence": threshold_of(report),
        "domains": [
            {
                "name": d["name"],
                "role": d["role"],
                "ap50": report.record["evidence"]["ap50"].get(d["name"]),
                **_verdict(d),
            }
            for d in report.record["domains"]
        ],
    }


def what_differs(now: dict[str, Any], before: dict[str, Any]) -> str:
    """How the detector of a report differs from that of the first, in words. Both: see `_report_record`."""
    known = [report["sha256"] for report in (before, now)]
    weights = "the same weights" if known[0] == known[1] else "other weights"
    sizes = [report["imgsz"] for report in (before, now)]
    if not all(known):
        weights = "weights not known"
    if None in sizes:
        return weights
    return f"{weights}, image size {f'{sizes[0]} to ' if sizes[0] != sizes[1] else ''}{sizes[1]} px"


def _verdict(domain: dict[str, Any]) -> dict[str, Any]:
    """Cause and grade of a domain's verdict; null in-domain."""
    verdict = domain.get("verdict")
    if not verdict:
        return {"cause": None, "grade": None}
    leading = next((h["name"] for h in verdict["hypotheses"] if h["code"] == verdict.get("leading")), None)
    return {"cause": leading, "grade": verdict.get("grade")}


def _pair_record(pair: ReportPair) -> dict[str, Any]:
    """One comparison with the first report."""
    domains = []
    for domain in pair.domains:
        changed = domain.changes[domain.changes["errors_now"] != domain.changes["errors_before"]]
        domains.append(
            {
                "domain": domain.name,
                "images": domain.images,
                "clips": domain.clips,
                "only_before": domain.only_before,
                "only_now": domain.only_now,
                "relabelled": domain.relabelled,
                "ap50_before": plain(domain.comparison.second),
                "ap50_now": plain(domain.comparison.first),
                "difference": plain(domain.comparison.difference),
                "low": plain(domain.comparison.interval.low),
                "high": plain(domain.comparison.interval.high),
                "p": plain(domain.comparison.p),
                "note": domain.comparison.note or domain.comparison.interval.note,
                "parts": plain(domain.parts),
                "better": int((domain.changes["errors_now"] < domain.changes["errors_before"]).sum()),
                "worse": int((domain.changes["errors_now"] > domain.changes["errors_before"]).sum()),
                "images_changed": plain(changed.head(MOST_IMAGES)),
            }
        )
    return {"report": pair.name, "domains": domains, "not_compared": pair.refused}


def sentence(domain: dict[str, Any]) -> str:
    """One comparison as the terminal and the page say it."""
    found = points_interval(domain["low"], domain["high"], domain["note"])
    chance = ""
    if domain["p"] is not None:
        chance = ", beyond chance" if domain["p"] < 0.05 else ", no more than chance"
        leaves_out_0 = domain["low"] is not None and not domain["low"] <= 0 <= domain["high"]
        if leaves_out_0 and domain["p"] >= 0.05:
            chance = (
                f", on the edge of chance: the interval leaves out 0, the test (p {domain['p']:.2g}) does not"
            )
    parts = [
        f"AP50 {fraction(domain['ap50_before'])} to {fraction(domain['ap50_now'])} on "
        f"{count(domain['images'], 'image')} of {count(domain['clips'], 'clip')}: "
        f"{signed_points(domain['difference'] or 0.0, 1)} points ({found}){chance}"
    ]
    if domain["relabelled"]:
        parts.append(
            f"{count(domain['relabelled'], 'image')} labelled anew, both are scored by the labels of now"
        )
    if domain["only_before"] or domain["only_now"]:
        parts.append(
            f"left out: {domain['only_before']} images of before only, {domain['only_now']} of now only"
        )
    return "; ".join(parts)


def lines(record: dict[str, Any]) -> list[str]:
    """The comparison as text."""
    text = []
    for comparison in record["comparisons"]:
        text.append(f"{comparison['report']} against {record['baseline']} ({comparison['differs']})")
        for domain in comparison["domains"]:
            text.append(f"  {domain['domain']}: {sentence(domain)}")
            resolved = [part for part in domain["parts"] if part["q"] is not None and part["q"] <= 0.1]
            for part in sorted(resolved, key=lambda part: part["difference"]):
                text.append(
                    f"    {part['kind']} {part['name']}: {fraction(part['before'])} to "
                    f"{fraction(part['now'])} ({signed_points(part['difference'])} points, q {part['q']:.2g})"
                )
        text += [f"  {name}: not compared, {why}" for name, why in comparison["not_compared"].items()]
    return text
