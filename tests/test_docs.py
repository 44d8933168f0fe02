"""The pages for users: every example runs or parses, every link resolves, the reference is current."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import typer.main
import yaml

from datasets.source import open_source
from datasets.world import DASHCAM, DRONE, Clip, Plan, build_world, write_flight
from reports.cli import app
from reports.export.metrics import METRICS, SWEEP
from tests.conftest import run_script
from tools.command_line import PAGE, page

ROOT = Path(__file__).parents[1]
# Written by benchmarks and tables, which have tests of their own.
GENERATED = {
    "architectures.md",
    "benchmark.md",
    "classes.md",
    "photographs.md",
    "proof.md",
    "next.md",
    "faults.md",
    "from-the-template.md",
}
PAGES = {
    path.name: path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if path.name not in GENERATED
}
PARSED_ONLY = "<!-- parsed, not run -->"
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<info>\w[^\n]*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
# Sixty epochs of a pretrained checkpoint are a training, not a test.
SHORTER = {"--epochs 60": "--epochs 1 --imgsz 256 --model best.pt"}
MAKE_VARIABLES = {"RUN", "REAL", "POOL", "BUDGET", "BOXES", "DATA", "EPOCHS", "OUT", "ARGS", "TORCH"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    page: name of the page
    line: number of its first line
    language: sh, python or yaml
    slow: whether it takes more than a few seconds
    run: whether it is run; otherwise only parsed
    text: its lines
    """

    page: str
    line: int
    language: str
    slow: bool
    run: bool
    text: str

    @property
    def commands(self) -> list[str]:
        """Its commands, one each."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.strip()]


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page that have a language."""
    text = path.read_text(encoding="utf-8")
    blocks = []
    for match in _BLOCK.finditer(text):
        language, *words = match["info"].split()
        before = text[: match.start()].rstrip().rsplit("\n", 1)[-1].strip()
        blocks.append(
            Block(
                path.name,
                text.count("\n", 0, match.start()) + 1,
                language,
                "slow" in words,
                before != PARSED_ONLY,
                textwrap.dedent(match["body"]),
            )
        )
    return blocks


BLOCKS = [block for path in PAGES.values() for block in blocks_of(path)]


def pages_with(language: str, *, slow: bool) -> list[str]:
    """Pages with a block to run in a language; slow: pages with a slow one."""
    return sorted({b.page for b in BLOCKS if b.language == language and b.run and (b.slow or not slow)})


