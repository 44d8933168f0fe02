"""Opening any source by its specification: one place that decides what a path is."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from datasets import coco, groups, kaggle, video, voc, yolo
from datasets.classes import BY_NAME, LEFT_OUT, renumbered
from datasets.collector import VIDEO, Collector
from datasets.containment import OPTION, Bounds, expanded
from datasets.data_yaml import NAMES, is_there, parse_yaml
from datasets.errors import InputError
from datasets.pairing import SPLITS, dataset_root, label_folders, split_of
from datasets.pixels import SUFFIXES
from datasets.tables import (
    BOX_COLUMNS,
    BURST_COLUMNS,
    IMAGE_COLUMNS,
    LEDGER_COLUMNS,
    ROW_COLUMNS,
    Source,
    concatenate,
    frame,
)

KINDS = "a data.yaml, a folder of images or videos, a list of images (.txt), a video, a COCO json, a Pascal VOC folder or kaggle:owner/dataset"
# A data.yaml or COCO file lies at most this many folders down, which is where archives and exports put it; what labels there are is told from all below.
DATA_YAML_DEPTH, DEPTH = 3, 16
# Kinds of source whose images have YOLO label files.
WITH_LABEL_FILES = frozenset({"yolo", "folder", "list"})
# What a COCO file says early on; other tools have their annotations.json too.
COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
SNIFFED = 1 << 16


def quiet(line: str) -> None:
    """Say nothing."""


def open_source(
    spec: str,
    *,
    cache: Path,
    classes: Sequence[str] = (),
    group_by: str | None = None,
    allow: Sequence[Path] = (),
    say: Callable[[str], None] = quiet,
    frames: bool = True,
) -> Source:
    """Open what spec names, a source of any of `KINDS`.

    cache: our own folder, where frames of videos are kept. classes: the model's, for sources that name none. group_by: see `groups.assign`. allow: folders outside
    the source that its lists, yaml and links may lead to. Several sources with commas between are one. say: told what takes long, before it does. frames: take frames of videos; without,
    they only stand in the ledger. Raises InputError when it does not exist, is of no known kind, or holds no usable image.
    """
    parts = parts_of(spec)
    if len(parts) > 1:
        opened = [
            open_source(
                part, cache=cache, classes=classes, group_by=group_by, allow=allow, say=say, frames=frames
            )
            for part in parts
        ]
        return _merged(spec, opened)
    path, origin = find(spec, say)
    for root in allow:
        if not root.is_dir():
            raise InputError(f"{OPTION} {root}: no such folder")
    bounds = Bounds.of([*_roots_of(path), *allow])
    if path.suffix.lower() in video.SUFFIXES and not path.is_dir() and not frames:
        return video.untouched(spec, path)
    source = replace(_dispatch(spec, path, cache, classes, bounds, say), origin=origin)
    if len(source.images) and (source.kind != "video" or group_by is not None):
        assigned, sentence = groups.assign(source.images["path"], group_by)
        source = replace(source, images=source.images.assign(group=assigned.astype("str")), grouping=sentence)
    if source.kind in {"folder", "voc"} and frames:
        source = _with_videos(spec, source, cache, say)
    if source.images.empty and (frames or not (source.ledger["reason"] == VIDEO).any()):
        unused = source.ledger[source.ledger["bucket"] != "used"]
        failed = unused[unused["bucket"] == "failed"]
        first = failed if len(failed) else unused
        why = (
            f"; {len(first)} files {first['bucket'].iloc[0]}, first: {first['path'].iloc[0]} ({first['reason'].iloc[0]})"
            if len(first)
            else ""
        )
        raise InputError(f"{spec}: no usable image found{why}; give {KINDS}")
    return source


def open_training(spec: str, **given: Any) -> Source:
    """Open what a detector is trained on, or was: `training_parts` as one. given: as `open_source` takes it."""
    return one_dataset(spec, training_parts(spec, **given))


def training_parts(
    spec: str, *, classes: Sequence[str] = (), say: Callable[[str], None] = quiet, **given: Any
) -> list[Source]:
    """Each source of a specification, told what several need to be one dataset.

    Of several, one that names no split gives training images, and the labels of one that names no classes are numbered as another's; both are said. given: as `open_source`
    takes it. Raises InputError as that does.
    """
    parts = [open_source(part, classes=classes, say=say, **given) for part in parts_of(spec)]
    leader = _numbered(parts)
    if len(parts) == 1 or leader is None:
        return parts
    found = []
    for part in parts:
        if not part.classes:
            part = open_source(part.spec, classes=leader.classes, **given)
            part = replace(part, classes=leader.classes)
            say(f"  {part.spec}: names no classes; its labels are read as {leader.spec} numbers them")
        if (part.images["split"] == "").all():
            part = replace(part, images=part.images.assign(split="train").astype({"split": "str"}))
            say(f"  {part.spec}: names no splits; all of it is for training")
        found.append(part)
    return found


def one_dataset(spec: str, parts: Sequence[Source]) -> Source:
    """Sources to train on as one; of kind "yolo" where every label file on disk says what the tables say. Raises InputError as `_merged` does."""
    if len(parts) == 1:
        return parts[0]
    together = _merged(spec, parts)
    as_written = all(part.kind in WITH_LABEL_FILES and part.classes == together.classes for part in parts)
    return replace(together, kind="yolo") if as_written else together


def _roots_of(path: Path) -> list[Path]:
    """Folders that a source's own names may lead to: its own, that around "annotations" for a json, and the folders of labels that belong to images in "images"."""
    if path.suffix.lower() == ".json":
        return [coco.coco_root(path)]
    folder = path if path.is_dir() else path.parent
    around = dataset_root(folder)
    return [folder, *(label_folders(around) if around != folder else [])]


