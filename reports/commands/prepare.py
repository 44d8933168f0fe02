"""`shiftscope prepare`: a source, a detector's drafts where one is given, and what became of it all in a few lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets.classes import with_classes
from datasets.corrections import read_corrections
from datasets.errors import EnvironmentProblem, InputError
from datasets.naming import name_of
from datasets.source import find, open_source, parts_of
from datasets.tables import Source
from diagnostics.wording import count, fraction
from reports.options import ReportOptions
from reports.pipeline.inference import load_detector
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
    Prepared,
    draftable,
    prepare,
)
from train.run import open_weights

# Reasons for leaving files out that are said one by one.
MAX_REASONS = 5


@dataclass(frozen=True)
class PrepareOptions:
    """What `shiftscope prepare` was asked for. copies, min_side, max_share: see `train.preparation.prepare`. recipe: a yaml, None for ours. weights: a detector whose boxes at or
    above conf become draft labels, None for no drafts; imgsz, device: how it looks.
    """

    source: str
    folder: Path
    copies: int = 0
    recipe: Path | None = None
    min_side: float = 1.0
    max_share: float = 1.0
    weights: Path | None = None
    conf: float = 0.25
    imgsz: int | None = None
    device: str | None = None
    classes: tuple[str, ...] = ()
    group_by: str | None = None
    allow: tuple[Path, ...] = ()
    trust: bool = False
    corrections: bool = True
    fiftyone: bool = True
    seed: int = 0


def prepare_dataset(options: PrepareOptions, reporter: Reporter) -> dict[str, Any]:
    """Write the dataset and say what became of everything; returns the same as JSON values. Raises InputError."""
    if options.recipe is not None and not options.copies:
        raise InputError(f"--recipe {options.recipe}: says how copies are changed; add --copies N")
    if options.folder.exists():
        raise InputError(f"{options.folder}: exists already; give a new folder with --out")
    for part in parts_of(options.source):
        place, _ = find(part, reporter.say)
        # A description's dataset lies around it; what lies around a video or an image is anything.
        described = place.suffix.lower() in {".yaml", ".yml", ".json", ".txt"}
        root = place.parent if described else place
        ours = options.folder.resolve().is_relative_to(runs_folder().resolve())
        if options.folder.resolve().is_relative_to(root) and not ours:
            raise InputError(
                f"{options.folder}: lies inside the source {part}, which stays as it is; give another folder with --out"
            )
    recipe = None
    if options.copies:
        from train.augmentation import DEFAULT, read_recipe

        recipe = read_recipe(options.recipe or DEFAULT)
    detector_options = ReportOptions(weights=options.weights, device=options.device, trust=options.trust)
    detector = load_detector(options.weights, detector_options) if options.weights is not None else None
    classes = options.classes or (detector.classes if detector else ())
    source = open_source(
        options.source,
        cache=frames_folder(),
        classes=classes,
        group_by=options.group_by,
        allow=options.allow,
        say=reporter.say,
    )
    # Videos and bare folders name none: theirs are those that were asked for.
    source = source if source.classes else replace(source, classes=tuple(classes))
    reviewed: frozenset[str] = frozenset()
    if options.corrections:
        known = read_corrections(corrections_path())
        reviewed = frozenset(source.images.loc[source.images["path"].isin(list(known)), "image"])
        opened = with_corrections(
            [Opened(name_of(options.source), "training", source)], source.classes, reporter
        )
        source = opened[0].source
    drafts = None
    if detector is not None and options.weights is not None:
        source = with_classes(source, detector.classes, {})
        images = draftable(source)
        run = open_weights(options.weights, None)
        settings = Settings(imgsz=options.imgsz or detector.imgsz)
        with reporter.stage(
            "predict", f"Looking at {count(len(images), 'unlabelled image')}", len(images)
        ) as tick:
            store = Store(predict_folder(settings, run.sha256))
            found = detector.predict(images, settings, store, tick=tick, embed_detections=False).detections
        drafts = found[found["confidence"] >= options.conf].reset_index(drop=True)
    with reporter.stage("prepare", f"Writing {options.folder}", len(source.images)) as tick:
        prepared = prepare(
            source,
            options.folder,
            drafts=drafts,
            reviewed=reviewed,
            copies=options.copies,
            recipe=recipe,
            min_side=options.min_side,
            max_share=options.max_share,
            seed=options.seed,
            tick=tick,
        )
    result = record(prepared, source)
    result["review"] = review(prepared, options, reporter) if options.fiftyone else None
    for line in lines(result, options):
        reporter.say(line)
    return result


def review(prepared: Prepared, options: PrepareOptions, reporter: Reporter) -> str | None:
    """The FiftyOne dataset in which drafts can be looked through, None where there are none or no database; the dataset on disk is complete without."""
    drafts = prepared.ledger[prepared.ledger["action"] == DRAFT]
    if drafts.empty:
        return None
    from reports.workbench.review import publish_review

    source = open_source(str(prepared.data_yaml), cache=frames_folder())
    places = {
        str(prepared.data_yaml.parent / file): float(sure)
        for file, sure in zip(drafts["file"], drafts["confidence"].fillna(0.0), strict=True)
    }
    least = {
        image: places[path]
        for image, path in zip(source.images["image"], source.images["path"], strict=True)
        if path in places
    }
    try:
        return publish_review(prepared.data_yaml.parent, source, least)
    except EnvironmentProblem as problem:
        reporter.say(f"  no FiftyOne dataset: {problem}")
    except Exception as error:  # whatever FiftyOne raises: the dataset on disk is written
        reporter.say(f"  no FiftyOne dataset: internal error ({type(error).__name__}: {error})")
    return None


def record(prepared: Prepared, source: Source) -> dict[str, Any]:
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
    """The same in words."""
    said = []
    for split, number in result["splits"].items():
        kept = number["images"] - number["drafts"]
        words = [f"{count(kept, 'image')} kept"]
        words += [f"{count(number['drafts'], 'image')} with drafts"] * (number["drafts"] > 0)
        words += [f"{count(number['copies'], 'changed copy', 'changed copies')}"] * (number["copies"] > 0)
        said.append(f"  {split}: {', '.join(words)}; {count(number['annotations'], 'object')}")
    rows = result["rows"]
    if any(rows.values()):
        said.append(
            f"  labels: {count(rows['rejected'], 'row')} rejected, {rows['repaired']:,} repaired, {count(rows['removed'], 'box', 'boxes')} taken out; each in {ROWS}"
        )
    if result["left_out"]:
        said.append(f"  left out: {count(result['left_out'], 'file')}; each in {LEDGER}")
        said += [
            f"    {r['files']:,}: {r['reason']}, first: {r['first']}" for r in result["reasons"][:MAX_REASONS]
        ]
        if len(result["reasons"]) > MAX_REASONS:
            said.append(f"    and {len(result['reasons']) - MAX_REASONS} more reasons")
    if result["unnamed"]:
        said.append(
            f"  {count(result['unnamed'], 'image')} in no split: to that of their clip, else to train"
        )
    missing = [split for split in ("train", "val") if split not in result["splits"]]
    if missing:
        said.append(f"  no image for {' and '.join(missing)}: training needs train and val")
    drafts = sum(number["drafts"] for number in result["splits"].values())
    if drafts:
        by = (
            f" by {options.weights} at confidence {fraction(options.conf)} and above"
            if options.weights
            else ""
        )
        said += [
            f"  DRAFT labels in {count(drafts, 'image')}{by}: a detector's guesses, its misses and false positives included.",
            f"  Look through them before training: in {LEDGER} they are the rows of action '{DRAFT}', with the confidence of their least sure box.",
        ]
        if result["review"]:
            said.append(
                f"  In FiftyOne: shiftscope app {result['review']}, mend them in the Annotate tab, then shiftscope app {result['review']} --pull; training and 'prepare' use them from then on."
            )
        else:
            said.append(
                "  Mend the file of the same name below labels/train, and delete image and label file where it is of no use."
            )
    return said
