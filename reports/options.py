"""What each command can be asked for: one class a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from datasets.errors import InputError
from datasets.source import parts_of

# Kept checkpoints that are compared, unless --checkpoints says otherwise.
MOST = 4


@dataclass(frozen=True)
class ReportOptions:
    """What `shiftscope report` was asked for. in_domain and real_world: (name or None, source). predictions: domain name -> COCO results.

    slices: attributes of images, each a CSV or fiftyone:DATASET. label_free: show the detector changed in-domain images, to read AP50 without labels; None
    where a domain has none. before: an earlier run to compare with, None for the one this run went on from, if its lineage names it. conf: the confidence
    threshold in use, None for the one that is best in-domain. corrections: use labels and tags read back from the App. class_map: (a source's class, the model's).
    allow: folders outside of sources that they may lead to. trust: load checkpoints that the restricted loader refuses. checkpoints: of those that
    the run kept, at most so many are compared.
    """

    run: Path | None = None
    weights: Path | None = None
    in_domain: tuple[str | None, str] | None = None
    real_world: tuple[tuple[str | None, str], ...] = ()
    predictions: tuple[tuple[str, Path], ...] = ()
    slices: tuple[str, ...] = ()
    history: Path | None = None
    group_by: str | None = None
    imgsz: int | None = None
    device: str | None = None
    batch: int | None = None
    conf: float | None = None
    label_free: bool | None = None
    before: Path | None = None
    corrections: bool = True
    class_map: tuple[tuple[str, str], ...] = ()
    allow: tuple[Path, ...] = ()
    trust: bool = False
    checkpoints: int = MOST
    seed: int = 0

    def as_record(self) -> dict[str, Any]:
        """As JSON values, with whole paths, so that it can be asked again from anywhere."""
        record = asdict(self)
        for name in ("run", "weights", "history", "before"):
            record[name] = whole(record[name])
        record["in_domain"] = (
            None if self.in_domain is None else [self.in_domain[0], whole(self.in_domain[1])]
        )
        record["real_world"] = [[name, whole(source)] for name, source in self.real_world]
        record["predictions"] = [[name, whole(file)] for name, file in self.predictions]
        record["slices"] = [whole(spec) for spec in self.slices]
        record["class_map"] = [list(pair) for pair in self.class_map]
        record["allow"] = [whole(root) for root in self.allow]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ReportOptions:
        """What `as_record` gave. Raises InputError when it is none."""
        try:
            # What reports of earlier versions do not mention was not there to be asked for.
            later: dict[str, Any] = {
                "class_map": (),
                "allow": (),
                "trust": False,
                "checkpoints": MOST,
            }
            values: dict[str, Any] = {key.name: (later | dict(record))[key.name] for key in fields(cls)}
            for name in ("run", "weights", "history", "before"):
                values[name] = None if values[name] is None else Path(values[name])
            values["in_domain"] = None if values["in_domain"] is None else tuple(values["in_domain"])
            values["real_world"] = tuple((name, source) for name, source in values["real_world"])
            values["predictions"] = tuple((name, Path(file)) for name, file in values["predictions"])
            values["slices"] = tuple(values["slices"])
            values["class_map"] = tuple((theirs, ours) for theirs, ours in values["class_map"])
            values["allow"] = tuple(map(Path, values["allow"]))
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the report does not say what it was asked for ({type(error).__name__}: {error}); write it again with 'shiftscope report'"
            ) from None


def whole(path: Path | str | None) -> str | None:
    """A path that exists as an absolute one, also within a list with commas; anything else (a Kaggle handle, a FiftyOne dataset) as it is."""
    if path is None:
        return None
    found = [Path(part).expanduser() for part in parts_of(str(path))]
    return ",".join(str(part.absolute()) if part.exists() else str(part) for part in found)
