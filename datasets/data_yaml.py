"""Reading a data.yaml as plain data: no tags, no `download:`, and no path outside the dataset."""

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
from datasets.pairing import SPLITS, outside_reason

NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
# How a rendered dataset was made, see `datasets.world.build`.
MANIFEST = "world.json"
MAX_BYTES = 1_000_000
# Anchors and aliases let a short file expand to gigabytes; no data.yaml needs them.
_BOMB = "anchors and aliases (& and *) are not read; write the values out"


class _Plain(yaml.SafeLoader):
    """YAML without aliases and repeated keys (the last would silently win); 1:30 is text, not 90."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, _BOMB, mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} occurs twice", key_node.start_mark
                )
            keys.add(key)
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
    """The content of a data.yaml.

    path: the file.
    root: the folder that its paths are relative to.
    classes: class names in order.
    splits: split name -> folders or list files, as existing paths.
    remark: what was not followed, in words; empty if everything was.
    pose: count of keypoint values in each label row, 0 for none.
    """

    path: Path
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, list[Path]]
    remark: str = ""
    pose: int = 0


def read_data_yaml(path: Path, bounds: Bounds) -> DataYaml:
    """Read a data.yaml.

    Parameters
    ----------
    path
        The file.
    bounds
        Folders that its splits may lie in.

    Returns
    -------
    DataYaml
        Its classes and splits; all paths exist.

    Raises
    ------
    InputError
        If it cannot be read, or a split does not exist or lies outside the bounds. The message names the
        file, every path tried and what to correct.
    """
    content = parse_yaml(path)
    classes = _class_names(path, content)
    remarks = ["its 'download:' was not run"] if content.get("download") else []
    roots = [path.parent]
    if isinstance(content.get("path"), str):
        written = expanded(content["path"].replace("\\", "/").replace("\0", ""))
        named = [written] if written.is_absolute() else [path.parent / written, Path.cwd() / written]
        # A stale `path:` is common because datasets are moved: the yaml's own folder is tried last.
        roots = [*named, path.parent]
        holding = [root for root in roots if any(_exists(root, content.get(key)) for key in SPLITS)]
        inside = [root for root in holding if bounds.contain(root)]
        if holding and inside and inside[0] != holding[0]:
            remarks.append(f"its path {content['path']} leads out of the source and was not followed")
        roots = inside or holding or named
    root = roots[0]
    splits: dict[str, list[Path]] = {}
    for key, split in SPLITS.items():
        entries = content.get(key)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            if key == "test" and splits and isinstance(entry, str) and not _exists(root, entry):
                # Exporters name a test split even if there is none, and no diagnostic needs one.
                remarks.append(f"its test split {entry[:80]} does not exist")
                continue
            found = resolve(path, root, key, entry, bounds)
            splits.setdefault(split, []).append(found)
            if isinstance(entry, str) and _is_shortened(root, entry, found):
                remarks.append(f"its {key} {entry[:80]} does not exist; read from {found.relative_to(root)}")
    _check_shortened(path, root, content, splits)
    if not splits:
        raise InputError(f"{path}: names no split (train, val or test); add for example 'val: images/val'")
    return DataYaml(path, root, classes, splits, "; ".join(remarks), _keypoints(content))


def _keypoints(content: dict[str, Any]) -> int:
    """Count of keypoint values after the box in a pose dataset's label rows; 0 for other datasets."""
    shape = content.get("kpt_shape")
    if (
        isinstance(shape, list)
        and len(shape) == 2
        and all(isinstance(n, int) and 0 < n < 1000 for n in shape)
    ):
        return int(shape[0] * shape[1])
    return 0


def _exists(root: Path, entry: Any) -> bool:
    """Whether an entry of a split, or one of a list of them, exists below root."""
    entries = entry if isinstance(entry, list) else [entry]
    return any(isinstance(e, str) and e and any(map(path_exists, _candidate_paths(root, e))) for e in entries)


