"""Opening a source by its specification: the one place that decides what kind of source a path is."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from datasets import archives, buckets, coco, groups, kaggle, video, voc, yolo
from datasets.collector import KEEP_SHAPES, VIDEO, Collector, is_output
from datasets.containment import OPTION, Bounds, expanded
from datasets.data_yaml import NAMES, parse_yaml, path_exists
from datasets.errors import InputError
from datasets.files import write_text
from datasets.formats import registry
from datasets.formats.described import open_described
from datasets.merging import WITH_LABEL_FILES, class_leader, merge
from datasets.orthophotos import cut_large_images
from datasets.pairing import SPLITS, dataset_root, label_folders, split_of
from datasets.pixels import SUFFIXES
from datasets.tables import (
    BURST_COLUMNS,
    IMAGE_COLUMNS,
    LEDGER_COLUMNS,
    Source,
    concatenate,
    frame,
)

KINDS = (
    "a data.yaml, a folder of images or videos, a list of images (.txt), a video, a COCO json, "
    "a folder with labels of another tool (docs/sources.md), an archive (.zip), kaggle:owner/dataset or "
    "s3://bucket/folder"
)
# Archives and exports put a data.yaml or COCO file at most DATA_YAML_DEPTH folders down; label files are
# searched down to DEPTH.
DATA_YAML_DEPTH, DEPTH = 3, 16
# Keys in the first SNIFFED bytes of a COCO file; other tools also write an annotations.json.
COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
SNIFFED = 1 << 16
# Folders that Ultralytics' predict and track write into runs/TASK.
_DRAWN_BY_ULTRALYTICS, _TASKS = (
    re.compile(r"^(predict|track)\d*$"),
    frozenset({"detect", "segment", "pose", "obb"}),
)
NO_BOXES = "a COCO file without the lists of boxes (captions, image infos)"


def _ignore_line(line: str) -> None:
    """Ignore a progress line."""


def open_source(
    spec: str,
    *,
    cache: Path,
    classes: Sequence[str] = (),
    group_by: str | None = None,
    allow: Sequence[Path] = (),
    say: Callable[[str], None] = _ignore_line,
    frames: bool = True,
    shapes: str = "",
) -> Source:  # more than six parameters: the entry point to every reader, and callers set one or two
    """Open a source of any of the `KINDS`; several, separated by commas, are merged into one.

    Parameters
    ----------
    spec
        The specification.
    cache
        Shiftscope's own folder, which keeps the frames of videos.
    classes
        The model's class names, for sources that name none.
    group_by
        A regular expression, see `groups.assign`.
    allow
        Folders outside the source that its lists, yaml and links may lead to.
    say
        Receives a line before each step that takes long.
    frames
        Whether to sample frames of videos; otherwise videos only enter the ledger.
    shapes
        Which shapes of objects to keep, "masks" or "key points"; "" for none. See `datasets.shapes`.

    Returns
    -------
    Source
        Its tables; at least one image, unless only videos were left unsampled.

    Raises
    ------
    InputError
        If it does not exist, is of no known kind, or has no usable image.
    """
    parts = split_spec(spec)
    if len(parts) > 1:
        opened = [
            open_source(
                part,
                cache=cache,
                classes=classes,
                group_by=group_by,
                allow=allow,
                say=say,
                frames=frames,
                shapes=shapes,
            )
            for part in parts
        ]
        return merge(spec, opened)
    path, origin = locate_with_origin(spec, say)
    bounds = _bounds_of(path, allow)
    if path.suffix.lower() in video.SUFFIXES and not path.is_dir() and not frames:
        return video.without_frames(spec, path)
    token = KEEP_SHAPES.set(shapes)
    try:
        source = _dispatch(spec, path, cache, classes, bounds, say)
    finally:
        KEEP_SHAPES.reset(token)
    source = replace(source, origin=origin or source.origin)
    if len(source.images) and (source.kind != "video" or group_by is not None):
        source = _with_groups(source, group_by)
    if source.kind in {"folder", "voc", "labels"} and frames:
        source = _with_videos(spec, source, cache, say)
    source = cut_large_images(source, cache, say, keep_groups=group_by is not None)
    if source.images.empty and (frames or not (source.ledger["reason"] == VIDEO).any()):
        if path.is_dir() and not any(path.iterdir()):
            raise InputError(f"{spec}: the folder is empty; give {KINDS}")
        raise InputError(f"{spec}: no usable image found{_first_unused(source.ledger)}; give {KINDS}")
    return source


def _with_groups(source: Source, pattern: str | None) -> Source:
    """A source whose images are assigned to groups, see `groups.assign`."""
    assigned, sentence = groups.assign(source.images["path"], pattern, source.classes)
    return replace(source, images=source.images.assign(group=assigned.astype("str")), grouping=sentence)


def _bounds_of(path: Path, allow: Sequence[Path]) -> Bounds:
    """What a source may read; raises InputError if an allowed folder does not exist."""
    for root in allow:
        if not root.is_dir():
            raise InputError(f"{OPTION} {root}: no such folder")
    return Bounds.of([*_roots_of(path), *allow])


def _first_unused(ledger: pd.DataFrame) -> str:
    """Count and first of the failed files, or of the skipped ones if none failed, in words."""
    unused = ledger[ledger["bucket"] != "used"]
    failed = unused[unused["bucket"] == "failed"]
    files = failed if len(failed) else unused
    if files.empty:
        return ""
    path, bucket, reason = files[["path", "bucket", "reason"]].iloc[0]
    return f"; {len(files)} files {bucket}, first: {path} ({reason})"


def open_training(spec: str, **options: Any) -> Source:
    """Open the training data of a detector: `open_training_parts`, merged; options as for `open_source`."""
    return merge_training_parts(spec, open_training_parts(spec, **options))


def open_training_parts(
    spec: str, *, classes: Sequence[str] = (), say: Callable[[str], None] = _ignore_line, **options: Any
) -> list[Source]:
    """Open each source of a specification, completed so that they can be merged into one dataset.

    Of several sources, one without splits becomes training data, and one without class names takes the
    numbering of another.

    Parameters
    ----------
    spec
        The specification.
    classes
        The model's class names, for sources that name none.
    say
        Receives a line for each source that was completed.
    **options
        Other options of `open_source`.

    Returns
    -------
    list[Source]
        The sources, in order.

    Raises
    ------
    InputError
        As `open_source` does.
    """
    parts = [open_source(part, classes=classes, say=say, **options) for part in split_spec(spec)]
    leader = class_leader(parts)
    if len(parts) == 1 or leader is None:
        return parts
    completed = []
    for part in parts:
        if not part.classes:
            part = open_source(part.spec, classes=leader.classes, **options)
            part = replace(part, classes=leader.classes)
            say(f"  {part.spec}: names no classes; its labels use the numbering of {leader.spec}")
        if (part.images["split"] == "").all():
            part = replace(part, images=part.images.assign(split="train").astype({"split": "str"}))
            say(f"  {part.spec}: names no splits; all its images are training images")
        completed.append(part)
    return completed


def merge_training_parts(spec: str, parts: Sequence[Source]) -> Source:
    """Merge sources into one training set; of kind "yolo" if its label files on disk agree with its tables.

    Raises InputError if their classes differ.
    """
    if len(parts) == 1:
        return parts[0]
    merged = merge(spec, parts)
    as_written = all(part.kind in WITH_LABEL_FILES and part.classes == merged.classes for part in parts)
    return replace(merged, kind="yolo") if as_written else merged


def _roots_of(path: Path) -> list[Path]:
    """Folders that a source may read: its own and those of its labels, or for a json the dataset's folder."""
    if not path.is_dir() and path.suffix.lower() in registry.SUFFIXES - {".txt"}:
        return [coco.coco_root(path)]
    folder = path if path.is_dir() else path.parent
    root = dataset_root(folder)
    return [folder, *(label_folders(root) if root != folder else [])]


