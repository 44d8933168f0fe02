"""Opening the sources of a report: its domains before any inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from datasets import capture
from datasets.attributes import join, read_attributes
from datasets.classes import lists_some_of, renumbered, same_but_spelling, with_classes
from datasets.corrections import Applied, apply, read_corrections
from datasets.errors import InputError
from datasets.naming import domain_name, unique_name
from datasets.source import open_source, open_training
from datasets.tables import LEDGER_COLUMNS, OWN, ROW_COLUMNS, Source, concatenate, objects_in
from diagnostics.wording import count
from reports.options import NamedSource, ReportOptions
from reports.progress import Reporter
from train.environment import corrections_path, frames_folder
from train.run import Run

# Reasons for which label rows are rejected, named in one line.
# Rejected label rows are named from this share on: a stray row in thousands is in the ledger.
LEAST_REJECTED = 0.01
MOST_REASONS = 5


@dataclass(frozen=True)
class Opened:
    """A domain before inference.

    name: the domain's name
    role: "training", "in_domain" or "real_world"
    source: its tables and ledger
    corrected: what became of corrections made in the App
    """

    name: str
    role: str
    source: Source
    corrected: Applied = field(default_factory=Applied)


def in_domain_source(options: ReportOptions, run: Run | None) -> NamedSource:
    """The in-domain source: the given one, or the run's own data.yaml. Raises InputError when nothing names
    one.
    """
    if options.in_domain is not None:
        return options.in_domain
    if run is None or run.folder is None:
        raise InputError(
            "no in-domain images: give --in-domain SOURCE, or --run with a run folder that names its "
            "data.yaml"
        )
    return None, run.data_source()


def open_domains(
    options: ReportOptions,
    run: Run | None,
    classes: Sequence[str],
    say: Callable[[str], None],
    *,
    shapes: str = "",
) -> list[Opened]:
    """Open the in-domain source, as training and held-out images, and the real-world sources.

    Parameters
    ----------
    options : ReportOptions
        Which sources, and how their classes and groups are read.
    run : Run or None
        The run whose data.yaml is the in-domain source unless one is given.
    classes : sequence of str
        The detector's classes; empty without a detector: then the in-domain source's own.
    say : callable
        Called with one line per remark.
    shapes : str
        Which shapes of objects to keep, see `open_source`.

    Raises
    ------
    InputError
        A source cannot be opened, or has no held-out images.
    """
    arguments: dict[str, Any] = {
        "cache": frames_folder(),
        "group_by": options.group_by,
        "allow": options.allow_root,
        "say": say,
        "shapes": shapes,
    }
    name, spec = in_domain_source(options, run)
    # A run's own data.yaml is opened as it was for training.
    open_it = open_training if options.in_domain is None else open_source
    for remark in run.remarks if run is not None else ():
        say(f"  {remark}")
    source = open_it(spec, classes=classes, **arguments)
    class_map = dict(options.class_map)
    source_classes = set(source.classes)
    _say_unusable(source, name or "in-domain", say)
    _say_classes(source, name or "in-domain", classes, say)
    source = _as_trained(with_classes(_as_one_class(source, classes, run, say), classes, class_map), run, say)
    classes = classes or source.classes
    names = {"training"}
    opened = _split_training(source, spec, unique_name(name or "in-domain", names))
    for name, spec in options.real_world:
        source = open_source(spec, classes=classes, **arguments)
        source_classes |= set(source.classes)
        _say_unusable(source, name or domain_name(spec), say)
        _say_classes(source, name or domain_name(spec), classes, say)
        source = with_classes(_as_one_class(source, classes, run, say), classes, class_map)
        source = _of_classes(source, run, say)
        opened.append(Opened(unique_name(name or domain_name(spec), names), "real_world", source))
    _say_same_files(opened, say)
    unknown = sorted(set(class_map) - source_classes)
    if unknown:
        raise InputError(
            f"--class-map {unknown[0]}=...: no source has this class; they have "
            f"{', '.join(sorted(source_classes)) or 'none'}"
        )
    return opened


def _say_same_files(opened: Sequence[Opened], say: Callable[[str], None]) -> None:
    """Say which real-world domains hold the same files: they are one, and count twice."""
    seen: dict[frozenset[str], str] = {}
    for domain in opened:
        if domain.role != "real_world" or domain.source.images.empty:
            continue
        first = seen.setdefault(frozenset(domain.source.images["path"]), domain.name)
        if first != domain.name:
            say(f"  {domain.name} holds the same files as {first}: one source was given twice")


def _as_one_class(
    source: Source, classes: Sequence[str], run: Run | None, say: Callable[[str], None]
) -> Source:
    """A source whose classes are all the model's only one, where the run was trained with single_cls."""
    if run is None or not run.is_single_class or len(classes) != 1 or source.classes in ((), tuple(classes)):
        return source
    say(
        f"  {domain_name(source.spec)}: args.yaml has single_cls; its "
        f"{count(len(source.classes), 'class', 'classes')} are {classes[0]}"
    )
    return renumbered(source, tuple(classes), [0] * len(source.classes))


