"""A data.yaml, read as data: no tags, no `download:`, and no path that leads out of the dataset."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

import yaml

from datasets.containment import Bounds, expanded
from datasets.errors import InputError
from datasets.pairing import SPLITS, leads_out

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
MAX_BYTES = 1_000_000
# Anchors and aliases let a short file unfold into gigabytes; no data.yaml needs them.
_BOMB = "anchors and aliases (& and *) are not read; write the values out"


class _Plain(yaml.SafeLoader):
    """YAML without aliases, whose mappings may not repeat a key (the last would win in silence), and in which 1:30 is text, not 90."""

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


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] in ("bool", "null")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Plain.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]{0,17})$"), list("-+0123456789")
)
_Plain.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,3})?$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True)
class DataYaml:
    """What a data.yaml says. root: the folder its paths are below. splits: split name -> folders or list files, as they lie. remark: what was not followed, in words. pose: keypoint numbers in each label row."""

    path: Path
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, list[Path]]
    remark: str = ""
    pose: int = 0


def read_data_yaml(path: Path, bounds: Bounds) -> DataYaml:
    """Parse a data.yaml; its splits must exist and lie within the bounds.

    Raises InputError naming the file, every path tried and what to mend.
    """
    content = parse_yaml(path)
    classes = _class_names(path, content)
    remarks = ["its 'download:' was not run"] if content.get("download") else []
    roots = [path.parent]
    if isinstance(content.get("path"), str):
        given = expanded(content["path"].replace("\\", "/").replace("\0", ""))
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
            if key == "test" and splits and isinstance(entry, str) and not _exists(root, entry):
                # Exporters name a test split whether there is one or not, and nothing here needs it.
                remarks.append(f"its test split {entry[:80]} does not exist")
                continue
            splits.setdefault(split, []).append(resolve(path, root, key, entry, bounds))
    if not splits:
        raise InputError(f"{path}: no split (train, val or test) is named; add for example 'val: images/val'")
    return DataYaml(path, root, classes, splits, "; ".join(remarks), _keypoints(content))


def _keypoints(content: dict[str, Any]) -> int:
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
    return any(isinstance(e, str) and e and any(map(is_there, _places(root, e))) for e in entries)


def _places(root: Path, entry: str) -> list[Path]:
    """Where a split's entry may lie: exports write ../train for a folder that lies beside the yaml."""
    rest = entry.replace("\\", "/").replace("\0", "")
    places = [Path(os.path.normpath(root / rest))]
    while rest.startswith("../"):
        rest = rest[3:]
        places.append(Path(os.path.normpath(root / rest)))
    return places


def is_there(path: Path) -> bool:
    """Whether a path can be looked at: a folder or a regular file. Names that no file system holds are not there."""
    try:
        return path.is_dir() or path.is_file()
    except OSError:
        return False


def resolve(data_yaml: Path, root: Path, key: str, entry: Any, bounds: Bounds) -> Path:
    """One split entry as an existing folder or list file within the bounds. Raises InputError listing every path tried."""
    if not isinstance(entry, str):
        raise InputError(
            f"{data_yaml}: '{key}:' must be a folder or a list of folders, found {str(entry)[:80]!r}"
        )
    tried = _places(root, entry)
    found = [place for place in tried if is_there(place)]
    inside = [place for place in found if bounds.hold(place)]
    if inside:
        return inside[0]
    if found:
        raise InputError(
            f"{data_yaml}: '{key}: {entry}' {leads_out(found[0] / 'x')} (a yaml from strangers could show your own images this way)"
        )
    raise InputError(
        f"{data_yaml}: '{key}: {entry[:200]}' does not exist; tried {', '.join(str(place)[:200] for place in tried)}; correct the path in the yaml"
    )


def parse_yaml(path: Path) -> dict[str, Any]:
    """A yaml file as a dict of plain values. Raises InputError with line and column."""
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode):
            raise InputError(f"{path}: not a regular file; give a data.yaml")
        if status.st_size > MAX_BYTES:
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


def _class_names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
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
        raise InputError(f"{path}: nc is {str(count)[:20]} but {len(names)} names are given; make them agree")
    return tuple(map(str, names))
