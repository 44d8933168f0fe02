"""What the package returns: the written result, with its tables as pandas frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

# Height of the page in a notebook, in pixels.
FRAME_HEIGHT = 800


@dataclass(frozen=True)
class Report:
    """A written report.

    folder: its folder
    record: the content of report.json
    """

    folder: Path
    record: dict[str, Any]

    @property
    def page(self) -> Path:
        """report.html."""
        return self.folder / "report.html"

    @property
    def primary(self) -> str | None:
        """Code of the primary hypothesis; None where no cause is supported."""
        primary: str | None = self.record["verdict"]["primary"]
        return primary

    @cached_property
    def verdict(self) -> pd.DataFrame:
        """One row a hypothesis: code, name, status, score, statement, missing, kind; supported ones first."""
        columns = ["code", "name", "status", "score", "statement", "missing", "kind"]
        return pd.DataFrame(self.record["verdict"]["hypotheses"]).reindex(columns=columns)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row a real-world domain: domain, grade, cause, leading, rival, in_domain_ap50, real_world_ap50,
        gap, next_step.
        """
        rows = [
            {
                "domain": entry["name"],
                **verdict,
                **{f"{s}_ap50": value for s, value in verdict["ap50"].items()},
            }
            for entry in self.record["domains"]
            if (verdict := entry.get("verdict")) is not None
        ]
        columns = "domain grade cause leading rival in_domain_ap50 real_world_ap50 gap next_step"
        return pd.DataFrame(rows).reindex(columns=columns.split())

    @cached_property
    def domains(self) -> pd.DataFrame:
        """One row a domain: counts, and AP, AP50 and maximum recall of the whole domain."""
        counts = pd.DataFrame(self.record["domains"]).drop(columns=["corrected", "verdict"], errors="ignore")
        whole = self.slices[self.slices["slice"] == "all"]
        metrics = ["ap", "ap50", "ap50_low", "ap50_high", "ap75", "max_recall"]
        return counts.merge(whole[["domain", *metrics]], left_on="name", right_on="domain").drop(
            columns="domain"
        )

    @cached_property
    def slices(self) -> pd.DataFrame:
        """One row a slice of a domain; "all" is the whole domain."""
        return pd.DataFrame(self.record["slices"])

    @cached_property
    def classes(self) -> pd.DataFrame:
        """One row a class of a labelled domain: AP, AP50 with its interval, precision, recall, F1,
        thresholds.
        """
        return pd.DataFrame(self.record.get("classes", []))

    @cached_property
    def class_drops(self) -> pd.DataFrame:
        """One row a class and real-world domain: AP50 in-domain and there, and how much more it loses than
        others.
        """
        return pd.DataFrame(self.record.get("class_drops", []))

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """One row a domain, actual and predicted class that occur together: count; "background" for none."""
        return pd.DataFrame(self.record.get("confusion", []))

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """One row a domain and confidence threshold: precision, recall, f1, false_positives_per_image."""
        parts = [
            pd.DataFrame(entry["points"]).assign(domain=entry["domain"]) for entry in self.record["sweep"]
        ]
        return (
            pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["domain", "confidence"])
        )

    @cached_property
    def shift(self) -> pd.DataFrame:
        """One row a domain and space ("image", "object", "descriptors", "boxes"): the shift metrics with their
        references.
        """
        rows = [
            {"domain": domain, "of": space, **metrics}
            for space, by_domain in self.record["shift"].items()
            if space != "factors"
            for domain, metrics in by_domain.items()
        ]
        return pd.DataFrame(rows)

    @cached_property
    def factors(self) -> pd.DataFrame:
        """One row a domain and readable factor."""
        return pd.DataFrame(self.record["shift"]["factors"])

    @cached_property
    def errors(self) -> pd.DataFrame:
        """One row a domain and error type: count, per_image, delta_ap50."""
        return pd.DataFrame(self.record["errors"])

    @cached_property
    def next(self) -> pd.DataFrame:
        """The images to label next, ranked."""
        return pd.DataFrame(self.record["next"])

    def __repr__(self) -> str:
        verdict = self.record["verdict"]
        leading = verdict.get("leading", verdict["primary"])
        name = next((h["name"] for h in verdict["hypotheses"] if h["code"] == leading), "cause undecided")
        return f"<Report {self.folder.name}: {'likely ' if verdict.get('grade') == 'likely' else ''}{name}>"

    def _repr_html_(self) -> str:
        """The page in a frame, as it is on disk."""
        return _framed(self.page)