def _of_classes(source: Source, run: Run | None, say: Callable[[str], None]) -> Source:
    """A source without annotations of classes that the run was not trained on (args.yaml, classes)."""
    if run is None or not run.class_numbers or not source.classes:
        return source
    kept = source.annotations["label"].isin(run.class_numbers)
    left_out = sorted({source.classes[label] for label in source.annotations.loc[~kept, "label"]})
    if left_out:
        say(
            f"  {domain_name(source.spec)}: args.yaml has classes: {list(run.class_numbers)}; "
            f"{count(int((~kept).sum()), 'annotation')} of {', '.join(left_out)} left out"
        )
    return replace(source, annotations=source.annotations[kept].reset_index(drop=True))


def _as_trained(source: Source, run: Run | None, say: Callable[[str], None]) -> Source:
    """The in-domain source with the classes and the training images that the run was trained on."""
    source = _of_classes(source, run, say)
    if run is None:
        return source
    training = source.images[source.images["split"] == "train"]
    # Ultralytics takes the first by path; Shiftscope's own trainings number the labelled images as they come.
    own = bool(run.lineage.get("source"))
    training = training[training["labelled"]] if own else training.sort_values("path")
    used = training.iloc[: run.trained_images(len(training))]
    if len(used) == len(training):
        return source
    say(
        f"  {domain_name(source.spec)}: args.yaml has fraction: {run.arguments['fraction']}; {len(used):,} "
        f"of {count(len(training), 'training image')} were trained on"
    )
    unused = (source.images["split"] == "train") & ~source.images["image"].isin(used["image"])
    return source.keep(~unused)


def _split_training(source: Source, spec: str, name: str) -> list[Opened]:
    """The in-domain source as training images, where it has any, and held-out ones. Raises InputError without
    held-out ones.
    """
    training = source.images["split"] == "train"
    held_out = source.images["split"].isin(["val", "test"])
    if not held_out.any():
        if training.any() and source.trained_on:
            # The report says what such scores are: every in-domain image is a copy of a training image.
            parts = [Opened("training", "training", source.keep(training))]
            return [*parts, Opened(name, "in_domain", source.keep(training))]
        if training.any():
            raise InputError(
                f"{spec}: holds training images only; in-domain scores need held-out ones: "
                "add 'val:' to the data.yaml, or a folder val/"
            )
        held_out = ~training
    parts = [Opened("training", "training", source.keep(training))] if training.any() else []
    return [*parts, Opened(name, "in_domain", source.keep(held_out))]


def with_corrections(opened: Sequence[Opened], classes: Sequence[str], reporter: Reporter) -> list[Opened]:
    """Replace labels and add tags that were read back from the App. Raises InputError when their file is
    broken.
    """
    corrections = read_corrections(corrections_path())
    corrected = []
    for domain in opened:
        source, applied = apply(domain.source, corrections, classes)
        corrected.append(replace(domain, source=source, corrected=applied))
        for line in correction_lines(applied):
            reporter.say(f"  {domain.name}: {line}")
    return corrected


def correction_lines(applied: Applied) -> list[str]:
    """What became of corrections, one line each."""
    lines = []
    if applied.labels:
        lines.append(f"labels of {count(applied.labels, 'image')} as corrected in the App")
    if applied.tagged:
        lines.append(f"{count(applied.tagged, 'image')} tagged in the App")
    if applied.stale:
        images = count(applied.stale, "image")
        lines.append(
            f"{images} corrected in the App, with labels changed on disk since: the labels on disk are used"
        )
    if applied.foreign:
        images = count(applied.foreign, "image")
        lines.append(f"{images} labelled in the App with unknown classes only: still unlabelled")
    if applied.unknown:
        lines.append(f"corrected boxes of unknown classes are left out: {', '.join(applied.unknown)}")
    return lines


def unusable_labels(source: Source) -> str:
    """How many images have labels of which no row can be used, and why, in one line; empty without any."""
    images = int(source.images["unusable"].sum())
    if not images:
        return ""
    # Rows of other label files were rejected too; their images have other rows.
    failed = source.ledger.loc[source.ledger["bucket"] == "failed", "path"]
    rows = source.rows[source.rows["path"].isin(failed) & (source.rows["action"] == "rejected")]
    reasons = "; ".join(
        f"{reason} ({count(int(number), 'row')})"
        for reason, number in rows["reason"].value_counts().head(MOST_REASONS).items()
    )
    why = f": {reasons}" if reasons else ""
    return (
        f"no label row of {count(images, 'image')} can be used{why}; they count as unlabelled, not as empty"
    )


def _rejected_rows(source: Source) -> str:
    """How many label rows of images that are used were rejected, and why, in one line; empty where hardly any
    was.
    """
    failed = source.ledger.loc[source.ledger["bucket"] == "failed", "path"]
    rows = source.rows[(source.rows["action"] == "rejected") & ~source.rows["path"].isin(failed)]
    total = len(rows) + len(source.annotations)
    if len(rows) < LEAST_REJECTED * total or rows.empty:
        return ""
    reasons = "; ".join(
        f"{reason} ({count(int(number), 'row')})"
        for reason, number in rows["reason"].value_counts().head(MOST_REASONS).items()
    )
    return f"{len(rows):,} of {total:,} label rows are not used: {reasons}"


