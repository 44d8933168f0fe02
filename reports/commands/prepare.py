"""`shiftscope prepare`: a cleaned dataset from a source, with optional draft labels, and a summary of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.classes import with_classes
from datasets.corrections import read_corrections
from datasets.errors import EnvironmentProblem, InputError
from datasets.naming import domain_name
from datasets.source import locate_with_origin, open_source, split_spec
from datasets.tables import Source
from diagnostics.wording import count, fraction
from reports.options import PrepareOptions
from reports.pipeline.runs import load_detector
from reports.pipeline.sources import Opened, with_corrections
from reports.progress import Reporter
from train.environment import corrections_path, frames_folder, runs_folder
from train.predictions import Settings, Store, predict_folder
from train.preparation import (
    AUGMENTED,
    DRAFT,
    LEDGER,
    LEFT_OUT,
    ROWS,
    SPLITS,
    PreparationSettings,
    Prepared,
    draftable,
    prepare,
)
from train.run import open_weights

if TYPE_CHECKING:
    from train.augmentation import Recipe
    from train.remembered import AnyDetector

# Reasons for leaving files out that are listed; the rest is counted.
MAX_REASONS = 5


def prepare_dataset(options: PrepareOptions, reporter: Reporter) -> dict[str, Any]:
    """Write a cleaned dataset and report what it contains.

    Parameters
    ----------
    options
        The request.
    reporter
        Progress and messages.

    Returns
    -------
    dict
        Counts of what was written and left out, as JSON values.

    Raises
    ------
    InputError
        The source, recipe or checkpoint is unusable, or the folder exists or lies inside the source.
    """
    _check_request(options, reporter)
    recipe = _open_recipe(options)
    detector = None
    if options.weights is not None:
        detector = load_detector(options.weights, device=options.device, trust=options.trust_checkpoint)
    source = _open_source(options, detector.classes if detector else (), reporter)
    reviewed: frozenset[str] = frozenset()
    if options.corrections:
        source, reviewed = _correct(source, options.source, reporter)
    drafts = None
    if detector is not None:
        source = with_classes(source, detector.classes, {})
        drafts = _predict_drafts(detector, source, options, reporter)
    settings = PreparationSettings(options.copies, recipe, options.min_side, options.max_share, options.seed)
    with reporter.stage("prepare", f"Writing {_folder_of(options)}", len(source.images)) as tick:
        prepared = prepare(
            source,
            _folder_of(options),
            settings,
            drafts=drafts,
            reviewed=reviewed,
            tick=tick,
        )
    result = summarize(prepared, source)
    result["review"] = _publish_drafts(prepared, reporter) if options.fiftyone else None
    for line in lines(result, options):
        reporter.say(line)
    return result


def _folder_of(options: PrepareOptions) -> Path:
    """The folder to write: --out, or one in runs/prepare named after the source."""
    default = runs_folder() / "prepare" / domain_name(options.source)[:80]
    return (options.out or default).absolute()


def _check_request(options: PrepareOptions, reporter: Reporter) -> None:
    """Raise InputError if options are contradictory, or the folder exists or lies inside the source."""
    if options.recipe is not None and not options.copies:
        raise InputError(f"--recipe {options.recipe}: describes augmented copies; add --copies N")
    folder = _folder_of(options)
    if folder.exists():
        raise InputError(f"{folder}: exists already; give a new folder with --out")
    for part in split_spec(options.source):
        path, _ = locate_with_origin(part, reporter.say)
        # A description belongs to the dataset in its folder; a video or an image is the source by itself.
        is_description = path.suffix.lower() in {".yaml", ".yml", ".json", ".txt"}
        root = path.parent if is_description else path
        in_runs = folder.resolve().is_relative_to(runs_folder().resolve())
        if folder.resolve().is_relative_to(root) and not in_runs:
            raise InputError(
                f"{folder}: lies inside the source {part}, which is only read; give another folder with --out"
            )


def _open_recipe(options: PrepareOptions) -> Recipe | None:
    """The augmentation recipe, None if no copies are requested. Raises InputError."""
    if not options.copies:
        return None
    # PyTorch takes seconds to import, and only copies need it.
    from train.augmentation import DEFAULT, read_recipe

    return read_recipe(options.recipe or DEFAULT)


def _open_source(options: PrepareOptions, detector_classes: Sequence[str], reporter: Reporter) -> Source:
    """Open the source. Raises InputError."""
    classes = options.names or detector_classes
    source = open_source(
        options.source,
        cache=frames_folder(),
        classes=classes,
        group_by=options.group_by,
        allow=options.allow_root,
        say=reporter.say,
    )
    # Videos and folders of images name no classes.
    return source if source.classes else replace(source, classes=tuple(classes))


def _correct(source: Source, spec: str, reporter: Reporter) -> tuple[Source, frozenset[str]]:
    """The source with labels and tags from the App, and the images that were reviewed there."""
    corrections = read_corrections(corrections_path())
    reviewed = frozenset(source.images.loc[source.images["path"].isin(list(corrections)), "image"])
    opened = [Opened(domain_name(spec), "training", source)]
    return with_corrections(opened, source.classes, reporter)[0].source, reviewed


def _predict_drafts(
    detector: AnyDetector, source: Source, options: PrepareOptions, reporter: Reporter
) -> pd.DataFrame:
    """Detections in the unlabelled training images, from the requested confidence up."""
    assert options.weights is not None
    images = draftable(source)
    settings = Settings(imgsz=options.imgsz or detector.imgsz)
    title = f"Predicting {count(len(images), 'unlabelled image')}"
    with reporter.stage("predict", title, len(images)) as tick:
        store = Store(predict_folder(settings, open_weights(options.weights, None).sha256))
        detections = detector.predict(images, settings, store, tick=tick, embed_detections=False).detections
    return detections[detections["confidence"] >= options.conf].reset_index(drop=True)


def _publish_drafts(prepared: Prepared, reporter: Reporter) -> str | None:
    """Publish the drafts for review as a FiftyOne dataset; returns its name, None if there is none.

    A failure is reported as a message, since the dataset on disk is complete without it.
    """
    drafts = prepared.ledger[prepared.ledger["action"] == DRAFT]
    if drafts.empty:
        return None
    from reports.workbench.drafts import publish_drafts

    source = open_source(str(prepared.data_yaml), cache=frames_folder())
    confidence_of = {
        str(prepared.data_yaml.parent / file): float(confidence)
        for file, confidence in zip(drafts["file"], drafts["confidence"].fillna(0.0), strict=True)
    }
    lowest = {
        image: confidence_of[path]
        for image, path in zip(source.images["image"], source.images["path"], strict=True)
        if path in confidence_of
    }
    try:
        return publish_drafts(prepared.data_yaml.parent, source, lowest)
    except EnvironmentProblem as problem:
        reporter.say(f"  no FiftyOne dataset: {problem}")
    except Exception as error:  # FiftyOne may raise anything, and the dataset on disk is written
        reporter.say(f"  no FiftyOne dataset: internal error ({type(error).__name__}: {error})")
    return None


def summarize(prepared: Prepared, source: Source) -> dict[str, Any]:
    """Counts of what was written and left out, as JSON values."""
    ledger, rows = prepared.ledger, prepared.rows
    written = ledger[ledger["file"] != ""]
    left_out = ledger[ledger["action"] == LEFT_OUT]
    splits = {
        split: {
            "images": int((part["action"] != AUGMENTED).sum()),
            "drafts": int((part["action"] == DRAFT).sum()),
            "copies": int((part["action"] == AUGMENTED).sum()),
            "annotations": int(part["boxes"].sum()),
        }
        for split in SPLITS
        if len(part := written[written["split"] == split])
    }
    reasons = left_out.groupby("reason", sort=False).agg(files=("path", "size"), first=("path", "first"))
    return {
        "data": str(prepared.data_yaml),
        "source": source.spec,
        "classes": list(source.classes),
        "splits": splits,
        "unnamed": int((source.images["split"] == "").sum()),
        "left_out": len(left_out),
        "reasons": reasons.reset_index()
        .sort_values("files", ascending=False, kind="stable")
        .to_dict("records"),
        "rows": {
            action: int((rows["action"] == action).sum()) for action in ("rejected", "repaired", "removed")
        },
    }


def lines(result: dict[str, Any], options: PrepareOptions) -> list[str]:
    """The result as lines of text."""
    output = [_split_line(split, counts) for split, counts in result["splits"].items()]
    rows = result["rows"]
    if any(rows.values()):
        output.append(
            f"  labels: {count(rows['rejected'], 'row')} rejected, {rows['repaired']:,} repaired, "
            f"{count(rows['removed'], 'box', 'boxes')} removed; each listed in {ROWS}"
        )
    if result["left_out"]:
        output.append(f"  left out: {count(result['left_out'], 'file')}; each listed in {LEDGER}")
        reasons = result["reasons"]
        output += [f"    {r['files']:,}: {r['reason']}, first: {r['first']}" for r in reasons[:MAX_REASONS]]
        if len(reasons) > MAX_REASONS:
            output.append(f"    and {len(reasons) - MAX_REASONS} more reasons")
    if result["unnamed"]:
        output.append(
            f"  {count(result['unnamed'], 'image')} without a split: "
            "assigned to the split of their clip, else to train"
        )
    missing = [split for split in ("train", "val") if split not in result["splits"]]
    if missing:
        output.append(f"  no image for {' and '.join(missing)}: training needs train and val")
    return output + _draft_lines(result, options)


def _split_line(split: str, counts: dict[str, int]) -> str:
    """What a split contains."""
    parts = [f"{count(counts['images'] - counts['drafts'], 'image')} kept"]
    parts += [f"{count(counts['drafts'], 'image')} with drafts"] * (counts["drafts"] > 0)
    parts += [f"{count(counts['copies'], 'augmented copy', 'augmented copies')}"] * (counts["copies"] > 0)
    return f"  {split}: {', '.join(parts)}; {count(counts['annotations'], 'annotation')}"


def _draft_lines(result: dict[str, Any], options: PrepareOptions) -> list[str]:
    """How to review draft labels; nothing without any."""
    drafts = sum(counts["drafts"] for counts in result["splits"].values())
    if not drafts:
        return []
    detector = ""
    if options.weights:
        detector = f" from {options.weights} at confidence {fraction(options.conf)} and above"
    output = [
        f"  DRAFT labels in {count(drafts, 'image')}{detector}: unreviewed detections, "
        "with false positives and missed objects.",
        f"  Review them before training: {LEDGER} lists them with action '{DRAFT}' and the lowest confidence "
        "of their boxes.",
    ]
    if result["review"]:
        app = f"shiftscope app {result['review']}"
        output.append(
            f"  In FiftyOne: {app}, correct them in the Annotate tab, then {app} --pull; "
            "training and 'prepare' use the corrections from then on."
        )
    else:
        output.append(
            "  Correct the file of the same name below labels/train; "
            "delete both image and label file if the image is of no use."
        )
    return output
