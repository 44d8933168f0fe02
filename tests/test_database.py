"""Faults of FiftyOne's database: a command works despite them, or names a remedy in one line within 10 s.

These tests start databases as FiftyOne does; they do not use the one that other tests share.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest

from reports.workbench import connection
from reports.workbench.connection import is_orphan, running_mongod
from tests.conftest import SCRIPT, free_port

pytestmark = pytest.mark.slow  # each starts FiftyOne in a process of its own

# Seconds within which a command must answer instead of hanging. Importing FiftyOne takes 3 to 6 of them on
# two idle cores, and several times as many on busy ones.
LIMIT = 60
KEEP_OPEN = """
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


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that ended and that nobody waits for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(process: psutil.Process) -> None:
    """End a process and all below it; any of them may end by itself meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose FiftyOne has never run; processes started in it are ended."""
    assert not services(), "end the FiftyOne that runs on this machine: these tests start their own"
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("FIFTYONE_DATABASE", "FIFTYONE_PRIVATE"))
    }
    for name in ("home", "runs", "tmp"):
        (tmp_path / name).mkdir()
    yield environment | {
        "HOME": str(tmp_path / "home"),
        "MPLCONFIGDIR": os.environ["MPLCONFIGDIR"],
        "FIFTYONE_DATABASE_DIR": str(tmp_path / "db"),
        "SHIFTSCOPE_RUNS": str(tmp_path / "runs"),
        "TMPDIR": str(tmp_path / "tmp"),
    }
    remaining = services()
    if (mongod := running_mongod(tmp_path / "db")) is not None:
        remaining.append(mongod)
    for process in remaining:
        end(process)
    psutil.wait_procs(remaining, timeout=60)


def test_a_process_that_ends_by_itself_is_ended_all_the_same() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = psutil.Process(child.pid)
    child.wait()
    end(process)
    assert not is_alive(process)


def test_a_mongod_that_ends_while_its_folder_is_checked_is_not_a_crash() -> None:
    ended = mock.Mock(cmdline=mock.Mock(side_effect=psutil.NoSuchProcess(1)))
    service = mock.Mock(children=mock.Mock(return_value=[ended]))
    odm = mock.Mock(_db_service=mock.Mock(child=service))
    connection._check_same_folder(mock.Mock(config=mock.Mock(database_dir="/db")), odm)
    assert ended.cmdline.called


def run_code(
    environment: dict[str, str], code: str = LIST, **more: str
) -> tuple[subprocess.CompletedProcess, float]:
    """Run Python code as that user; the process and its seconds."""
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    return process, time.monotonic() - started


def refused(process: subprocess.CompletedProcess, seconds: float) -> str:
    """The one line on stderr of a command that failed within the limit."""
    assert process.returncode == 3, (process.stdout, process.stderr[-2000:])
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, process.stderr[-2000:]
    assert lines[0].startswith("shiftscope: ")
    assert seconds < LIMIT, f"{seconds:.1f} s"
    return lines[0]


def open_database(environment: dict[str, str], seconds: float = 60) -> subprocess.Popen:
    """Start a process that keeps the database open."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEP_OPEN, str(seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready")
    return process


def test_three_processes_that_start_at_once_all_get_the_database(
    user: dict[str, str], tmp_path: Path
) -> None:
    processes = []
    for i in range(3):
        # Into files: a pipe would stay open in the mongod that one of them starts while another uses it.
        with (tmp_path / f"{i}.out").open("w") as out:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", KEEP_OPEN, "2"],
                    env=user | {"SHIFTSCOPE_RUNS": str(tmp_path / f"runs{i}")},
                    stdout=out,
                    cwd=Path(__file__).parents[1],
                )
            )
    assert [process.wait(timeout=900) for process in processes] == [0, 0, 0]
    assert all("ready" in (tmp_path / f"{i}.out").read_text() for i in range(3))


def test_an_orphaned_mongod_is_named(user: dict[str, str], tmp_path: Path) -> None:
    client = open_database(user)
    mongod = running_mongod(tmp_path / "db")
    assert mongod is not None
    assert not is_orphan(mongod)
    for process in [*mongod.parents(), psutil.Process(client.pid)]:
        if process.pid == client.pid or "--51-service" in process.cmdline():
            process.kill()
    client.wait()
    line = refused(*run_code(user))
    assert f"PID {mongod.pid}" in line
    assert f"kill {mongod.pid}" in line


def test_a_mongod_killed_in_use_ends_the_command_and_the_next_one_works(user: dict[str, str]) -> None:
    code = """
import os, signal, sys, time
from pathlib import Path
from datasets.errors import EnvironmentProblem
from reports.workbench.connection import database, running_mongod
try:
    with database() as fo:
        os.kill(running_mongod(Path(fo.config.database_dir)).pid, signal.SIGKILL)
        started = time.monotonic()
        fo.list_datasets()
except EnvironmentProblem as problem:
    print(f"{time.monotonic() - started:.1f}", problem)
with database() as fo:
    print("again", fo.list_datasets(), file=sys.__stdout__)