def _with_videos(spec: str, folder: Source, cache: Path, say: Callable[[str], None] = _ignore_line) -> Source:
    """A folder's images and its videos, each video as one group; videos that fail enter the ledger."""
    # The ledger has only videos that may be read: no links out of the source, no pipes.
    paths = folder.ledger.loc[folder.ledger["reason"] == VIDEO, "path"].tolist()
    if not paths:
        return folder
    root = Path(os.path.commonpath(folder.ledger["path"].tolist())) if len(folder.ledger) > 1 else Path("/")
    videos, notes = _open_videos(spec, paths, root, cache, say)
    rest = folder.ledger[~folder.ledger["path"].isin(paths)]
    groupings = [folder.grouping] * (len(folder.images) > 0)
    groupings += [f"each of {len(videos)} videos is one group"] * (len(videos) > 0)
    return replace(
        folder,
        kind="video" if folder.images.empty else folder.kind,
        images=concatenate([folder.images, *(part.images for part in videos)], IMAGE_COLUMNS),
        ledger=concatenate(
            [rest, *(part.ledger for part in videos), frame(notes, LEDGER_COLUMNS)], LEDGER_COLUMNS
        ),
        grouping="; ".join(groupings),
        bursts=concatenate([part.bursts for part in videos], BURST_COLUMNS),
    )


