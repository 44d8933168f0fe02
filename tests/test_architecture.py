"""The house keeps its shape: imports point one way, and each heavy library has one door."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOW = ["datasets", "train", "diagnostics", "reports", "shiftscope"]
MAY_IMPORT = {
    "datasets": {"datasets"},
    "train": {"datasets", "train"},
    "diagnostics": {"datasets", "diagnostics"},
    "reports": {"datasets", "train", "diagnostics", "reports"},
    "shiftscope": {"datasets", "reports", "shiftscope"},
}
DOORS = {
    # Prediction and loading, its own arguments, its pretrained checkpoints, and export; training goes through
    # what forward.py loads.
    "ultralytics": {
        "train/forward.py",
        "train/quick.py",
        "train/training.py",
        "train/arguments.py",
        "train/pretrained.py",
        "train/export.py",
    },
    "openvino": {"train/quick.py"},
    "ray": {"reports/pipeline/cluster.py"},
    # A room of its own: the dataset, the panels and operators that run in the App, and the way back.
    "fiftyone": {"reports/workbench/"},
    "kagglehub": {"datasets/kaggle.py"},
    "av": {"datasets/video.py", "datasets/world/build.py", "reports/prediction/video.py"},
    "torchvision": {"train/augmentation.py"},
    "jinja2": {"reports/page/writer.py"},
    "matplotlib": {"reports/page/figures.py"},
    "torch": {"train/forward.py", "train/quick.py", "train/training.py", "reports/commands/doctor.py"},
}
# What a room of reports/ may import of the others; a loose module of reports/ serves several rooms.
ROOMS = {
    "commands": {"export", "page", "pipeline", "prediction", "review", "workbench"},
    "export": set(),
    "page": {"pipeline"},
    "pipeline": {"workbench"},  # attributes_of: a user's own FiftyOne dataset, behind FiftyOne's door
    "prediction": {"export"},
    "review": {"pipeline"},
    "workbench": {"export", "page"},
}
MODULES = sorted(path for package in FLOW for path in (ROOT / package).rglob("*.py"))


@cache
def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_follow_the_flow(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name for name in imports(path) if name.split(".")[0] in FLOW}
    assert {name.split(".")[0] for name in ours} <= MAY_IMPORT[package]
    if package == "diagnostics":
        assert all(
            name.startswith(("diagnostics", "datasets.tables", "datasets.rotated", "datasets.shapes"))
            for name in ours
        ), ours


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_reports_import_in_one_direction(room: str) -> None:
    used = {
        name.split(".")[1]
        for path in (ROOT / "reports" / room).rglob("*.py")
        for name in imports(path)
        if name.startswith("reports.")
    }
    rooms = {path.name for path in (ROOT / "reports").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(ROOMS)
    assert used & rooms - {room} == ROOMS[room]
    assert "cli" not in used


def test_no_module_imports_itself_in_a_circle() -> None:
    """Imports inside functions count as well."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in MODULES
    }
    graph = {name: (imports(path) & names.keys()) - {name} for name, path in names.items()}
    # `from package import module` names the package too, whose own imports are not what is asked for.
    for name, used in graph.items():
        graph[name] = {u for u in used if not any(v.startswith(f"{u}.") for v in used)}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_its_door(library: str) -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in MODULES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    rooms = tuple(door for door in DOORS[library] if door.endswith("/"))
    assert {door for door in DOORS[library] if any(user.startswith(door) for user in users)} == DOORS[library]
    assert {user for user in users if not user.startswith(rooms)} == DOORS[library] - set(rooms)


def test_diagnostics_touches_no_files() -> None:
    for path in (ROOT / "diagnostics").rglob("*.py"):
        assert not {"pathlib", "os", "io", "shutil", "tempfile"} & {
            name.split(".")[0] for name in imports(path)
        }, path


def test_templates_escape_everything() -> None:
    templates = ROOT / "reports" / "page" / "templates"
    for path in (p for p in templates.rglob("*") if p.is_file()):
        assert "|safe" not in path.read_text(encoding="utf-8").replace(" ", ""), path


def test_no_html_in_python() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert not any(tag in text for tag in ("<div", "<table", "<td", "<span")), path


def test_there_is_no_utils() -> None:
    assert not [path for path in MODULES if path.stem in {"utils", "helpers", "common", "misc"}]