def _merged(spec: str, parts: Sequence[Source]) -> Source:
    """Several sources as one. Images that would share an id carry their source's number before it; one that stands in two counts once.

    Classes in another order are brought to one, by their names. Raises InputError when they are others.
    """
    parts = [_without_copies(part, parts[:number]) for number, part in enumerate(parts)]
    orders = {part.classes for part in parts if part.classes}
    parts = _alike(parts)
    first = parts[0]
    names = pd.concat([part.images["image"] for part in parts])
    clips = pd.concat([part.images["group"].drop_duplicates() for part in parts])
    # Clips of one name in two places are two clips.
    shared_clips = set(clips[clips.duplicated()])
    tables: dict[str, list[pd.DataFrame]] = {"images": [], "annotations": [], "bursts": []}
    identities: dict[Any, str] = {}
    for number, part in enumerate(parts, start=1):
        shared = part.images["image"].isin(names[names.duplicated()]).any()
        mark = f"{number}/" if shared else ""
        for kind, into in tables.items():
            table = getattr(part, kind)
            if mark:
                table = table.assign(image=(mark + table["image"]).astype("str"))
            if "group" in table and shared_clips:
                apart = table["group"].where(
                    ~table["group"].isin(shared_clips), f"{number}/" + table["group"]
                )
                table = table.assign(group=apart.astype("str"))
            into.append(table)
        identities |= {key: mark + name for key, name in part.image_ids.items()}
    ledger = pd.concat([part.ledger for part in parts], ignore_index=True)
    # A file that one part uses and another passes over is used.
    order = ledger["bucket"].map({"used": 0, "failed": 1, "skipped": 2})
    ledger = ledger.loc[order.sort_values(kind="stable").index].drop_duplicates("path").sort_index()
    kinds = {part.kind for part in parts}
    return replace(
        first,
        spec=spec,
        # What was renumbered is not as its label files say.
        kind=kinds.pop()
        if len(kinds) == 1 and (len(orders) < 2 or not kinds & WITH_LABEL_FILES)
        else "several",
        classes=next((part.classes for part in parts if part.classes), ()),
        images=concatenate(tables["images"], IMAGE_COLUMNS),
        annotations=concatenate(tables["annotations"], BOX_COLUMNS),
        bursts=concatenate(tables["bursts"], BURST_COLUMNS),
        ledger=ledger.reset_index(drop=True),
        rows=concatenate([part.rows for part in parts], ROW_COLUMNS),
        grouping="; ".join(dict.fromkeys(part.grouping for part in parts if part.grouping)),
        origin="; ".join(dict.fromkeys(part.origin for part in parts if part.origin)),
        image_ids=identities if sum(len(part.image_ids) for part in parts) == len(identities) else {},
        category_ids=_agreed([part.category_ids for part in parts]),
    )