def _open_videos(
    spec: str, paths: Sequence[str], root: Path, cache: Path, say: Callable[[str], None]
) -> tuple[list[Source], list[dict[str, object]]]:
    """Open videos, each content once, with splits from folder names; also ledger rows of the others."""
    parts: dict[str, Source] = {}
    notes: list[dict[str, object]] = []
    for path in paths:
        try:
            content = video.fingerprint(Path(path))
        except OSError as error:
            # The ledger escapes the undecodable bytes of a name, so its path does not exist.
            reason = (
                "file name is not valid UTF-8; rename it"
                if "\\x" in path
                else f"cannot be read ({error.strerror})"
            )
            notes.append({"path": path, "bucket": "failed", "reason": reason})
            continue
        if content in parts:
            reason = f"same content as {parts[content].ledger['path'].iloc[0]}"
            notes.append({"path": path, "bucket": "skipped", "reason": reason})
            continue
        try:
            part = video.open_video(spec, Path(path), cache, say)
            split = split_of(Path(path).parent.relative_to(root).parts)
            parts[content] = replace(part, images=part.images.assign(split=split).astype({"split": "str"}))
        except InputError as error:
            notes.append({"path": path, "bucket": "failed", "reason": str(error).removeprefix(f"{path}: ")})
    return _with_distinct_groups(list(parts.values())), notes


def _with_distinct_groups(videos: list[Source]) -> list[Source]:
    """Videos whose groups have different names: if file names repeat, paths below the common folder."""
    paths = [Path(part.ledger["path"].iloc[0]) for part in videos]
    if len({path.stem for path in paths}) == len(paths):
        return videos
    common = os.path.commonpath([path.parent for path in paths])
    return [
        _renamed(part, path.relative_to(common).as_posix()) for part, path in zip(videos, paths, strict=True)
    ]


def _renamed(part: Source, group: str) -> Source:
    """A video whose group, and the prefix of its image ids, is another name."""
    images, bursts = (
        table.assign(group=group, image=group + "#" + table["image"].str.rsplit("#", n=1).str[-1]).astype(
            {"group": "str", "image": "str"}
        )
        for table in (part.images, part.bursts)
    )
    return replace(part, images=images, bursts=bursts)


def split_spec(spec: str) -> list[str]:
    """The sources of a specification, which commas separate unless a file has exactly that name."""
    if "," not in spec or path_exists(expanded(spec)):
        return [spec]
    return [part for part in spec.split(",") if part]


def locate(spec: str, say: Callable[[str], None] = _ignore_line) -> Path:
    """Absolute path of the file or folder of a specification; raises InputError if it does not exist.

    Fast, except for the first download of a Kaggle handle or a bucket, so that commands can check their
    arguments first.
    """
    return locate_with_origin(spec, say)[0]


def locate_with_origin(spec: str, say: Callable[[str], None] = _ignore_line) -> tuple[Path, str]:
    """`locate`, and a sentence that states where a download comes from (empty for others)."""
    if spec.startswith(kaggle.PREFIX):
        fetched = kaggle.fetch(spec, say)
        return fetched.folder, fetched.origin
    if spec.lower().startswith(buckets.PREFIX):
        copied = buckets.fetch(spec, say)
        return copied.path, copied.origin
    if re.match(r"[a-z][a-z0-9+.-]*://", spec, re.IGNORECASE):
        raise InputError(
            f"{spec}: addresses are not opened; download the file, or record the stream, and give its path"
        )
    path = expanded(spec)
    if "\0" in spec or not path_exists(path):
        raise InputError(f"{spec}: no such file or folder; {_similar(path) or f'give {KINDS}'}")
    return path.resolve(), ""


