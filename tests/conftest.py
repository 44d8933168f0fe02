"""Shared fixtures: an isolated folder for everything our dependencies write, one database for all tests, two
runs of the main job.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from hypothesis import settings
from playwright.sync_api import Browser, Page, sync_playwright

# Before anything imports ultralytics or fiftyone: see train/environment.py.
_SANDBOX = Path(tempfile.mkdtemp(prefix="shiftscope-tests-"))
atexit.register(shutil.rmtree, _SANDBOX, ignore_errors=True)
os.environ["SHIFTSCOPE_RUNS"] = str(_SANDBOX / "runs")
os.environ["YOLO_CONFIG_DIR"] = str(_SANDBOX / "runs" / ".ultralytics")
os.environ["MPLCONFIGDIR"] = str(_SANDBOX / "matplotlib")
os.environ["FIFTYONE_DATABASE_NAME"] = "shiftscope_tests"
os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"
# Compiling takes longer than the few images that most tests predict. The demo's report, test_quick.py and the
# run that is killed have OpenVINO.
os.environ["SHIFTSCOPE_BACKEND"] = "torch"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each of several processes has one core: two that each start a thread a core wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import train  # noqa: E402, F401
from tests.warm import WarmScript  # noqa: E402

WARM = WarmScript()

# A shell starts background jobs with Ctrl-C ignored, which the processes under test would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is slow: that is no failure of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# Groups of tests in the order in which they begin.
ORDER = {"demo": 0, "small": 1}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SCRIPT = str(Path(sys.executable).with_name("shiftscope"))


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores, at most four: tests wait for starts, browsers and databases a quarter of
    their time. Each process has a database and a browser of its own.
    """
    return min((os.cpu_count() or 1) + 1, 4)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test of the demo waits for its training: it is slow wherever it stands. Of several processes, one
    runs all tests of the demo, and every other file runs in one of them, so that nothing shared is made
    twice.
    """
    for item in items:
        if isinstance(item, pytest.Function):
            if _shared_report(item) == "demo":
                item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group(_group(item)))
    # The longest first, by their slow tests: the others fill the time that is left.
    slow = Counter(_group(item) for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (ORDER.get(_shared_report(item), len(ORDER)), -slow[_group(item)]))


class _Failures:
    """Names every failure at once: a run that is stopped never comes to its summary."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self.reporter = reporter

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = f": {crash.message.splitlines()[0]}" if crash is not None and crash.message else ""
            self.reporter.write_line(f"\n{report.when} of {report.nodeid} failed{why}", red=True)


@pytest.hookimpl(trylast=True)  # after the one that makes the reporter
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(_Failures(reporter))


def _group(item: pytest.Item) -> str:
    """The tests that run in one process: those of a shared report, or those of a file."""
    return _shared_report(item) or item.path.stem


def _shared_report(item: pytest.Item) -> str:
    """Which of the two reports a test waits for; empty for none."""
    if not isinstance(item, pytest.Function):
        return ""
    if "job" in item.fixturenames and hasattr(item, "callspec"):
        return str(item.callspec.params.get("job", ""))
    return "demo" if "main_job" in item.fixturenames else "small" if "small_job" in item.fixturenames else ""


@pytest.fixture(scope="session", autouse=True)
def database() -> Iterator[str]:
    """A mongod of the tests' own: two processes would otherwise share whatever database this user already
    runs. FiftyOne connects when it is imported, so it is there before the first test.
    """
    from reports.commands.doctor import mongod_path

    binary = mongod_path()
    assert binary is not None, "mongod is missing: run make setup"
    folder = _SANDBOX / "mongo"
    folder.mkdir()
    port = free_port()
    command = [
        str(binary),
        "--dbpath",
        str(folder),
        "--port",
        str(port),
        "--bind_ip",
        "127.0.0.1",
        "--nounixsocket",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    uri = f"mongodb://127.0.0.1:{port}"
    os.environ["FIFTYONE_DATABASE_URI"] = uri
    yield uri
    process.terminate()
    process.wait(timeout=30)


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str
    seconds: float


def run_script(
    *arguments: str, cwd: Path, timeout: float = 3400, fresh: bool = False, **environment: str
) -> Outcome:
    """The console script in a process of its own; ultralytics behaves differently inside pytest's. fresh: as
    people call it, and not forked from a process that has imported what takes long.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    variables = {**inherited, "SHIFTSCOPE_RUNS": str(cwd / "runs"), **environment}
    begin = time.monotonic()
    if not fresh and WARM.fits(variables):
        return Outcome(*WARM.run(arguments, cwd, variables, timeout), time.monotonic() - begin)
    done = subprocess.run(
        [SCRIPT, *arguments],
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - begin)


def run_in_process(*arguments: str, cwd: Path, **environment: str) -> Outcome:
    """The console script's entry point in this process: for what it refuses, which needs no process of its
    own.
    """
    from reports.cli import main

    out, err = io.StringIO(), io.StringIO()
    begin = time.monotonic()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["shiftscope", *arguments])
        for name, value in {"SHIFTSCOPE_RUNS": str(cwd / "runs"), **environment}.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    return Outcome(int(code or 0), out.getvalue(), err.getvalue(), time.monotonic() - begin)


def untrained(path: Path, sure: float) -> Path:
    """A checkpoint that was never trained: its boxes mean nothing. sure: pushes its class logits up, so that
    boxes pass the confidence floor.
    """
    import torch
    from ultralytics import YOLO

    from train.recipe import ARCHITECTURE

    torch.manual_seed(0)
    model = YOLO(str(ARCHITECTURE))
    model.model.names = {0: "pothole"}
    for branch in model.model.model[-1].cv3:
        branch[-1].bias.data += sure
    model.save(str(path))
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint with many boxes at confidence .001."""
    return untrained(tmp_path_factory.mktemp("weights") / "best.pt", 4.0)


@pytest.fixture(scope="session")
def varied_weights(weights: Path) -> Path:
    """An untrained checkpoint whose cells are not all equally sure, so that suppression has an order."""
    import torch
    from ultralytics import YOLO

    model = YOLO(str(weights))
    torch.manual_seed(1)
    for branch in model.model.model[-1].cv3:
        branch[-1].weight.data.normal_(0, 0.2)
    model.model.train()
    with torch.no_grad():
        for _ in range(60):
            model.model(torch.rand(2, 3, 64, 64))
    path = weights.with_name("varied.pt")
    model.save(str(path))
    return path


def complaint(outcome: Outcome) -> str:
    """The one line that a refused command leaves behind."""
    assert "Traceback" not in outcome.stderr
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("shiftscope: ")]
    assert len(lines) == 1, outcome.stderr
    return lines[0]


