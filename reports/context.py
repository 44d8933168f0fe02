"""From findings to one dict of words, rows, figures and pictures that both templates read. Numbers become text here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from datasets import structure
from diagnostics.calibration import AtHalf
from diagnostics.domain import Domain
from diagnostics.evidence import REJECTED_SHARE, Hypothesis
from diagnostics.factors import FACTORS
from diagnostics.intervals import MIN_BOXES
from diagnostics.wording import count, fraction, interval, percent, points
from reports import before, experiments, figures, pictures, unlabelled, where
from reports.findings import Findings, statistics_of
from reports.learned import learned
from reports.pipeline import Result, correction_lines

STATUS_WORDS = {"supported": "supported", "rejected": "cleared", "untested": "open"}
ROLE_WORDS = {"in_domain": "in-domain", "real_world": "real world", "training": "training"}
KIND_WORDS = {
    "false_positive": (
        "Confident false positives",
        "Detections that hit no object of their own (nothing there, or found already), most confident first, grouped by what they look like.",
    ),
    "missed": (
        "Misses",
        "Labelled objects that no detection at confidence .25 or above hits, largest first.",
    ),
    "near_miss": ("Near misses", "Detections that touch an object without covering it (IoU .1 to .5)."),
    "hit": ("Hits", "What it does find, for comparison."),
    "detection": (
        "What it claims",
        "The most confident detections on unlabelled footage: right or wrong is for you to say.",
    ),
}
# What a cleared suspect saves the reader from trying.
SPARED = {
    "underfit": "more epochs",
    "overfit": "fewer epochs",
    "threshold": "another confidence threshold",
    "scale": "another image size",
    "label_protocol": "redrawing the boxes",
}
REMEDY = {
    "none": "Nothing to mend. Keep this report as the baseline and run it again on new footage.",
    "underfit": "Train longer, until validation AP50 levels off, then run the report again.",
    "overfit": "Take an earlier checkpoint or fewer epochs, add varied training pictures, then run the report again.",
    "threshold": "Set the confidence threshold found for this footage and check it on clips it was not chosen on.",
    "scale": "Predict at the image size that helped (or in tiles), and train at that size.",
    "label_protocol": "Agree on one rule for boxes, redraw the smaller set by it, then run the report again.",
    "label_error": "Correct the labels in the App and run the report again.",
    "leakage": "Split by recording, train again, and only then compare.",
}
GLOSSARY = (
    (
        "AP50",
        "Average precision: the area under the precision-recall curve as the confidence threshold falls, where a detection counts as right if it overlaps an object of its class with IoU .5 or more. It is not a share of overlaps and not an accuracy; 1 is perfect.",
    ),
    ("AP", "The same, averaged over overlaps required from .5 to .95."),
    ("IoU", "Intersection over union of two boxes: shared area over covered area."),
    (
        "Box loss",
        "A regression loss on the corners of boxes while training. It falls when boxes fit better; it is not a rate of wrong boxes.",
    ),
    (
        "Maximum recall",
        "Share of objects found when every box down to confidence .001 counts: does it see them at all?",
    ),
    (
        "95 % interval",
        "Would contain the true value for 95 of 100 such samples of clips. Frames of one clip are one observation, so clips are drawn, not frames.",
    ),
    (
        "Group, clip",
        "Pictures that belong together: frames of one video, one recording session, copies of one original.",
    ),
    (
        "MMD",
        "Maximum mean discrepancy: a distance between two sets of embeddings. Only its ratio to what two halves of the home data give means anything.",
    ),
    (
        "Domain AUC",
        "How well a classifier tells the two sets apart on clips it has not seen: .5 not at all, 1 always.",
    ),
    (
        "D-ECE",
        "Mean difference between the confidence a detector states and the share of its detections that are right.",
    ),
    (
        "LaECE",
        "The same, with how well boxes fit counted too: a right detection counts as its IoU, not as 1.",
    ),
    (
        "Frechet distance",
        "Another distance between two sets of embeddings, of their means and spreads. It grows as samples shrink, so both sides are taken at one size.",
    ),
    (
        "Null",
        "What a number would be if nothing differed: here, what two halves of the home data give.",
    ),
    (
        "Second look",
        "The same footage shown to the detector in another way, larger or in other colours, say, to see what that wins back.",
    ),
    (
        "Foreshortening",
        "What lies flat on the ground looks squashed from a low camera, and does not from above.",
    ),
    (
        "Home, in-domain",
        "Both are the pictures the detector was validated on; the real world, out there, is the footage it is for.",
    ),
    (
        "Background picture",
        "A picture labelled as holding no object. A picture without a label file is unlabelled, which is something else.",
    ),
)
LIMITS = (
    "Without labels, a change in what counts as an object cannot be seen.",
    "One video is one sample, however many frames it has.",
    "A suspect is cleared or supported for the pictures given here; other footage may differ.",
)


def build_context(
    result: Result,
    name: str,
    app_urls: dict[int, str],
    dataset: str | None,
    timings: dict[str, float],
    created: str,
) -> dict[str, Any]:
    """Everything both templates need."""
    findings = result.findings
    names = [d.name for d in findings.domains] + (["training"] if findings.training is not None else [])
    roles = {d.name: d.role for d in findings.domains} | {"training": "training"}
    palette = figures.colours(names, roles)
    return {
        "name": name,
        "created": created,
        "dataset": dataset,
        "headline": headline(findings),
        "suspects": [suspect(h, h.code == findings.verdict.primary) for h in findings.verdict.hypotheses],
        "domains": [domain_row(findings, d, palette) for d in findings.domains],
        "ledger": ledger(result),
        "slices": where.slice_rows(findings),
        "slice_figure": where.slice_figure(findings, palette),
        "worst": where.worst(findings),
        "combinations": where.combinations(findings),
        "before": before.rows(result.changes),
        "errors": error_rows(findings),
        "error_figure": error_figure(findings, palette),
        "sweep": sweep(findings, palette),
        "learned": learned(result, palette),
        "shift": shift(findings, palette),
        "calibration": calibration(findings, palette),
        "label_free": unlabelled.label_free(findings),
        "few_labels": unlabelled.few_labels(findings),
        "videos": unlabelled.videos(findings),
        "ladders": experiments.ladders(result),
        "not_run": experiments.not_run(result),
        "gallery": gallery(findings, app_urls),
        "next": next_rows(findings),
        "reserved": list(findings.reserved),
        "protocol": protocol(result),
        "timings": [(stage, f"{seconds:.1f} s") for stage, seconds in timings.items()],
        "glossary": GLOSSARY,
        "limits": LIMITS,
    }


def headline(findings: Findings) -> dict[str, Any]:
    """The first screen: the cause, how sure, two numbers, a pair of pictures, the next step."""
    evidence, verdict = findings.evidence, findings.verdict
    helped = any(
        found.size_factor != 1 and found.share >= REJECTED_SHARE for found in evidence.recoveries.values()
    )
    spared = [
        words
        for code, words in SPARED.items()
        if verdict.named(code).status == "rejected"
        and not (code == "scale" and helped)
        # Nobody would try the opposite of the cure.
        and (code, verdict.primary) not in (("overfit", "underfit"), ("underfit", "overfit"))
    ]
    open_suspects = [h.name for h in verdict.hypotheses if h.status == "untested"]
    if evidence.gap_is_real and verdict.named("label_protocol").status == "rejected":
        open_suspects.append("whether the same things count as objects")
    if verdict.primary is None:
        tested = next((h for h in verdict.hypotheses if h.status == "untested" and h.missing), None)
        cause, statement = "Cannot tell yet", verdict.named("domain_shift").statement
        step = f"Missing: {tested.missing}." if tested else "No suspect is supported by the evidence at hand."
        sure = ""
    else:
        primary = verdict.named(verdict.primary)
        cause, statement = primary.name, primary.statement
        step = REMEDY.get(primary.code) or shift_remedy(findings, primary)
        gap = evidence.gap_interval
        sure = (
            f"The fall of {points(evidence.gap)} has a 95 % interval of {100 * gap.low:.0f} to {points(gap.high)}{', ' + gap.note if gap.note else ''}."
            if gap is not None and evidence.gap is not None and gap.low is not None and gap.high is not None
            else (f"How sure: {gap.note}." if gap is not None else "")
        )
    negation = (
        f"{spared[0][0].upper()}{spared[0][1:]}{join(spared[1:], 'or')} would not fix it."
        if spared and verdict.primary not in (None, "none")
        else ""
    )
    return {
        "cause": cause,
        "statement": statement,
        "negation": negation,
        "sure": sure,
        "step": step,
        "open": f"Still open: {', '.join(open_suspects).lower()}." if open_suspects else "",
        "numbers": [big_number(findings, d) for d in shown_first(findings)],
        "pair": pair(findings),
    }


def join(rest: Sequence[str], conjunction: str) -> str:
    """What follows a first word in a list: ", a or b"."""
    if not rest:
        return ""
    return (
        f" {conjunction} {rest[-1]}"
        if len(rest) == 1
        else f", {', '.join(rest[:-1])} {conjunction} {rest[-1]}"
    )


def shift_remedy(findings: Findings, primary: Hypothesis) -> str:
    """What to add against a domain shift."""
    what = {
        "viewpoint": "pictures from that viewpoint",
        "appearance": "pictures with that light and those colours",
        "context": "pictures of such scenes",
    }.get(primary.kind, "pictures of that kind")
    picks = len(findings.next)
    clips = findings.next["group"].nunique()
    to_label = sum(
        labels_words(findings, r["domain"], r["image"]) == "to be labelled"
        for r in findings.next.to_dict("records")
    )
    labels = f", {to_label} of them still to be labelled," if to_label else ", all labelled already,"
    return (
        f"Add {what} to training: start with the {count(picks, 'picture')} from {count(clips, 'clip')}{labels} listed under \u201cWhat to add next\u201d."
        if picks
        else f"Add {what} to training."
    )


def shown_first(findings: Findings) -> list[Domain]:
    """Home and the real-world domain in focus (or the first)."""
    focus = next((d for d in findings.away if d.name == findings.evidence.away), None) or (
        findings.away[0] if findings.away else None
    )
    return [findings.home, *([focus] if focus is not None else [])]


def big_number(findings: Findings, domain: Domain) -> dict[str, str]:
    """AP50 of a domain with its interval, or why there is none."""
    bounds = findings.evidence.intervals.get(domain.name)
    value = findings.evidence.ap50.get(domain.name)
    return {
        "name": domain.name,
        "role": "" if domain.name == ROLE_WORDS[domain.role] else ROLE_WORDS[domain.role],
        "value": where.number(value)
        if value is not None
        else ("–" if domain.labelled.any() else "no labels"),
        "note": interval(bounds.low, bounds.high, bounds.note) if bounds else few_objects(domain),
        "size": f"{count(len(domain.pictures), 'picture')}, {count(int(domain.pictures['group'].nunique()), 'clip')}",
    }


def few_objects(domain: Domain) -> str:
    """Why a domain has no AP."""
    return (
        f"only {count(len(domain.boxes), 'labelled object')}, {MIN_BOXES} are needed"
        if domain.labelled.any()
        else "AP cannot be measured"
    )


def pair(findings: Findings) -> list[dict[str, str | None]]:
    """A hit at home and a miss (or the worst claim) out there."""
    cards = findings.cards
    wanted = [(findings.home.name, ["hit"], "a hit at home")]
    if len(shown_first(findings)) > 1:
        wanted.append((shown_first(findings)[1].name, ["missed", "false_positive", "detection"], "out there"))
    result = []
    for domain, kinds, words in wanted:
        rows = cards[(cards["domain"] == domain) & cards["kind"].isin(kinds)]
        if len(rows):
            first = min(range(len(rows)), key=lambda i: kinds.index(rows["kind"].iloc[i]))
            card = rows.iloc[first]
            caption = {
                "missed": "a miss out there",
                "false_positive": "a false positive out there",
                "detection": "a claim out there",
            }.get(card["kind"], words)
            result.append({"src": card_picture(findings, card, side=280), "caption": f"{caption} ({domain})"})
    return result


def domain_of(findings: Findings, name: str) -> Domain:
    """Domain by name."""
    return next(d for d in findings.domains if d.name == name)


def card_picture(findings: Findings, card: pd.Series, *, side: int = pictures.SIDE) -> str | None:
    """Crop of a card with the annotated objects in it."""
    domain = domain_of(findings, card["domain"])
    path = domain.pictures.loc[domain.pictures["image"] == card["image"], "path"].iloc[0]
    truth = (
        domain.boxes.loc[domain.boxes["image"] == card["image"], ["x1", "y1", "x2", "y2"]]
        .to_numpy(float)
        .tolist()
    )
    return pictures.crop(
        path, [float(card[c]) for c in ("x1", "y1", "x2", "y2")], card["kind"], truth=truth, side=side
    )


def suspect(hypothesis: Hypothesis, primary: bool) -> dict[str, Any]:
    """One row of the line-up."""
    return {
        "code": hypothesis.code,
        "name": hypothesis.name,
        "status": hypothesis.status,
        "word": STATUS_WORDS[hypothesis.status],
        "statement": hypothesis.statement,
        "for": [c.text for c in hypothesis.clues if c.favours is True],
        "against": [c.text for c in hypothesis.clues if c.favours is False],
        "context": [c.text for c in hypothesis.clues if c.favours is None],
        "missing": hypothesis.missing,
        "share": share_words(hypothesis),
        "primary": primary,
    }


def share_words(hypothesis: Hypothesis) -> str:
    """What a supported suspect's score means: a share measured, or, for a shift, what nothing else explains."""
    if hypothesis.score is None or hypothesis.status != "supported" or hypothesis.code == "none":
        return ""
    if hypothesis.code == "domain_shift":
        return f"{percent(hypothesis.score)} of the failure is explained by no other suspect that could be measured; a different idea of what counts as an object would hide in it too."
    return f"Accounts for {percent(hypothesis.score)} of the failure."


