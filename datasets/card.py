"""A data.yaml, read as data: no tags, no `download:`, and no path that leads out of the dataset."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datasets.containment import OPTION, Bounds
from datasets.errors import InputError
from datasets.pairing import SPLITS

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
MAX_BYTES = 1_000_000
# Anchors and aliases let a short file unfold into gigabytes; no data.yaml needs them.
_BOMB = "anchors and aliases (& and *) are not read; write the values out"


class _Plain(yaml.SafeLoader):
    """YAML without aliases, whose mappings may not repeat a key (the last would win in silence)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, _BOMB, mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Card:
    """What a data.yaml says. root: the folder its paths are below. splits: split name -> folders or list files, as they lie. remark: what was not followed, in words. pose: keypoint numbers in each label row."""

    path: Path
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, list[Path]]
    remark: str = ""
    pose: int = 0


def read_card(path: Path, bounds: Bounds) -> Card:
    """Parse a data.yaml; its splits must exist and lie within the bounds.

    Raises InputError naming the file, every path tried and what to mend.
    """
    content = parse_yaml(path)
    classes = class_names(path, content)
    remarks = ["its 'download:' was not run"] if content.get("download") else []
    roots = [path.parent]
    if isinstance(content.get("path"), str):
        given = Path(content["path"].replace("\\", "/")).expanduser()
        named = [given] if given.is_absolute() else [path.parent / given, Path.cwd() / given]
        # A stale `path:` is common (the dataset was moved): the yaml's own folder is tried last.
        roots = [*named, path.parent]
        holding = [root for root in roots if any(_exists(root, content.get(key)) for key in SPLITS)]
        inside = [root for root in holding if bounds.hold(root)]
        if holding and inside and inside[0] != holding[0]:
            remarks.append(f"its path {content['path']} leads out of the source and was not followed")
        roots = inside or holding or named
    root = roots[0]
    splits: dict[str, list[Path]] = {}
    for key, split in SPLITS.items():
        entries = content.get(key)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            splits.setdefault(split, []).append(resolve(path, root, key, entry, bounds))
    if not splits:
        raise InputError(f"{path}: no split (train, val or test) is named; add for example 'val: images/val'")
    return Card(path, root, classes, splits, "; ".join(remarks), keypoints(content))


def keypoints(content: dict[str, Any]) -> int:
    """Numbers that a pose dataset's label rows have behind the box, 0 for other datasets."""
    shape = content.get("kpt_shape")
    if (
        isinstance(shape, list)
        and len(shape) == 2
        and all(isinstance(n, int) and 0 < n < 1000 for n in shape)
    ):
        return int(shape[0] * shape[1])
    return 0


def _exists(root: Path, entry: Any) -> bool:
    entries = entry if isinstance(entry, list) else [entry]
    return any(
        isinstance(e, str) and e and any(place.exists() for place in _places(root, e.replace("\\", "/")))
        for e in entries
    )


def _places(root: Path, entry: str) -> list[Path]:
    """Where a split's entry may lie: exports write ../train for a folder that lies beside the yaml."""
    places = [root / entry]
    rest = entry
    while rest.startswith("../"):
        rest = rest[3:]
        places.append(root / rest)
    return places


def resolve(card: Path, root: Path, key: str, entry: Any, bounds: Bounds) -> Path:
    """One split entry as an existing folder or list file within the bounds. Raises InputError listing every path tried."""
    if not isinstance(entry, str) or "\0" in entry:
        raise InputError(f"{card}: '{key}:' must be a folder or a list of folders, found {entry!r}")
    tried = _places(root, entry.replace("\\", "/"))
    found = [place for place in tried if place.exists()]
    for place in found:
        if bounds.hold(place):
            return Path(os.path.normpath(place)) if not place.is_symlink() else place
    if found:
        real = Path(os.path.realpath(found[0]))
        raise InputError(
            f"{card}: '{key}: {entry}' leads out of the dataset, to {real}; a yaml from strangers could show your own pictures this way. If it is yours: {OPTION} {real}"
        )
    raise InputError(
        f"{card}: '{key}: {entry}' does not exist; tried {', '.join(str(place) for place in tried)}; correct the path in the yaml"
    )


def parse_yaml(path: Path) -> dict[str, Any]:
    """A yaml file as a dict of plain values. Raises InputError with line and column."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: larger than 1 MB, which no data.yaml is")
        content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Plain)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', error)})") from None
    except (ValueError, RecursionError) as error:
        # Dates and numbers that Python cannot hold; brackets nested a thousand deep.
        raise InputError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys such as 'val:' and 'names:', found {type(content).__name__}")
    return content


def class_names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """`names` as a tuple, from a list or a mapping 0..n-1. Raises InputError."""
    names = content.get("names")
    if isinstance(names, dict):
        keys = sorted(names, key=lambda key: int(key) if str(key).isdecimal() else -1)
        if [str(key) for key in keys] != [str(i) for i in range(len(keys))]:
            raise InputError(
                f"{path}: names must be numbered 0 to {len(keys) - 1} without gaps, found {keys[:20]}"
            )
        names = [names[key] for key in keys]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: no class names; add for example 'names: {{0: pothole}}'")
    if not all(isinstance(name, (str, int, float)) and str(name).strip() for name in names):
        raise InputError(f"{path}: every class needs a name, found {names[:20]}")
    if len(set(map(str, names))) != len(names):
        raise InputError(f"{path}: class names repeat: {names[:20]}")
    count = content.get("nc")
    if count is not None and count != len(names):
        raise InputError(f"{path}: nc is {count} but {len(names)} names are given; make them agree")
    return tuple(map(str, names))