def _without_copies(part: Source, before: Sequence[Source]) -> Source:
    """A source without the images that sources before it have."""
    seen = {path for other in before for path in other.images["path"]}
    return part.keep(~part.images["path"].isin(seen)) if seen else part


def _numbered(parts: Sequence[Source]) -> Source | None:
    """Whose classes number the labels of several sources: the first of which a data.yaml explains the numbers, else the first that names any; None where none does."""
    named = [part for part in parts if part.classes]
    return next((part for part in named if part.kind not in BY_NAME), named[0] if named else None)


def _alike(parts: Sequence[Source]) -> list[Source]:
    """Sources in one order of classes, told by name. Without a data.yaml among them, all their classes count; with one, its own.

    Raises InputError when a source has others: images on which nobody drew a class would teach, and count, that it is not there.
    """
    names: tuple[str, ...]
    leader = _numbered(parts)
    if leader is None:
        return list(parts)
    if leader.kind in BY_NAME:
        names = tuple(dict.fromkeys(name for part in parts for name in part.classes))
    else:
        names = leader.classes
    places = {name: place for place, name in enumerate(names)}
    found = []
    for part in parts:
        drawn = {
            part.classes[label] for label in part.annotations["label"].unique() if label < len(part.classes)
        }
        # What VOC, COCO and folders name is a list of what is in them, or somebody's vocabulary.
        if (
            part.classes
            and set(part.classes) != set(names)
            and not (part.kind in BY_NAME and drawn <= set(names))
        ):
            raise InputError(
                f"{part.spec}: its classes {list(part.classes)} are not those of {leader.spec}, {list(names)}; sources taken as one need the same names, in any order: mend 'names' in one data.yaml, or give them one by one"
            )
        if part.classes and part.classes != names:
            part = renumbered(part, names, [places.get(name, LEFT_OUT) for name in part.classes])
        found.append(part)
    return found


def _agreed(tables: Sequence[Mapping[Any, int]]) -> dict[Any, int]:
    """Category ids of several COCO files; none where two files mean different classes by one."""
    found: dict[Any, int] = {}
    for table in tables:
        for key, value in table.items():
            if found.setdefault(key, value) != value:
                return {}
    return found


def _with_videos(spec: str, folder: Source, cache: Path, say: Callable[[str], None] = quiet) -> Source:
    """A folder's images and, each as one group, the videos that lie among them; a video that cannot be decoded stands in the ledger."""
    # Only those that the walk let through: not links that lead out, and no pipes.
    found = folder.ledger.loc[folder.ledger["reason"] == VIDEO, "path"].tolist()
    if not found:
        return folder
    parts: dict[str, Source] = {}
    notes = []
    root = Path(os.path.commonpath(folder.ledger["path"].tolist())) if len(folder.ledger) > 1 else Path("/")
    for path in found:
        try:
            content = video.fingerprint(Path(path))
        except OSError as error:
            # The ledger has undecodable bytes of a name as escapes, which name nothing.
            why = (
                "file name is not valid UTF-8; rename it"
                if "\\x" in path
                else f"cannot be read ({error.strerror})"
            )
            notes.append({"path": path, "bucket": "failed", "reason": why})
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
    paths = {content: Path(part.ledger["path"].iloc[0]) for content, part in parts.items()}
    if len({path.stem for path in paths.values()}) < len(paths):
        # Videos of one name are clips of their own: the path below what they have in common tells them apart.
        common = os.path.commonpath([path.parent for path in paths.values()])
        parts = {
            content: _renamed(part, paths[content].relative_to(common).as_posix())
            for content, part in parts.items()
        }
    rest = folder.ledger[~folder.ledger["path"].isin(found)]
    words = [folder.grouping] * (len(folder.images) > 0)
    words += [f"each of {len(parts)} videos is one group"] * (len(parts) > 0)
    return replace(
        folder,
        kind="video" if folder.images.empty else folder.kind,
        images=concatenate([folder.images, *(part.images for part in parts.values())], IMAGE_COLUMNS),
        ledger=concatenate(
            [rest, *(part.ledger for part in parts.values()), frame(notes, LEDGER_COLUMNS)], LEDGER_COLUMNS
        ),
        grouping="; ".join(words),
        bursts=concatenate([part.bursts for part in parts.values()], BURST_COLUMNS),
    )


