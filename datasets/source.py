"""Opening any source by its specification: one place that decides what a path is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datasets import coco, groups, kaggle, video, yolo
from datasets.errors import InputError
from datasets.pixels import SUFFIXES
from datasets.tables import BURST_COLUMNS, IMAGE_COLUMNS, LEDGER_COLUMNS, Source, concatenate, frame

KINDS = "a data.yaml, a folder of pictures or videos, a video, a COCO json or kaggle:owner/dataset"


def open_source(
    spec: str, *, cache: Path, classes: Sequence[str] = (), group_by: str | None = None
) -> Source:
    """Open what spec names: a data.yaml (or a folder that holds one), a folder of pictures, a picture, a video, a COCO json.

    cache: where frames of videos are kept. classes: the model's, for sources that name none. group_by: see `groups.assign`.
    Raises InputError when it does not exist, is of no known kind, or holds no usable picture.
    """
    path = locate(spec)
    source = dispatch(spec, path, cache, classes)
    if len(source.images) and (source.kind != "video" or group_by is not None):
        assigned, sentence = groups.assign(source.images["path"], group_by)
        source = replace(source, images=source.images.assign(group=assigned.astype("str")), grouping=sentence)
    if source.kind == "folder":
        source = with_videos(spec, source, cache)
    if source.images.empty:
        failed = source.ledger[source.ledger["bucket"] == "failed"]
        why = (
            f"; {len(failed)} files failed, first: {failed['path'].iloc[0]} ({failed['reason'].iloc[0]})"
            if len(failed)
            else ""
        )
        raise InputError(f"{spec}: no usable picture found{why}; give {KINDS}")
    return source


def with_videos(spec: str, folder: Source, cache: Path) -> Source:
    """A folder's pictures and, each as one group, the videos that lie among them; a video that cannot be decoded stands in the ledger."""
    found = [p for p in folder.ledger["path"] if Path(p).suffix.lower() in video.SUFFIXES]
    if not found:
        return folder
    parts: dict[str, Source] = {}
    notes = []
    for path in found:
        try:
            content = video.fingerprint(Path(path))
        except OSError as error:
            notes.append({"path": path, "bucket": "failed", "reason": f"cannot be read ({error.strerror})"})
            continue
        if content in parts:
            reason = f"same content as {parts[content].ledger['path'].iloc[0]}"
            notes.append({"path": path, "bucket": "skipped", "reason": reason})
            continue
        try:
            parts[content] = video.open_video(spec, Path(path), cache)
        except InputError as error:
            notes.append({"path": path, "bucket": "failed", "reason": str(error).removeprefix(f"{path}: ")})
    paths = {content: Path(part.ledger["path"].iloc[0]) for content, part in parts.items()}
    if len({path.stem for path in paths.values()}) < len(paths):
        # Videos of one name are clips of their own: the path below what they have in common tells them apart.
        common = os.path.commonpath([path.parent for path in paths.values()])
        parts = {
            content: renamed(part, paths[content].relative_to(common).as_posix())
            for content, part in parts.items()
        }
    rest = folder.ledger[~folder.ledger["path"].isin(found)]
    words = [folder.grouping] * (len(folder.images) > 0) + [f"each of {len(parts)} videos is one group"]
    return replace(
        folder,
        kind="video" if folder.images.empty else "folder",
        images=concatenate([folder.images, *(part.images for part in parts.values())], IMAGE_COLUMNS),
        ledger=concatenate(
            [rest, *(part.ledger for part in parts.values()), frame(notes, LEDGER_COLUMNS)], LEDGER_COLUMNS
        ),
        grouping="; ".join(words),
        bursts=concatenate([part.bursts for part in parts.values()], BURST_COLUMNS),
    )


def renamed(part: Source, group: str) -> Source:
    """A video whose group and pictures carry another name."""
    images, bursts = (
        table.assign(group=group, image=group + "#" + table["image"].str.rsplit("#", n=1).str[-1]).astype(
            {"group": "str", "image": "str"}
        )
        for table in (part.images, part.bursts)
    )
    return replace(part, images=images, bursts=bursts)


def locate(spec: str) -> Path:
    """The file or folder that spec names, absolute. Raises InputError when there is none; quick but for a Kaggle handle
    seen for the first time, so that typing errors show at once.
    """
    if spec.startswith(kaggle.PREFIX):
        return kaggle.fetch(spec)
    path = Path(spec).expanduser()
    if not path.exists():
        raise InputError(f"{spec}: no such file or folder; give {KINDS}")
    return path.resolve()


def dispatch(spec: str, path: Path, cache: Path, classes: Sequence[str]) -> Source:
    """Choose the reader by what lies on disk."""
    suffix = path.suffix.lower()
    if path.is_dir():
        cards = [path / name for name in ("data.yaml", "data.yml", "dataset.yaml") if (path / name).is_file()]
        return yolo.open_yaml(spec, cards[0]) if cards else yolo.open_folder(spec, path, classes)
    if suffix in {".yaml", ".yml"}:
        return yolo.open_yaml(spec, path)
    if suffix in video.SUFFIXES:
        return video.open_video(spec, path, cache)
    if suffix == ".json":
        return coco.open_coco(spec, path)
    if suffix in SUFFIXES:
        collector = yolo.Collector(path.parent, classes)
        collector.picture(path, "", None, expects_labels=False)
        return collector.source(spec, "picture")
    raise InputError(
        f"{spec}: {suffix or 'a file without suffix'} is not a known kind of source; give {KINDS}"
    )