def domain_row(findings: Findings, domain: Domain, palette: dict[str, str]) -> dict[str, Any]:
    """One line of the table of domains."""
    whole = findings.slices[
        (findings.slices["domain"] == domain.name) & (findings.slices["attribute"] == "all")
    ].iloc[0]
    return {
        "name": domain.name,
        "colour": palette[domain.name],
        "role": ROLE_WORDS[domain.role],
        "images": f"{len(domain.pictures):,}",
        "labelled": labelled_words(domain),
        "boxes": f"{len(domain.boxes):,}",
        "groups": f"{domain.pictures['group'].nunique():,}",
        "ap50": where.number(whole["ap50"]),
        "interval": interval(_or_none(whole["ap50_low"]), _or_none(whole["ap50_high"]), whole["note"])
        if domain.labelled.any()
        else whole["note"],
        "ap": where.number(whole["ap"]),
        "ap75": where.number(whole["ap75"]),
        "max_recall": where.number(whole["max_recall"]),
    }


def labelled_words(domain: Domain) -> str:
    """How many pictures are labelled, and how many of those as holding no object."""
    empty = int((~domain.labelled_pictures["image"].isin(domain.boxes["image"])).sum())
    return f"{int(domain.labelled.sum()):,}" + (f" ({empty:,} without an object)" if empty else "")