def _renamed(part: Source, group: str) -> Source:
    """A video whose group and images carry another name."""
    images, bursts = (
        table.assign(group=group, image=group + "#" + table["image"].str.rsplit("#", n=1).str[-1]).astype(
            {"group": "str", "image": "str"}
        )
        for table in (part.images, part.bursts)
    )
    return replace(part, images=images, bursts=bursts)


def parts_of(spec: str) -> list[str]:
    """The sources of a specification: several have commas between, unless a file has that very name."""
    if "," not in spec or is_there(expanded(spec)):
        return [spec]
    return [part for part in spec.split(",") if part]


def locate(spec: str, say: Callable[[str], None] = quiet) -> Path:
    """The file or folder that spec names, absolute. Raises InputError when there is none; quick but for a Kaggle handle
    seen for the first time, so that typing errors show at once.
    """
    return find(spec, say)[0]


def find(spec: str, say: Callable[[str], None] = quiet) -> tuple[Path, str]:
    """`locate`, and where a download comes from, in words."""
    if spec.startswith(kaggle.PREFIX):
        fetched = kaggle.fetch(spec, say)
        return fetched.folder, fetched.origin
    if re.match(r"[a-z][a-z0-9+.-]*://", spec, re.IGNORECASE):
        raise InputError(
            f"{spec}: addresses are not opened; download it, or record the stream, and give the file"
        )
    path = expanded(spec)
    if "\0" in spec or not is_there(path):
        raise InputError(f"{spec}: no such file or folder; give {KINDS}")
    return path.resolve(), ""