"""
    process, _ = run_code(user, code)
    assert process.returncode == 0, process.stderr[-2000:]
    first, second = [line for line in process.stdout.splitlines() if line[:1] in "0123456789a"]
    assert float(first.split()[0]) < LIMIT
    assert "database stopped answering" in first
    assert second == "again []"


def test_a_database_of_a_newer_fiftyone_is_not_changed(user: dict[str, str]) -> None:
    code = """
import fiftyone as fo, fiftyone.core.odm.database as d
fo.list_datasets()
d.get_db_conn().config.update_one({}, {"$set": {"version": "99.0.0"}})
"""
    assert run_code(user, code)[0].returncode == 0
    deadline = time.monotonic() + 300
    while services() and time.monotonic() < deadline:
        time.sleep(0.2)
    process, _ = run_code(user)
    assert process.returncode == 3
    assert "99.0.0" in process.stderr
    assert "FIFTYONE_DATABASE_NAME" in process.stderr


def test_the_database_of_another_folder_is_not_joined(user: dict[str, str], tmp_path: Path) -> None:
    client = open_database(user)
    line = refused(*run_code(user, FIFTYONE_DATABASE_DIR=str(tmp_path / "other")))
    assert str(tmp_path / "db") in line
    assert str(tmp_path / "other") in line
    client.send_signal(signal.SIGINT)
    client.wait(timeout=300)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mongodb://127.0.0.1:{port}", "no database answers at 127.0.0.1:"),
        ("127.0.0.1:{port}", "no database answers at 127.0.0.1:"),
        ("mongodb://user:secret@127.0.0.1:{port}", "no database answers at 127.0.0.1:"),
        ("http://127.0.0.1", "FIFTYONE_DATABASE_URI is malformed"),
        ("mongodb://localhost:27017x", "FIFTYONE_DATABASE_URI is malformed"),
    ],
)
def test_an_address_without_a_database_is_reported(user: dict[str, str], address: str, message: str) -> None:
    line = refused(*run_code(user, FIFTYONE_DATABASE_URI=address.format(port=free_port())))
    assert message in line
    assert "secret" not in line


def test_an_address_that_never_answers_is_reported(user: dict[str, str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        line = refused(
            *run_code(user, FIFTYONE_DATABASE_URI=f"mongodb://127.0.0.1:{silent.getsockname()[1]}")
        )
    assert "no database answers" in line


def test_a_folder_that_cannot_be_written_is_reported(user: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refused(*run_code(user, FIFTYONE_DATABASE_DIR=str(tmp_path / "file" / "db")))
    assert "FIFTYONE_DATABASE_DIR" in line


def test_a_mongod_that_cannot_run_is_reported(user: dict[str, str], tmp_path: Path) -> None:
    """A binary built for another system, whose libraries are missing."""
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "mongod"
    broken.write_text("#!/bin/sh\necho 'libcrypto.so.3: cannot open shared object file' >&2\nexit 127\n")
    broken.chmod(0o755)
    code = LIST.replace(
        "try:",
        f"import fiftyone.constants as foc\nfoc.FIFTYONE_DB_BIN_DIR = {str(tmp_path / 'bin')!r}\ntry:",
        1,
    )
    process, seconds = run_code(user, code)
    assert process.returncode == 3, process.stderr[-2000:]
    assert "mongod" in process.stderr
    assert "Traceback" not in process.stderr
    assert seconds < 2 * LIMIT


def test_a_full_disk_is_reported_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from collections import namedtuple

    from datasets.errors import EnvironmentProblem
    from reports.workbench import connection

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(connection.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5 * 10**6, 5 * 10**6))
    with pytest.raises(EnvironmentProblem, match=r"5 MB free, FiftyOne's database needs 100 MB"):
        connection.check_folder(tmp_path / "db")


def test_sigterm_ends_the_app_with_its_server_and_database(user: dict[str, str], tmp_path: Path) -> None:
    """Also while a browser keeps its event stream open."""
    code = """
from reports.workbench.connection import database
with database() as fo:
    fo.Dataset("empty", persistent=True)
"""
    assert run_code(user, code)[0].returncode == 0
    port = free_port()
    app = subprocess.Popen(
        [SCRIPT, "app", "empty", "--port", str(port)],
        env=user,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert app.stderr is not None
    assert any("FiftyOne App:" in line for line in app.stderr)
    processes = psutil.Process(app.pid).children(recursive=True)
    names = {word for process in processes if is_alive(process) for word in process.cmdline()}
    assert {"server", "db"} <= names
    listener = {"events": ["state_update"], "initializer": None, "subscription": "test", "polling": False}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/events",
        json.dumps(listener).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as stream:
        assert stream.status == 200
        app.terminate()
        assert app.wait(timeout=300) == 128 + signal.SIGTERM
        psutil.wait_procs(processes, timeout=300)
        assert [process for process in processes if is_alive(process)] == []


def test_an_occupied_port_is_not_joined(capsys: pytest.CaptureFixture[str]) -> None:
    from reports.progress import Reporter
    from reports.workbench.app import choose_port

    free = free_port()
    assert choose_port(free, Reporter()) == free
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = occupied.getsockname()[1]
        assert choose_port(port, Reporter()) not in (port, 0)
    assert re.search(rf"port {port} is in use", capsys.readouterr().err)