def _or_none(value: float) -> float | None:
    return None if value != value else float(value)


def ledger(result: Result) -> dict[str, Any]:
    """Files by bucket, reasons, and label rows mended or rejected."""
    table, rows = result.ledger, result.rows
    return {
        "total": f"{len(table):,}",
        "buckets": [
            (bucket, f"{int((table['bucket'] == bucket).sum()):,}")
            for bucket in ("used", "skipped", "failed")
        ],
        "reasons": [
            (r["bucket"], r["reason"], f"{r['files']:,}", short(r["first"]))
            for r in structure.reasons(table).to_dict("records")
        ],
        "rows": [
            (r["action"], r["reason"], f"{r['rows']:,}", f"{short(r['first'])}:{r['line']}")
            for r in structure.mended(rows).to_dict("records")
        ],
        "taken": taken(result),
        "origins": [(o.name, o.source.origin) for o in result.opened if o.source.origin],
        "grouping": [(o.name, o.source.grouping) for o in result.opened if o.role != "training"],
        "corrected": [(o.name, line) for o in result.opened for line in correction_lines(o.corrected)],
    }


def taken(result: Result) -> list[tuple[str, ...]]:
    """Which folders the pictures of each domain came from: domain, folder, split, pictures, labelled, objects. Long lists are cut."""
    rows: list[tuple[str, ...]] = []
    for o in result.opened:
        table = structure.folders(o.source)
        for row in table.head(structure.MAX_FOLDERS).to_dict("records"):
            numbers = (f"{row[key]:,}" for key in ("images", "labelled", "boxes"))
            rows.append((o.name, row["folder"], row["split"] or "–", *numbers))
        if len(table) > structure.MAX_FOLDERS:
            rest = table.iloc[structure.MAX_FOLDERS :]
            numbers = (f"{rest[key].sum():,}" for key in ("images", "labelled", "boxes"))
            rows.append((o.name, f"{len(rest)} more", "–", *numbers))
    return rows