def make_commands(line: str) -> list[list[str]]:
    """The calls of the console script behind a call of make, from a dry run."""
    target, *assignments = shlex.split(line)[1:]
    assert {text.partition("=")[0] for text in assignments} <= MAKE_VARIABLES
    # The make that runs these tests hands down its own variables.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "-n", target, *assignments],
        cwd=ROOT,
        env=environment | {"ARGS": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    script = ".venv/bin/shiftscope"
    return [shlex.split(text)[1:] for text in done.stdout.splitlines() if text.startswith(script)]


def parse(arguments: list[str]) -> None:
    """Parse a call of the console script and read its options, without running it. Raises typer's errors."""
    name, *rest = arguments
    command = typer.main.get_command(app).commands[name]
    command.make_context(name, list(rest))


def strings(value: object) -> list[str]:
    """Every text in what a YAML file holds."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in strings(part)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_examples_parse(block: Block) -> None:
    assert block.language in {"sh", "python", "yaml"}
    if block.language == "yaml":
        # A pipeline of a forge, whose commands are ours, or DVC's file, which names ours.
        content = yaml.safe_load(block.text)
        if "metrics" in content:
            named = [*content["metrics"], *(name for plot in content["plots"] for name in plot)]
            assert {Path(name).name for name in named} == {METRICS, SWEEP}
            return
        commands = [text for text in strings(content) if text.startswith("shiftscope ")]
        assert commands
        for text in commands:
            parse(shlex.split(text.replace("$GITHUB_STEP_SUMMARY", "summary.md"))[1:])
        return
    if block.language == "python":
        compile(block.text, f"{block.page}:{block.line}", "exec")
        return
    for line in block.commands:
        program, *arguments = shlex.split(line)
        if program == "make":
            for call in make_commands(line):
                parse(call)
        elif program == "git":
            assert not block.run
        else:
            assert program == "shiftscope", line
            parse(arguments)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the inputs that the examples name, but for checkpoints."""
    folder = tmp_path_factory.mktemp("inputs")
    list(build_world(folder / "dashcam", Plan(DASHCAM, {"train": (2, 3), "val": (6, 4)}, seed=1)))
    list(build_world(folder / "overhead", Plan(DRONE, {"val": (6, 4)}, seed=2)))
    write_flight(folder / "flight.mp4", Clip((3,), DRONE, frames=30))
    shutil.copytree(folder / "overhead" / "images" / "val", folder / "drives")
    overhead = open_source(str(folder / "overhead"), cache=folder / "cache")
    dashcam = open_source(str(folder / "dashcam"), cache=folder / "cache")
    write_coco(folder, overhead.images, overhead.annotations)
    for name, source in {"dashcam": dashcam, "overhead": overhead}.items():
        results = [
            {"image_id": Path(box.image).stem, "category_id": 0, "bbox": xywh(box), "score": 0.9}
            for box in source.annotations[
                source.annotations["image"].isin(held_out(source.images))
            ].itertuples()
        ]
        (folder / f"{name}.json").write_text(json.dumps(results))
    names = [Path(path).name for path in overhead.images["path"]]
    weather = pd.DataFrame(
        {"image": names, "weather": ["sun" if i % 2 else "rain" for i in range(len(names))]}
    )
    weather.to_csv(folder / "weather.csv", index=False)
    sizes = "".join(f"{n},{0.7 - 0.6 * (n / 100) ** -0.5:.4f}\n" for n in (100, 200, 400, 800, 1600))
    (folder / "sizes.csv").write_text(f"labels,ap50\n{sizes}")
    curve = "".join(f"{e},{0.76 * (1 - 2.718 ** (-e / 4)):.4f}\n" for e in range(1, 21))
    (folder / "results.csv").write_text(f"epoch,metrics/mAP50(B)\n{curve}")
    return folder


def held_out(images: pd.DataFrame) -> pd.Series:
    """Images that are not for training."""
    return images.loc[images["split"] != "train", "image"]


def xywh(box: object) -> list[float]:
    """An annotation's box as COCO writes it."""
    return [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]


def write_coco(folder: Path, images: pd.DataFrame, annotations: pd.DataFrame) -> None:
    """COCO files: a ground truth, two detectors' results, slices and clips."""
    ids = {image: number for number, image in enumerate(images["image"], start=1)}
    truth = [
        {
            "id": i,
            "image_id": ids[box.image],
            "category_id": 1,
            "bbox": xywh(box),
            "area": (box.x2 - box.x1) * (box.y2 - box.y1),
            "iscrowd": 0,
        }
        for i, box in enumerate(annotations.itertuples(), start=1)
    ]
    content = {
        "images": [
            {"id": ids[row.image], "file_name": row.image, "width": row.width, "height": row.height}
            for row in images.itertuples()
        ],
        "annotations": truth,
        "categories": [{"id": 1, "name": "pothole"}],
    }
    (folder / "gt.json").write_text(json.dumps(content, default=int))
    for name, step in {"dt": 3, "other": 2}.items():
        kept = [row for i, row in enumerate(truth) if i % step]
        results = [{k: row[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.8} for row in kept]
        (folder / f"{name}.json").write_text(json.dumps(results))
    table = images.assign(image_id=images["image"].map(ids))
    table.assign(slice=["even" if i % 2 else "odd" for i in table["image_id"]]).to_csv(
        folder / "slices.csv", columns=["image_id", "slice"], index=False
    )
    table.to_csv(folder / "clips.csv", columns=["image_id", "group"], index=False)


@pytest.fixture(scope="module")
def inputs_with_run(inputs: Path, weights: Path) -> Path:
    """The inputs, with a run folder and its checkpoint, which was never trained."""
    run = inputs / "runs" / "detect" / "train"
    (run / "weights").mkdir(parents=True)
    shutil.copyfile(weights, run / "weights" / "best.pt")
    shutil.copyfile(weights, inputs / "best.pt")
    shutil.copyfile(inputs / "results.csv", run / "results.csv")
    (run / "args.yaml").write_text(f"imgsz: 256\ndata: {inputs / 'dashcam' / 'data.yaml'}\n")
    return inputs


def run_commands(blocks: list[Block], folder: Path) -> None:
    """Run the commands of blocks in their order."""
    for block in blocks:
        for line in block.commands:
            text = line
            for long, short in SHORTER.items():
                text = text.replace(long, short)
            outcome = run_script(*shlex.split(text)[1:], cwd=folder)
            assert outcome.code == 0, f"{block.page}:{block.line}: {line}\n{outcome.stderr[-3000:]}"


def run_python(text: str, folder: Path) -> None:
    """Run Python as a script of a user, in a folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), "SHIFTSCOPE_RUNS": str(folder / "runs")},
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", pages_with("sh", slow=False))
def test_fast_commands_run(name: str, inputs: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(inputs, tmp_path / "work")
    run_commands(
        [b for b in BLOCKS if b.page == name and b.language == "sh" and b.run and not b.slow], folder
    )


@pytest.mark.parametrize("name", pages_with("python", slow=False))
def test_fast_python_runs(name: str, inputs: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(inputs, tmp_path / "work")
    for block in BLOCKS:
        if block.page == name and block.language == "python" and block.run and not block.slow:
            run_python(block.text, folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", pages_with("sh", slow=True))
def test_all_commands_of_a_page_run(name: str, inputs_with_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(inputs_with_run, tmp_path / "work")
    run_commands([b for b in BLOCKS if b.page == name and b.language == "sh" and b.run], folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", pages_with("python", slow=True))
def test_all_python_of_a_page_runs(name: str, inputs_with_run: Path, tmp_path: Path) -> None:
    """As one script, as a reader pastes it."""
    folder = shutil.copytree(inputs_with_run, tmp_path / "work")
    blocks = [b for b in BLOCKS if b.page == name and b.language == "python" and b.run]
    run_python("\n".join(block.text for block in blocks), folder)


def test_the_reference_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tools.command_line"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as forges form them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    readme = PAGES["README.md"].read_text(encoding="utf-8")
    assert not [file.name for file in (ROOT / "docs").glob("*.md") if f"(docs/{file.name})" not in readme]


def test_the_readme_fits_on_two_screens() -> None:
    lines = PAGES["README.md"].read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
def test_options_named_in_text_exist(path: Path) -> None:
    options = {
        text
        for command in typer.main.get_command(app).commands.values()
        for p in command.params
        for text in (*p.opts, *p.secondary_opts)
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", path.read_text(encoding="utf-8")))
    assert named - {option.strip() for option in options} <= {"--debug", "--help"}