def _say_classes(source: Source, name: str, classes: Sequence[str], say: Callable[[str], None]) -> None:
    """Say what was assumed about the classes of a source."""
    spelling = same_but_spelling(source, classes)
    if spelling:
        pairs = ", ".join(f"{theirs} is {ours}" for theirs, ours in spelling.items())
        say(f"  {name}: class names differ in spelling only: {pairs}")
    if lists_some_of(source, classes):
        names = ", ".join(source.classes[:MOST_REASONS])
        more = f" and {len(source.classes) - MOST_REASONS} more" if len(source.classes) > MOST_REASONS else ""
        say(
            f"  {name}: names {len(source.classes)} of the model's {len(classes)} classes, matched by name: "
            f"{names}{more}"
        )
    numbers = sorted(source.annotations["label"].unique().tolist())
    # A folder that names no classes takes the model's.
    if source.unnamed and numbers and len(classes) > 1:
        named = ", ".join(f"{number} is {classes[number]}" for number in numbers[:MOST_REASONS])
        say(f"  {name}: names no classes; its ids are taken as the model's: {named}")


def _say_unusable(source: Source, name: str, say: Callable[[str], None]) -> None:
    """Say which labels of a source cannot be used."""
    for line in (unusable_labels(source), _rejected_rows(source)):
        if line:
            say(f"  {name}: {line}")


def with_attributes(opened: list[Opened], specs: Sequence[str], reporter: Reporter) -> list[Opened]:
    """Add what image files say about how they were taken, then join user attributes. Raises InputError when a
    file names no image of any domain.
    """
    opened = _with_capture(opened, reporter)
    for spec in specs:
        kind, _, dataset = spec.partition(":")
        if kind == "fiftyone":
            from reports.workbench.dataset import attributes_of

            attributes = attributes_of(dataset)
        else:
            attributes = read_attributes(Path(spec))
        joined, total = [], 0
        for domain in opened:
            images, number = join(domain.source.images, attributes, domain.source.image_ids)
            joined.append(replace(domain, source=replace(domain.source, images=images)))
            total += number
        if not total:
            first = attributes.table["key"].head(3).tolist()
            raise InputError(
                f"{spec}: names no image of any domain, first {first}; use file names, stems or paths"
            )
        reporter.say(f"  {spec}: attributes of {total} images")
        opened = joined
    return opened


def _with_capture(opened: list[Opened], reporter: Reporter) -> list[Opened]:
    """The domains with what image files say about how they were taken, where images differ in it."""
    found = [replace(domain, source=capture.with_capture(domain.source)) for domain in opened]
    columns: dict[str, set[Any]] = {}
    for domain in found:
        for name in domain.source.images.columns.intersection(list(capture.NAMES)):
            columns.setdefault(name, set()).update(domain.source.images[name].dropna().unique())
    telling = [name for name, values in columns.items() if len(values) > 1]
    if telling:
        names = ", ".join(name.removeprefix(OWN) for name in telling)
        reporter.say(f"  read from the files, to slice by: {names}")
    same = [name for name in columns if name not in telling]
    return [
        replace(d, source=replace(d.source, images=d.source.images.drop(columns=same, errors="ignore")))
        for d in found
    ]


def summary(opened: Opened) -> str:
    """One line about a domain before inference."""
    images = opened.source.images
    skipped = int((opened.source.ledger["bucket"] != "used").sum())
    line = (
        f"{len(images)} images, {int(images['labelled'].sum())} labelled, "
        f"{objects_in(opened.source.annotations)} annotations, {images['group'].nunique()} clips"
    )
    return line + (f", {skipped} files not used (see ledger.csv)" if skipped else "")


def full_ledger(opened: Sequence[Opened], failures: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Every file once per source: path, bucket, reason, source. An image that failed to decode moves from
    used to failed.
    """
    failed = (
        pd.concat([table for table in failures if len(table)], ignore_index=True)
        if any(map(len, failures))
        else pd.DataFrame(columns=["path", "reason"])
    )
    reasons = dict(zip(failed["path"], failed["reason"], strict=True))
    parts = []
    for spec, source in {domain.source.spec: domain.source for domain in opened}.items():
        ledger = source.ledger.copy()
        broken = ledger["path"].isin(list(reasons))
        ledger.loc[broken, "bucket"] = "failed"
        ledger.loc[broken, "reason"] = ledger.loc[broken, "path"].map(reasons)
        parts.append(ledger.assign(source=spec))
    return concatenate(parts, {**LEDGER_COLUMNS, "source": "str"})


def all_rows(opened: Sequence[Opened]) -> pd.DataFrame:
    """Label rows of all sources that were repaired or rejected."""
    sources = {domain.source.spec: domain.source for domain in opened}
    return concatenate([source.rows for source in sources.values()], ROW_COLUMNS)