def short(path: str) -> str:
    """Last two parts of a path: enough to find the file, without the machine's folders."""
    return "/".join(str(path).replace("\\", "/").rsplit("/", 2)[-2:])


def error_rows(findings: Findings) -> list[dict[str, Any]]:
    """Errors by type, all domains side by side."""
    return [
        {
            "domain": r["domain"],
            "type": r["type"],
            "count": f"{r['count']:,}",
            "per_image": f"{r['per_image']:.2f}",
            "delta": "–" if r["delta_ap50"] != r["delta_ap50"] else f"+{where.number(r['delta_ap50'])}",
        }
        for r in findings.errors.to_dict("records")
    ]


def error_figure(findings: Findings, palette: dict[str, str]) -> Markup | None:
    """Errors per picture at home and out there."""
    if findings.errors.empty:
        return None
    shown = findings.errors[findings.errors.groupby("type")["count"].transform("sum") > 0]
    return (
        Markup(figures.errors("Errors per picture by type and domain", shown, palette))
        if len(shown)
        else None
    )


def sweep(findings: Findings, palette: dict[str, str]) -> dict[str, Any] | None:
    """Curves, the slider's data, and what carrying a threshold costs."""
    if not findings.sweeps:
        return None
    frame = pd.concat(
        [points_.assign(domain=name) for name, points_ in findings.sweeps.items()], ignore_index=True
    )
    found = findings.evidence.threshold
    sentence = findings.verdict.named("threshold").statement
    data = {
        name: [
            [round(float(v), 4) if v == v else None for v in row]
            for row in points_[
                ["confidence", "precision", "recall", "f1", "false_positives_per_image"]
            ].to_numpy(float)
        ]
        for name, points_ in findings.sweeps.items()
    }
    return {
        "figure": Markup(
            figures.sweep(
                "F1, precision and recall against the confidence threshold, by domain", frame, palette
            )
        ),
        "data": data,
        "start": found.confidence if found is not None else 0.25,
        "sentence": sentence,
        "colours": palette,
    }