def _candidate_paths(root: Path, entry: str) -> list[Path]:
    """Paths that a split's entry may mean: exports write ../train for a folder beside the yaml."""
    rest = entry.replace("\\", "/").replace("\0", "")
    paths = [Path(os.path.normpath(root / rest))]
    while rest.startswith("../"):
        rest = rest[3:]
        paths.append(Path(os.path.normpath(root / rest)))
    return paths if any(map(path_exists, paths)) else [*paths, *_shortened(root, entry)]


# A path from the root of a machine, or of a drive of Windows: often another machine's.
FROM_ROOT = re.compile(r"/|[A-Za-z]:[\\/]")


def _shortened(root: Path, entry: str) -> list[Path]:
    """An absolute path of another machine without its first folders: /content/road/images/val is
    images/val.
    """
    if not FROM_ROOT.match(entry):
        return []
    parts = [
        part for part in entry.replace("\\", "/").replace("\0", "").split("/") if part not in ("", ".", "..")
    ]
    return [Path(os.path.normpath(root.joinpath(*parts[skip:]))) for skip in range(1, len(parts))]


def _is_shortened(root: Path, entry: str, found: Path) -> bool:
    """Whether an entry leads to a path only without its first folders."""
    as_written = Path(os.path.normpath(root / entry.replace("\\", "/").replace("\0", "")))
    return found != as_written and found in _shortened(root, entry)


def _check_shortened(path: Path, root: Path, content: dict[str, Any], splits: dict[str, list[Path]]) -> None:
    """Raise InputError where two entries that were written differently lead to one folder only because their
    first folders were left out.
    """
    written: dict[Path, str] = {}
    for key in SPLITS:
        entries = content.get(key)
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, str) or not entry:
                continue
            found = next((p for p in _candidate_paths(root, entry) if path_exists(p)), None)
            if found is None or found not in {p for folders in splits.values() for p in folders}:
                continue
            other = written.setdefault(found, entry)
            if other != entry and any(_is_shortened(root, text, found) for text in (entry, other)):
                raise InputError(
                    f"{path}: '{other}' and '{entry}' do not exist, and {found} could be either; correct the "
                    "paths"
                )


def path_exists(path: Path) -> bool:
    """Whether a path is a folder or a file; False for names that no file system can hold."""
    try:
        return path.is_dir() or path.is_file()
    except OSError:
        return False


def resolve(data_yaml: Path, root: Path, key: str, entry: Any, bounds: Bounds) -> Path:
    """Resolve a split entry to an existing path within the bounds; InputError lists every path tried."""
    if not isinstance(entry, str):
        raise InputError(
            f"{data_yaml}: '{key}:' must be a folder or a list of folders, found {str(entry)[:80]!r}"
        )
    tried = _candidate_paths(root, entry)
    existing = [candidate for candidate in tried if path_exists(candidate)]
    inside = [candidate for candidate in existing if bounds.contain(candidate)]
    if inside:
        return inside[0]
    if existing:
        raise InputError(
            f"{data_yaml}: '{key}: {entry}' {outside_reason(existing[0] / 'x')} "
            "(otherwise a data.yaml from elsewhere could put private images into a report)"
        )
    raise InputError(
        f"{data_yaml}: '{key}: {entry[:200]}' does not exist; "
        f"tried {', '.join(str(candidate)[:200] for candidate in tried)}; correct the path in the yaml"
    )


def parse_yaml(path: Path) -> dict[str, Any]:
    """Read a yaml file as a dict of plain values; raises InputError with line and column."""
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
    """`names` as a tuple, from a list or a mapping 0..n-1; raises InputError if it is neither."""
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
    if count is not None and str(count).strip() != str(len(names)):
        raise InputError(f"{path}: nc is {str(count)[:20]} but {len(names)} names are given; make them agree")
    return tuple(map(str, names))