def _similar(path: Path) -> str:
    """A question that names what lies where path should and is called almost the same, "" without any."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except (OSError, ValueError):
        return ""
    close = get_close_matches(path.name, names, 1, cutoff=0.8)
    return f"did you mean {path.with_name(close[0])}?" if close else ""


def _dispatch(
    spec: str, path: Path, cache: Path, classes: Sequence[str], bounds: Bounds, say: Callable[[str], None]
) -> Source:
    """Open a path with the reader for its kind."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return _open_folder(spec, path, cache, classes, bounds)
    if suffix in {".yaml", ".yml"}:
        return yolo.open_yaml(spec, path, bounds, cache)
    if suffix in video.SUFFIXES:
        return video.open_video(spec, path, cache, say)
    if suffix != ".txt" and (format_ := registry.format_of(path)) is not None:
        # Beside the file, or beside the folder "annotations" that it lies in.
        return open_described(
            spec, coco.coco_root(path), [(path, format_)], bounds, classes, yolo.account_files
        )
    if suffix == ".json":
        return coco.open_coco(spec, path, bounds)
    if suffix == ".txt":
        return yolo.open_list(spec, path, classes, bounds, cache)
    if suffix in SUFFIXES:
        return yolo.open_image(spec, path, classes, bounds)
    if suffix in archives.SUFFIXES:
        return _open_archive(spec, path, cache, classes, say)
    raise InputError(
        f"{spec}: {suffix or 'a file without suffix'} is not a known kind of source; give {KINDS}"
    )