def shift(findings: Findings, palette: dict[str, str]) -> dict[str, Any]:
    """Map, distances with their nulls, and readable factors."""
    rows = []
    for what, measured in (
        ("pictures", findings.evidence.shift_image),
        ("objects", findings.evidence.shift_object),
        ("light, colours, edges", findings.evidence.shift_look),
    ):
        for name, s in measured.items():
            rows.append(
                {
                    "domain": name,
                    "what": what,
                    "n": f"{s.n_home:,} / {s.n_away:,}",
                    "groups": f"{s.groups_home} / {s.groups_away}",
                    "mmd": "–" if s.mmd_ratio is None else f"{s.mmd_ratio:.1f} times",
                    "p": "–" if s.p is None else f"{s.p:.3f}",
                    "energy_p": "–" if s.energy_p is None else f"{s.energy_p:.3f}",
                    "frechet": "–"
                    if s.frechet is None or not s.frechet_null
                    else f"{s.frechet / s.frechet_null:.1f} times",
                    "auc": f"{where.number(s.auc)} ({where.number(s.auc_null)})",
                    "outside": f"{percent(s.outside)} ({percent(s.outside_null)})"
                    if s.outside is not None
                    else "–",
                    "note": s.note,
                }
            )
    factor_rows = [
        {
            "domain": name,
            "words": r["words"],
            "kind": r["kind"],
            "home": f"{r['home']:.2f}",
            "away": f"{r['away']:.2f}",
            "effect": f"{r['effect']:.1f}",
            "p": "–" if r["p"] != r["p"] else "under .001" if r["p"] < 0.0005 else f"{r['p']:.3f}",
        }
        for name, table in findings.evidence.factors.items()
        for r in table.to_dict("records")
    ]
    return {
        "map": Markup(
            figures.embedding(
                "Embedding map: first two principal components of all pictures, coloured by domain; rings are the pictures to add next",
                findings.map.merge(
                    findings.next[["domain", "image", "rank"]], on=["domain", "image"], how="left"
                ),
                palette,
            )
        )
        if len(findings.map)
        else None,
        "rows": rows,
        "factors": factor_rows,
        "histograms": histograms(findings, palette),
    }