@dataclass(frozen=True)
class Score:
    """Scored predictions.

    record: the numbers, as `shiftscope score` writes them
    """

    record: dict[str, Any]

    @property
    def overall(self) -> pd.Series:
        """The twelve COCO metrics of all images."""
        return pd.Series(self.record["overall"])

    @property
    def slices(self) -> pd.DataFrame:
        """One row a slice."""
        return pd.DataFrame(self.record["slices"])

    @property
    def sweep(self) -> pd.DataFrame:
        """One row a confidence threshold."""
        return pd.DataFrame(self.record["sweep"]["points"])

    def __repr__(self) -> str:
        return f"<Score: AP {self.record['overall']['ap']}, AP50 {self.record['overall']['ap50']}>"

    def _repr_html_(self) -> str:
        """The metrics as a table."""
        return str(self.overall.to_frame("value").to_html())


@dataclass(frozen=True)
class Prediction:
    """A folder of `shiftscope predict`, which is a domain of a report as it is.

    folder: the folder
    record: the content of predict.json
    """

    folder: Path
    record: dict[str, Any]

    @property
    def images(self) -> pd.DataFrame:
        """One row an image or frame."""
        return pd.read_parquet(self.folder / "images.parquet")

    @property
    def detections(self) -> pd.DataFrame:
        """One row a detection, down to confidence 0.001."""
        return pd.read_parquet(self.folder / "boxes.parquet")

    def __repr__(self) -> str:
        return f"<Prediction {self.folder}: {self.record['boxes']} detections>"

    def _repr_html_(self) -> str:
        """The first detections as a table."""
        return str(self.detections.query(f"confidence >= {float(self.record['conf'])}").head(20).to_html())


@dataclass(frozen=True)
class Ranking:
    """What to label and add next.

    folder: the folder with the lists and the hand-off
    record: the content of next.json
    """

    folder: Path
    record: dict[str, Any]

    @property
    def next(self) -> pd.DataFrame:
        """The images to label, ranked."""
        return pd.DataFrame(self.record["next"])

    @property
    def test(self) -> pd.DataFrame:
        """Images to label first, as a test set."""
        return pd.DataFrame(self.record["test"])

    @property
    def candidates(self) -> pd.DataFrame:
        """The candidate datasets, best first."""
        return pd.DataFrame(self.record["candidates"])

    @property
    def data(self) -> Path:
        """data.yaml of the hand-off, to train on once its labels are corrected."""
        return Path(self.record["hand_off"])

    def __repr__(self) -> str:
        return f"<Ranking {self.folder.name}: {len(self.record['next'])} images>"

    def _repr_html_(self) -> str:
        """The ranked images as a table."""
        return str(self.next.head(20).to_html())


_FRAME = '<iframe srcdoc="{}" width="100%" height="{}" sandbox="allow-scripts" style="border:0"></iframe>'


def _framed(page: Path) -> str:
    """A page in a frame of a notebook, as it is on disk."""
    return _FRAME.format(escape(page.read_text(encoding="utf-8"), quote=True), FRAME_HEIGHT)


@dataclass(frozen=True)
class ReportComparison:
    """Reports beside the first of them.

    page: compare.html
    record: the content of compare.json
    """

    page: Path
    record: dict[str, Any]

    @cached_property
    def domains(self) -> pd.DataFrame:
        """One row a report and domain: AP50 before and now, difference with its interval, p, images better
        and worse.
        """
        rows = [
            {"report": pair["report"], **{k: v for k, v in domain.items() if not isinstance(v, list)}}
            for pair in self.record["comparisons"]
            for domain in pair["domains"]
        ]
        return pd.DataFrame(rows)

    @cached_property
    def parts(self) -> pd.DataFrame:
        """One row a report, domain, and class or slice: AP50 before and now, difference, interval, q."""
        rows = [
            {"report": pair["report"], "domain": domain["domain"], **part}
            for pair in self.record["comparisons"]
            for domain in pair["domains"]
            for part in domain["parts"]
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        names = ", ".join(report["name"] for report in self.record["reports"][1:])
        return f"<ReportComparison {names} against {self.record['baseline']}>"

    def _repr_html_(self) -> str:
        """The page in a frame."""
        return _framed(self.page)


@dataclass(frozen=True)
class History:
    """Reports over time.

    page: history.html
    record: the content of history.json
    """

    page: Path
    record: dict[str, Any]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row a domain of a report, in order of time."""
        return pd.DataFrame(self.record["rows"])

    @property
    def alarms(self) -> list[str]:
        """One sentence an alarm."""
        return list(self.record["alarms"])

    def __repr__(self) -> str:
        return f"<History of {self.rows['report'].nunique()} reports, {len(self.alarms)} alarms>"

    def _repr_html_(self) -> str:
        """The page in a frame."""
        return _framed(self.page)