def _open_folder(spec: str, path: Path, cache: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """Open a folder by its content: a data.yaml, COCO files, VOC files, or images in any layout.

    Every file of the folder enters the ledger. Raises InputError for several datasets in one folder.
    """
    if _is_result(path):
        raise InputError(
            f"{spec}: was written by 'shiftscope predict'; it can be a domain of 'report' and 'next' on the "
            "machine that wrote it; otherwise give the images or video that it was predicted from"
        )
    if _DRAWN_BY_ULTRALYTICS.match(path.name) and path.parent.name in _TASKS:
        raise InputError(
            f"{spec}: was written by Ultralytics' predict; its labels are detections, and boxes are drawn in "
            "its images: give the images that it was predicted from"
        )
    files = sorted(_files_below(path, DEPTH, bounds))
    near = [file for file in files if len(file.relative_to(path).parts) <= DATA_YAML_DEPTH + 1]
    data_yaml = _find_data_yaml(spec, path, near)
    jsons = [] if data_yaml else [file for file in near if _is_coco(file)]
    if data_yaml:
        source = yolo.open_yaml(spec, data_yaml, bounds, cache)
    elif jsons:
        source = _open_jsons(spec, path, jsons, bounds)
    else:
        images = {file.stem for file in files if file.suffix.lower() in SUFFIXES}
        described = registry.label_files(files)
        others = {file for file, _ in described}
        suffixes = Counter(
            file.suffix.lower() for file in files if file.stem in images and file not in others
        )
        # Labels that were converted to YOLO's or VOC's form may lie beside what they were made from: the
        # reader that has more to read is taken, and the ledger names the other files.
        single = all(format_.is_per_image for _, format_ in described)
        if described and (len(described) if single else len(images)) >= max(
            suffixes[".txt"], suffixes[".xml"]
        ):
            return open_described(spec, path, described, bounds, classes, yolo.account_files)
        # Files of VOC that were renamed name their image inside.
        renamed = not suffixes[".txt"] and any(
            voc.is_annotation(file) for file in files if file not in others
        )
        reader = voc.open_voc if suffixes[".xml"] > suffixes[".txt"] or renamed else yolo.open_folder
        return reader(spec, path, classes, bounds)
    rest = Collector(path, (), bounds)
    rest.ledger = {row["path"]: (row["bucket"], row["reason"]) for row in source.ledger.to_dict("records")}
    # Files read through a link to their folder are in the ledger under the name of the link.
    linked = {
        parent for parent in set(map(os.path.dirname, rest.ledger)) if os.path.realpath(parent) != parent
    }
    rest.reached = {os.path.realpath(file) for file in rest.ledger if os.path.dirname(file) in linked}
    yolo.account_files(rest, path)
    return replace(source, spec=spec, ledger=rest.to_source(spec, source.kind).ledger)


def _open_jsons(spec: str, path: Path, jsons: Sequence[Path], bounds: Bounds) -> Source:
    """The COCO files of a folder as one source, without captions and other jsons that list no categories.

    Raises InputError as `coco.open_coco` does.
    """
    parts, others = [], []
    for file in jsons:
        try:
            parts.append(coco.open_coco(str(file), file, bounds, root=path))
        except coco.NoGroundTruth:
            others.append(file)
    if not parts:
        coco.open_coco(str(jsons[0]), jsons[0], bounds, root=path)
    source = parts[0] if len(parts) == 1 else merge(spec, parts)
    notes = [{"path": str(file), "bucket": "skipped", "reason": NO_BOXES} for file in others]
    return replace(source, ledger=concatenate([source.ledger, frame(notes, LEDGER_COLUMNS)], LEDGER_COLUMNS))


def _open_archive(
    spec: str, path: Path, cache: Path, classes: Sequence[str], say: Callable[[str], None]
) -> Source:
    """Unpack an archive below Shiftscope's own folder, once for each content, and open it as a folder.

    Raises InputError for a broken or hostile archive, see `archives.unpack`.
    """
    with path.open("rb") as handle:
        content = hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    folder = cache / "archives" / f"{path.stem[:40]}-{content}"
    record = folder.with_name(f"{folder.name}.json")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not (folder.is_dir() and record.is_file()):
            say(f"  unpacking {path.name} ({path.stat().st_size / 1e6:.0f} MB)")
            write_text(record, json.dumps(archives.unpack(path, folder)))
        skipped = json.loads(record.read_text(encoding="utf-8"))
    source = _open_folder(spec, folder, cache, classes, Bounds.of([folder]))
    notes = [
        {"path": f"{path}/{name}", "bucket": "skipped", "reason": reason}
        for name, _, reason in (entry.rpartition(": ") for entry in skipped)
    ]
    ledger = concatenate([source.ledger, frame(notes, LEDGER_COLUMNS)], LEDGER_COLUMNS)
    return replace(source, ledger=ledger.drop_duplicates("path"), origin=f"unpacked from {path}")


def _is_result(folder: Path) -> bool:
    """Whether `shiftscope predict` wrote a folder; its images have boxes drawn on them."""
    info = folder / "predict.json"
    try:
        return b'"sha256"' in info.read_bytes()[:SNIFFED] if info.is_file() else False
    except OSError:
        return False


def _find_data_yaml(spec: str, folder: Path, files: Sequence[Path]) -> Path | None:
    """The data.yaml of a folder, under any name; the outermost of several nested ones.

    Raises InputError for several side by side.
    """
    data_yamls = [file for file in files if file.name in NAMES] or [
        file for file in files if file.suffix.lower() in {".yaml", ".yml"} and _is_data_yaml(file)
    ]
    outermost = min((len(data_yaml.parts) for data_yaml in data_yamls), default=0)
    data_yamls = [data_yaml for data_yaml in data_yamls if len(data_yaml.parts) == outermost]
    if len({data_yaml.parent for data_yaml in data_yamls}) > 1 or (
        data_yamls and data_yamls[0].name not in NAMES and len(data_yamls) > 1
    ):
        raise InputError(
            f"{spec}: holds several datasets: "
            f"{', '.join(str(data_yaml.relative_to(folder)) for data_yaml in data_yamls)}; "
            "name one, or several separated by commas"
        )
    return min(
        data_yamls,
        key=lambda data_yaml: NAMES.index(data_yaml.name) if data_yaml.name in NAMES else 0,
        default=None,
    )


def _is_data_yaml(file: Path) -> bool:
    """Whether a yaml describes a dataset, that is, names classes and a split."""
    try:
        content = parse_yaml(file)
    except InputError:
        return False
    return "names" in content and any(content.get(split) for split in SPLITS)


def _is_coco(file: Path) -> bool:
    """Whether a json is a COCO file, judged by its first bytes."""
    if file.suffix.lower() != ".json":
        return False
    head = registry.head_of(file, SNIFFED)
    keys = [key in head for key in COCO_KEYS]
    # A longer file may have the other lists later; "categories" alone names classes for other labels.
    complete = (keys[0] and (keys[1] or len(head) == SNIFFED)) or (len(head) == SNIFFED and any(keys))
    return head.lstrip()[:1] == b"{" and complete and registry.format_of(file) is None


def _files_below(folder: Path, depth: int, bounds: Bounds) -> Iterator[Path]:
    """Regular files up to depth levels below a folder, without hidden names and linked folders."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.is_file():
            if not entry.is_symlink() or bounds.contain(path):
                yield path
        elif depth and entry.is_dir(follow_symlinks=False) and not is_output(path):
            yield from _files_below(path, depth - 1, bounds)