def histograms(findings: Findings, palette: dict[str, str]) -> Markup | None:
    """Paired histograms of the factors that differ most."""
    largest: dict[str, float] = {}
    for table in findings.evidence.factors.values():
        for row in table.to_dict("records"):
            largest[row["name"]] = max(largest.get(row["name"], 0.0), row["effect"])
    chosen = sorted(largest, key=lambda name: -largest[name])[:6]
    if not chosen:
        return None
    all_samples = {d.name: statistics_of(d, d.imgsz) for d in findings.domains}
    samples = {
        FACTORS[factor][1]: pd.concat(
            [
                s[factor][["value"]].assign(domain=name)
                for name, s in all_samples.items()
                if factor in s and len(s[factor])
            ],
            ignore_index=True,
        )
        for factor in chosen
    }
    return Markup(
        figures.factors("Histograms of the factors that differ most between domains", samples, palette)
    )


def half(found: AtHalf | None) -> str:
    """How many of the detections that claim about .5 are right."""
    if found is None:
        return "too few detections"
    between = "" if found.low is None else f" ({percent(found.low)} to {percent(found.high)})"
    return f"{percent(found.precision)}{between} of {found.count:,}"


def calibration(findings: Findings, palette: dict[str, str]) -> dict[str, Any] | None:
    """Reliability curves and errors."""
    curves = [c.curve.assign(domain=name) for name, c in findings.calibration.items() if len(c.curve)]
    rows = [
        {
            "domain": name,
            "d_ece": where.number(c.d_ece),
            "la_ece": where.number(c.la_ece),
            "half": half(c.at_half),
        }
        for name, c in findings.calibration.items()
    ]
    if not rows:
        return None
    figure = (
        Markup(
            figures.reliability(
                "Share of right detections against stated confidence, by domain",
                pd.concat(curves, ignore_index=True),
                palette,
            )
        )
        if curves
        else None
    )
    promises = [
        {
            "domain": name,
            "risk": percent(found.risk),
            "confidence": where.number(found.confidence),
            "missed": "–" if found.missed is None else percent(found.missed),
            "groups": found.groups,
            "note": found.note,
        }
        for name, controls in findings.risk.items()
        for found in controls
    ]
    return {"rows": rows, "figure": figure, "promises": promises}


