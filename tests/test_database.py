"""FiftyOne's database in trouble: it works all the same, or one line says what is wrong and what to do, within ten seconds.

These tests start databases as FiftyOne does, not on the one that other tests share.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reports.workbench.connection import holder, is_orphan
from tests.conftest import free_port

# From the command to its one line. Importing FiftyOne alone takes three to six of these seconds on two cores.
LIMIT = 10
HOLD = """
import sys, time
from reports.workbench.connection import database
with database() as fo:
    print("ready", fo.list_datasets(), file=sys.__stdout__, flush=True)
    time.sleep(float(sys.argv[1]))
"""
LIST = """
import sys, train
from datasets.errors import EnvironmentProblem
from reports.workbench.connection import database
try:
    with database() as fo:
        print("open", sorted(fo.list_datasets()), file=sys.__stdout__)
except EnvironmentProblem as problem:
    print(f"shiftscope: {problem}", file=sys.stderr)
    sys.exit(3)
"""


def services() -> list[psutil.Process]:
    """FiftyOne's database services on this machine."""
    return [
        p for p in psutil.process_iter(["cmdline"]) if "--51-service db" in " ".join(p.info["cmdline"] or ())
    ]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose FiftyOne has never run; whatever is started in it is ended."""
    assert not services(), "end the FiftyOne that runs on this machine: these tests start their own"
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("FIFTYONE_DATABASE", "FIFTYONE_PRIVATE"))
    }
    for name in ("in_domain", "runs", "tmp"):
        (tmp_path / name).mkdir()
    yield environment | {
        "HOME": str(tmp_path / "in_domain"),
        "MPLCONFIGDIR": os.environ["MPLCONFIGDIR"],
        "FIFTYONE_DATABASE_DIR": str(tmp_path / "db"),
        "SHIFTSCOPE_RUNS": str(tmp_path / "runs"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    left = services()
    if (held := holder(tmp_path / "db")) is not None:
        left.append(held)
    for process in left:
        for child in [*process.children(recursive=True), process]:
            child.kill()
    psutil.wait_procs(left, timeout=10)


def ask(
    environment: dict[str, str], code: str = LIST, **more: str
) -> tuple[subprocess.CompletedProcess, float]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    return done, time.monotonic() - started


def refused(done: subprocess.CompletedProcess, seconds: float) -> str:
    """The one line on stderr of a command that ended in time."""
    assert done.returncode == 3, (done.stdout, done.stderr[-2000:])
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr[-2000:]
    assert lines[0].startswith("shiftscope: ")
    assert seconds < LIMIT, f"{seconds:.1f} s"
    return lines[0]


def hold(environment: dict[str, str], seconds: float = 60) -> subprocess.Popen:
    """A process that has the database open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready")
    return process


def test_three_that_start_at_once_all_get_their_database(place: dict[str, str], tmp_path: Path) -> None:
    started = time.monotonic()
    processes = []
    for i in range(3):
        # Into files: a pipe would stay open in the mongod that one of them starts, for as long as another uses it.
        with (tmp_path / f"{i}.out").open("w") as out:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", HOLD, "2"],
                    env=place | {"SHIFTSCOPE_RUNS": str(tmp_path / f"runs{i}")},
                    stdout=out,
                    cwd=Path(__file__).parents[1],
                )
            )
    assert [process.wait(timeout=90) for process in processes] == [0, 0, 0]
    assert all("ready" in (tmp_path / f"{i}.out").read_text() for i in range(3))
    assert time.monotonic() - started < 60


def test_a_mongod_left_behind_is_named(place: dict[str, str], tmp_path: Path) -> None:
    client = hold(place)
    mongod = holder(tmp_path / "db")
    assert mongod is not None
    assert not is_orphan(mongod)
    for process in [*mongod.parents(), psutil.Process(client.pid)]:
        if process.pid == client.pid or "--51-service" in process.cmdline():
            process.kill()
    client.wait()
    line = refused(*ask(place))
    assert f"PID {mongod.pid}" in line
    assert f"kill {mongod.pid}" in line