@dataclass(frozen=True)
class MainJob:
    """A written report, made once for all tests of its result.

    trained: what the call that trained the detector said; empty where none was trained
    """

    cwd: Path
    folder: Path
    outcome: Outcome
    record: dict
    trained: str = ""


def _claim(folder: Path) -> bool:
    """Keep other sessions out of a folder until this process ends; whether that was possible."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    atexit.register(lock.release)
    return True


@pytest.fixture(scope="session")
def main_job(database: str, pytestconfig: pytest.Config) -> MainJob:
    """`shiftscope report` without arguments, training included. What is rendered and trained is kept between
    sessions, in folders named by a key of everything that it is made from.
    """
    cwd = pytestconfig.rootpath / ".pytest_cache" / "demo"
    cwd.mkdir(parents=True, exist_ok=True)
    if not _claim(cwd):
        # Another session of tests is there.
        cwd = _SANDBOX / "demo"
        cwd.mkdir()
    for path in (cwd / "runs").glob("*"):
        if path.name not in ("demo", "train"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    outcome = run_script("report", cwd=cwd, fresh=True, SHIFTSCOPE_BACKEND="")
    assert outcome.code == 0, outcome.stderr[-3000:]
    log = cwd / "trained.log"
    if "epoch 1 of" in outcome.stderr:
        log.write_text(outcome.stderr, encoding="utf-8")
    folder = next((cwd / "runs" / "report").glob("*/report.json")).parent
    record = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return MainJob(cwd, folder, outcome, record, log.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def small_job(database: str, weights: Path) -> MainJob:
    """The main job on something small: an untrained detector on a few rendered clips."""
    from datasets.world import DASHCAM, DRONE, Plan, build_world

    cwd = _SANDBOX / "small"
    list(build_world(cwd / "dashcam", Plan(DASHCAM, {"train": (2, 3), "val": (6, 3)}, seed=1)))
    list(build_world(cwd / "drone", Plan(DRONE, {"val": (6, 3)}, seed=2)))
    (cwd / "run" / "weights").mkdir(parents=True)
    shutil.copyfile(weights, cwd / "run" / "weights" / "best.pt")
    data = cwd / "dashcam" / "data.yaml"
    (cwd / "run" / "args.yaml").write_text(f"imgsz: 224\ndata: {data}\n", encoding="utf-8")
    outcome = run_script(
        "report", "--run", "run", "--in-domain", "dashcam=dashcam", "--real-world", "drone=drone", "--conf", "0.05",
        cwd=cwd, fresh=True,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr[-3000:]
    folder = next((cwd / "runs" / "report").glob("*/report.json")).parent
    return MainJob(cwd, folder, outcome, json.loads((folder / "report.json").read_text(encoding="utf-8")))


@pytest.fixture(params=["small", pytest.param("demo", marks=pytest.mark.slow)])
def job(request: pytest.FixtureRequest) -> MainJob:
    """Each of the two reports."""
    made: MainJob = request.getfixturevalue({"small": "small_job", "demo": "main_job"}[request.param])
    return made


def chromium(own: str) -> str:
    """A browser on this machine, else Playwright's own download; `tools/browser.sh` installs one. own: where
    Playwright keeps it.
    """
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), own)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = chromium(playwright.chromium.executable_path)
        assert Path(path).exists(), "no browser for the tests: run sh tools/browser.sh"
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


def opened(
    browser: Browser,
    job: MainJob | Path,
    *,
    width: int,
    height: int = 800,
    scheme: str = "light",
    axe: bool = False,
) -> tuple[Page, list[str]]:
    """The report from file://, with every request but its own file refused and all complaints collected."""
    # axe puts its script into the page, which the page's own policy refuses.
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=axe
    )
    page = context.new_page()
    trouble: list[str] = []
    page.on(
        "console",
        lambda message: trouble.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.route(
        "**/*",
        lambda route: (
            route.continue_()
            if route.request.url.startswith(("file:", "data:"))
            else (trouble.append(route.request.url), route.abort())
        ),
    )
    page.goto((job if isinstance(job, Path) else job.folder / "report.html").as_uri())
    return page, trouble
