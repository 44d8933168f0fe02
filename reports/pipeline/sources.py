"""Opening the sources of a report: domains before any inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.attributes import join, read_attributes
from datasets.classes import with_classes
from datasets.corrections import Applied, apply, read_corrections
from datasets.errors import InputError
from datasets.naming import name_of, unique
from datasets.source import open_source, open_training
from datasets.tables import LEDGER_COLUMNS, ROW_COLUMNS, Source, concatenate
from diagnostics.wording import count
from reports.options import ReportOptions
from reports.progress import Reporter
from train.environment import corrections_path, frames_folder
from train.run import Run

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Opened:
    """A domain before anyone has looked at its images."""

    name: str
    role: str
    source: Source
    corrected: Applied = field(default_factory=Applied)


def in_domain_source(options: ReportOptions, run: Run | None) -> tuple[str | None, str]:
    """(name or None, source) of the in-domain images. Raises InputError when nothing names them."""
    if options.in_domain is not None:
        return options.in_domain
    if run is None or run.folder is None:
        raise InputError(
            "no in-domain images: give --in-domain SOURCE, or --run with a run folder that names its data.yaml"
        )
    return None, run.data_source()


def open_domains(
    options: ReportOptions, run: Run | None, classes: Sequence[str], say: Callable[[str], None]
) -> list[Opened]:
    """The in-domain source as "training" and held-out images, then the real-world sources. Raises InputError."""
    cache = frames_folder()
    name, spec = in_domain_source(options, run)
    mapping = dict(options.class_map)
    given: dict[str, Any] = {"cache": cache, "group_by": options.group_by, "allow": options.allow, "say": say}
    # What the run says itself that it was trained on is opened as it was for that.
    in_domain = open_training if options.in_domain is None else open_source
    source = in_domain(spec, classes=classes, **given)
    spoken = set(source.classes)
    source = with_classes(source, classes, mapping)
    # Without a model, the in-domain source says what the classes are and in which order.
    classes = classes or source.classes
    taken = {"training"}
    in_domain_name = unique(name or "in-domain", taken)
    opened = []
    training = source.images["split"] == "train"
    held_out = source.images["split"].isin(["val", "test"])
    if not held_out.any():
        if training.any():
            raise InputError(
                f"{spec}: holds training images only; in-domain scores need held-out ones: add 'val:' to the data.yaml, or a folder val/"
            )
        held_out = ~training
    if training.any():
        opened.append(Opened("training", "training", source.keep(training)))
    opened.append(Opened(in_domain_name, "in_domain", source.keep(held_out)))
    for name, real in options.real_world:
        real_world = open_source(real, classes=classes, **given)
        spoken |= set(real_world.classes)
        real_world = with_classes(real_world, classes, mapping)
        opened.append(Opened(unique(name or name_of(real), taken), "real_world", real_world))
    unheard = sorted(set(mapping) - spoken)
    if unheard:
        raise InputError(
            f"--class-map {unheard[0]}=...: no source has this class; they have {', '.join(sorted(spoken)) or 'none'}"
        )
    return opened


def with_corrections(opened: Sequence[Opened], classes: Sequence[str], reporter: Reporter) -> list[Opened]:
    """Put labels and tags that were read back from the App in the place of the sources' own. Raises InputError when their file is broken."""
    corrections = read_corrections(corrections_path())
    result = []
    for o in opened:
        source, done = apply(o.source, corrections, classes)
        result.append(replace(o, source=source, corrected=done))
        for line in correction_lines(done):
            reporter.say(f"  {o.name}: {line}")
    return result


def correction_lines(done: Applied) -> list[str]:
    """What became of corrections, in words."""
    said = []
    if done.labels:
        said.append(f"labels of {count(done.labels, 'image')} as corrected in the App")
    if done.tagged:
        said.append(f"{count(done.tagged, 'image')} tagged in the App")
    if done.stale:
        said.append(
            f"{count(done.stale, 'image')} corrected in the App, whose labels have changed on disk since: as on disk"
        )
    if done.foreign:
        said.append(
            f"{count(done.foreign, 'image')} labelled in the App with unknown classes only: unlabelled, as before"
        )
    if done.unknown:
        said.append(f"corrected boxes of unknown classes are left out: {', '.join(done.unknown)}")
    return said


def with_attributes(opened: list[Opened], specs: Sequence[str], reporter: Reporter) -> list[Opened]:
    """Join what people know about their images. Raises InputError when a file names no image of any domain."""
    for spec in specs:
        kind, _, rest = spec.partition(":")
        if kind == "fiftyone":
            from reports.workbench.dataset import attributes_of

            attributes = attributes_of(rest)
        else:
            attributes = read_attributes(Path(spec))
        joined, total = [], 0
        for o in opened:
            images, count = join(o.source.images, attributes, o.source.image_ids)
            joined.append(replace(o, source=replace(o.source, images=images)))
            total += count
        if not total:
            raise InputError(
                f"{spec}: names no image of any domain, first {attributes.table['key'].head(3).tolist()}; use file names, stems or paths"
            )
        reporter.say(f"  {spec}: attributes of {total} images")
        opened = joined
    return opened


def summary(opened: Opened) -> str:
    """One line about a source before looking at its images."""
    images = opened.source.images
    labelled = int(images["labelled"].sum())
    skipped = int((opened.source.ledger["bucket"] != "used").sum())
    words = f"{len(images)} images, {labelled} labelled, {len(opened.source.annotations)} objects, {images['group'].nunique()} clips"
    return words + (f", {skipped} files not used (see ledger.csv)" if skipped else "")


def full_ledger(opened: Sequence[Opened], failures: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Every file once per source: path, bucket, reason, domain. An image that failed to decode moves from used to failed."""
    failed = (
        pd.concat([f for f in failures if len(f)], ignore_index=True)
        if any(map(len, failures))
        else pd.DataFrame(columns=["path", "reason"])
    )
    reasons = dict(zip(failed["path"], failed["reason"], strict=True))
    parts = []
    for name, source in {o.source.spec: o.source for o in opened}.items():
        part = source.ledger.copy()
        broken = part["path"].isin(list(reasons))
        part.loc[broken, "bucket"] = "failed"
        part.loc[broken, "reason"] = part.loc[broken, "path"].map(reasons)
        parts.append(part.assign(source=name))
    return concatenate(parts, {**LEDGER_COLUMNS, "source": "str"})


def all_rows(opened: Sequence[Opened]) -> pd.DataFrame:
    """Label rows of all sources that were not taken as written."""
    unique_sources = {o.source.spec: o.source for o in opened}
    return concatenate([source.rows for source in unique_sources.values()], ROW_COLUMNS)