def test_a_mongod_killed_in_use_ends_the_use_and_the_next_one_works(place: dict[str, str]) -> None:
    code = """
import os, signal, sys, time
from pathlib import Path
from datasets.errors import EnvironmentProblem
from reports.workbench.connection import database, holder
try:
    with database() as fo:
        os.kill(holder(Path(fo.config.database_dir)).pid, signal.SIGKILL)
        started = time.monotonic()
        fo.list_datasets()
except EnvironmentProblem as problem:
    print(f"{time.monotonic() - started:.1f}", problem)
with database() as fo:
    print("again", fo.list_datasets(), file=sys.__stdout__)
"""
    done, _ = ask(place, code)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = [line for line in done.stdout.splitlines() if line[:1] in "0123456789a"]
    assert float(first.split()[0]) < LIMIT
    assert "database has gone" in first
    assert second == "again []"


def test_a_database_of_a_newer_fiftyone_is_left_alone(place: dict[str, str]) -> None:
    code = """
import fiftyone as fo, fiftyone.core.odm.database as d
fo.list_datasets()
d.get_db_conn().config.update_one({}, {"$set": {"version": "99.0.0"}})
"""
    assert ask(place, code)[0].returncode == 0
    deadline = time.monotonic() + 20
    while services() and time.monotonic() < deadline:
        time.sleep(0.2)
    done, _ = ask(place)
    assert done.returncode == 3
    assert "99.0.0" in done.stderr
    assert "FIFTYONE_DATABASE_NAME" in done.stderr


def test_another_folders_database_is_not_joined(place: dict[str, str], tmp_path: Path) -> None:
    client = hold(place)
    line = refused(*ask(place, FIFTYONE_DATABASE_DIR=str(tmp_path / "other")))
    assert str(tmp_path / "db") in line
    assert str(tmp_path / "other") in line
    client.send_signal(signal.SIGINT)
    client.wait(timeout=30)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mongodb://127.0.0.1:{port}", "no database answers at 127.0.0.1:"),
        ("127.0.0.1:{port}", "no database answers at 127.0.0.1:"),
        ("mongodb://user:secret@127.0.0.1:{port}", "no database answers at 127.0.0.1:"),
        ("http://127.0.0.1", "FIFTYONE_DATABASE_URI is malformed"),
        ("mongodb://localhost:27017x", "FIFTYONE_DATABASE_URI is malformed"),
    ],
)
def test_an_address_without_a_database(place: dict[str, str], address: str, words: str) -> None:
    line = refused(*ask(place, FIFTYONE_DATABASE_URI=address.format(port=free_port())))
    assert words in line
    assert "secret" not in line


def test_an_address_that_never_answers(place: dict[str, str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        line = refused(*ask(place, FIFTYONE_DATABASE_URI=f"mongodb://127.0.0.1:{silent.getsockname()[1]}"))
    assert "no database answers" in line


def test_a_folder_that_cannot_be_written(place: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused(*ask(place, FIFTYONE_DATABASE_DIR=str(tmp_path / "file" / "db")))
    assert "FIFTYONE_DATABASE_DIR" in line


def test_a_mongod_that_cannot_run_says_so(place: dict[str, str], tmp_path: Path) -> None:
    """A binary for another system, as on a distribution without its libraries."""
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "mongod"
    broken.write_text("#!/bin/sh\necho 'libcrypto.so.3: cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    code = LIST.replace(
        "try:",
        f"import fiftyone.constants as foc\nfoc.FIFTYONE_DB_BIN_DIR = {str(tmp_path / 'bin')!r}\ntry:",
        1,
    )
    done, seconds = ask(place, code)
    assert done.returncode == 3, done.stderr[-2000:]
    assert "mongod" in done.stderr
    assert "Traceback" not in done.stderr
    assert seconds < 2 * LIMIT


def test_a_full_disk_is_told_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from collections import namedtuple

    from datasets.errors import EnvironmentProblem
    from reports.workbench import connection

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(connection.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5 * 10**6, 5 * 10**6))
    with pytest.raises(EnvironmentProblem, match=r"5 MB free, FiftyOne's database needs 100"):
        connection.check_folder(tmp_path / "db")


def test_a_taken_port_is_not_joined(capsys: pytest.CaptureFixture[str]) -> None:
    from reports.progress import Reporter
    from reports.workbench.app import port_for

    free = free_port()
    assert port_for(free, Reporter()) == free
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port_for(port, Reporter()) not in (port, 0)
    assert re.search(rf"port {port} is taken", capsys.readouterr().err)