def _dispatch(
    spec: str, path: Path, cache: Path, classes: Sequence[str], bounds: Bounds, say: Callable[[str], None]
) -> Source:
    """Choose the reader by what lies on disk."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return _open_folder(spec, path, cache, classes, bounds)
    if suffix in {".yaml", ".yml"}:
        return yolo.open_yaml(spec, path, bounds, cache)
    if suffix in video.SUFFIXES:
        return video.open_video(spec, path, cache, say)
    if suffix == ".json":
        return coco.open_coco(spec, path, bounds)
    if suffix == ".txt":
        return yolo.open_list(spec, path, classes, bounds)
    if suffix in SUFFIXES:
        return yolo.open_image(spec, path, classes, bounds)
    if suffix in {".zip", ".tar", ".tgz", ".gz"}:
        raise InputError(f"{spec}: is an archive; unpack it and give the folder")
    raise InputError(
        f"{spec}: {suffix or 'a file without suffix'} is not a known kind of source; give {KINDS}"
    )


def _open_folder(spec: str, path: Path, cache: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """A folder by what it holds: a data.yaml, COCO files, VOC files, or images in any layout; every file of it is accounted for. Raises InputError for several datasets in one folder."""
    if _is_result(path):
        raise InputError(
            f"{spec}: was written by 'shiftscope predict', and is a domain of 'report' and 'next' where it was made; else give what it looked at"
        )
    files = sorted(below(path, DEPTH, bounds))
    near = [file for file in files if len(file.relative_to(path).parts) <= DATA_YAML_DEPTH + 1]
    data_yaml = _find_data_yaml(spec, path, near)
    jsons = [] if data_yaml else [file for file in near if _is_coco(file)]
    if data_yaml:
        source = yolo.open_yaml(spec, data_yaml, bounds, cache)
    elif jsons:
        parts = [coco.open_coco(str(file), file, bounds, root=path) for file in jsons]
        source = parts[0] if len(parts) == 1 else _merged(spec, parts)
    else:
        images = {file.stem for file in files if file.suffix.lower() in SUFFIXES}
        described = Counter(file.suffix.lower() for file in files if file.stem in images)
        reader = voc.open_voc if described[".xml"] > described[".txt"] else yolo.open_folder
        return reader(spec, path, classes, bounds)
    rest = Collector(path, (), bounds)
    rest.ledger = {row["path"]: (row["bucket"], row["reason"]) for row in source.ledger.to_dict("records")}
    # Files that were read by way of a link to their folder are accounted for under that name.
    linked = {place for place in set(map(os.path.dirname, rest.ledger)) if os.path.realpath(place) != place}
    rest.reached = {os.path.realpath(file) for file in rest.ledger if os.path.dirname(file) in linked}
    yolo.account(rest, path)
    return replace(source, spec=spec, ledger=rest.source(spec, source.kind).ledger)


def _is_result(folder: Path) -> bool:
    """Whether a folder is one that `shiftscope predict` wrote: its images carry boxes drawn on them."""
    data_yaml = folder / "predict.json"
    try:
        return b'"sha256"' in data_yaml.read_bytes()[:SNIFFED] if data_yaml.is_file() else False
    except OSError:
        return False


def _find_data_yaml(spec: str, folder: Path, files: Sequence[Path]) -> Path | None:
    """The data.yaml of a folder, under whatever name, where it is the only one; the outermost, where there are several below each other. Raises InputError for several side by side."""
    data_yamls = [file for file in files if file.name in NAMES] or [
        file for file in files if file.suffix.lower() in {".yaml", ".yml"} and _is_data_yaml(file)
    ]
    outermost = min((len(data_yaml.parts) for data_yaml in data_yamls), default=0)
    data_yamls = [data_yaml for data_yaml in data_yamls if len(data_yaml.parts) == outermost]
    if len({data_yaml.parent for data_yaml in data_yamls}) > 1 or (
        data_yamls and data_yamls[0].name not in NAMES and len(data_yamls) > 1
    ):
        raise InputError(
            f"{spec}: holds several datasets: {', '.join(str(data_yaml.relative_to(folder)) for data_yaml in data_yamls)}; name one, or several with commas between"
        )
    return min(
        data_yamls,
        key=lambda data_yaml: NAMES.index(data_yaml.name) if data_yaml.name in NAMES else 0,
        default=None,
    )


def _is_data_yaml(file: Path) -> bool:
    """Whether a yaml describes a dataset: it names classes and a split."""
    try:
        content = parse_yaml(file)
    except InputError:
        return False
    return "names" in content and any(content.get(split) for split in SPLITS)


def _is_coco(file: Path) -> bool:
    """Whether a json is a COCO file, going by its beginning."""
    if file.suffix.lower() != ".json":
        return False
    try:
        with file.open("rb") as handle:
            head = handle.read(SNIFFED)
    except OSError:
        return False
    return head.lstrip()[:1] == b"{" and any(key in head for key in COCO_KEYS)


def below(folder: Path, depth: int, bounds: Bounds) -> Iterator[Path]:
    """Regular files of a folder and of those in it, so many levels down, that lie within the bounds; links to folders and hidden names are left out."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.is_file():
            if not entry.is_symlink() or bounds.hold(path):
                yield path
        elif depth and entry.is_dir(follow_symlinks=False):
            yield from below(path, depth - 1, bounds)