def gallery(findings: Findings, app_urls: dict[int, str]) -> list[dict[str, Any]]:
    """Cards by domain and kind, real world first."""
    path_of: dict[str, str] = {}
    if findings.training is not None:
        path_of = dict(
            zip(findings.training.pictures["image"], findings.training.pictures["path"], strict=True)
        )
    sections = []
    for domain in (*findings.away, findings.home):
        for kind, (title, words) in KIND_WORDS.items():
            part = findings.cards[
                (findings.cards["domain"] == domain.name) & (findings.cards["kind"] == kind)
            ]
            if part.empty:
                continue
            cards = [
                card_context(findings, row, number_, app_urls, path_of)
                for number_, row in part.sort_values("look", kind="stable").iterrows()
            ]
            sections.append(
                {
                    "domain": domain.name,
                    "kind": kind,
                    "title": title,
                    "words": words,
                    "cards": cards,
                    "looks": int(part["look"].nunique()),
                }
            )
    return sections


def card_context(
    findings: Findings, card: pd.Series, position: Any, app_urls: dict[int, str], path_of: dict[str, str]
) -> dict[str, Any]:
    """One card: crop, facts, and the training pictures most like it."""
    domain = domain_of(findings, card["domain"])
    picture = domain.pictures.loc[domain.pictures["image"] == card["image"]].iloc[0]
    gain = domain.imgsz / max(picture["width"], picture["height"])
    confidence = float(card["confidence"])
    seconds = f", {picture['seconds']:.1f} s" if picture["seconds"] == picture["seconds"] else ""
    return {
        "src": card_picture(findings, card),
        "image": short(card["image"]),
        "group": f"{card['group']}{seconds}",
        "confidence": "" if confidence != confidence else fraction(confidence),
        "raw_confidence": "" if confidence != confidence else f"{confidence:.4f}",
        "size": f"{(card['x2'] - card['x1']) * gain:.0f}\u00d7{(card['y2'] - card['y1']) * gain:.0f} px",
        "look": int(card["look"]),
        "app_url": app_urls.get(int(position), ""),
        "nearest": [
            {
                "src": pictures.crop(path_of[entry["image"]], entry["box"], "", side=pictures.SMALL_SIDE),
                "image": short(entry["image"]),
            }
            for entry in card["nearest"]
            if entry["image"] in path_of
        ],
    }


def next_rows(findings: Findings) -> list[dict[str, Any]]:
    """The ranked list with small pictures, each beside the training picture most like it."""
    known = findings.training or findings.home
    path_of = dict(zip(known.pictures["image"], known.pictures["path"], strict=True))
    return [
        {
            "rank": r["rank"],
            "image": short(r["image"]),
            "domain": r["domain"],
            "reason": r["reason"],
            "labels": labels_words(findings, r["domain"], r["image"]),
            "covered": percent(r["covered"]),
            "src": pictures.crop(r["path"], None, "", side=pictures.SMALL_SIDE),
            "nearest": short(r["nearest"]),
            "nearest_src": pictures.crop(path_of[r["nearest"]], None, "", side=pictures.SMALL_SIDE)
            if r["nearest"] in path_of
            else None,
        }
        for r in findings.next.to_dict("records")
    ]


def labels_words(findings: Findings, name: str, image: str) -> str:
    """Whether a picture is labelled already, and with how many objects."""
    domain = domain_of(findings, name)
    if not domain.pictures.loc[domain.pictures["image"] == image, "labelled"].any():
        return "to be labelled"
    objects = int((domain.boxes["image"] == image).sum())
    return (
        f"labelled already, {count(objects, 'object')}" if objects else "labelled already, without an object"
    )


def protocol(result: Result) -> list[tuple[str, str]]:
    """How the numbers were made."""
    run = result.run
    facts = [
        (
            "Matching",
            "greedy COCO matching, IoU .5 to .95, 100 detections a picture, 101-point interpolation (equal to pycocotools)",
        ),
        ("Confidence floor", f"{result.settings.conf}"),
        (
            "Image size",
            f"{result.settings.imgsz} px" + (f" (trained at {run.imgsz} px)" if run and run.imgsz else ""),
        ),
        ("Intervals", "95 %, cluster bootstrap over clips, 1,000 replicates, BCa"),
        ("Seed", str(result.request.seed)),
    ]
    if run is not None:
        facts.insert(0, ("Weights", f"{short(str(run.weights))}, sha256 {run.sha256[:12]}"))
    return facts
