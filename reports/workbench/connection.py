"""A FiftyOne whose database answers, or one line that says why not, within seconds.

FiftyOne waits a minute for a mongod that is dead already, half a minute for one that is gone, joins another folder's without a word, and says none of the reasons.
What is asked here beforehand is cheap; the waits are those of 1.22 (core/service.py, core/odm/database.py).
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from datasets.errors import EnvironmentProblem

# A database on this machine, or in the same house, answers within a fraction of this.
PATIENCE = 3.0
# mongod's journal takes files of 100 MB at a time.
RESERVE_MB = 100
# How often a start is tried again when another process was quicker and its mongod can be joined.
STARTS = 3
SLOWEST_START = 60.0
OTHERWISE = "reports work without it: --no-fiftyone"
# What mongod writes when it gives up, and what to do.
CURES = {
    "DBPathInUse": "another mongod holds it; end that one",
    "No space left": "its disk is full; free some space",
    "eature": "it was written by another version of MongoDB; set FIFTYONE_DATABASE_DIR to an empty folder",
    "Read-only file system": "it cannot be written; set FIFTYONE_DATABASE_DIR to a folder you may write to",
}
SERVICE = "--51-service"
# Entries of mongod's log that say only that it ended.
ABORTED = (23091, 23092)


@contextlib.contextmanager
def database() -> Iterator[Any]:
    """FiftyOne with a database that answers; one process of a user starts it at a time.

    Raises EnvironmentProblem with the cure when it does not, also where it goes away while it is used.
    """
    # FiftyOne speaks on stdout, which is for data.
    with contextlib.redirect_stdout(sys.stderr):
        check_address(os.environ.get("FIFTYONE_DATABASE_URI"))
        # Its notice that MongoDB 6 is the oldest supported version is expected: make setup installs that one where no other is to be had.
        logging.getLogger("fiftyone.core.odm.database").setLevel(logging.ERROR)
        import fiftyone as fo
        import fiftyone.core.odm.database as odm
        from pymongo.errors import ConnectionFailure

        fo.config.show_progress_bars = False
        logging.getLogger("fiftyone").setLevel(logging.WARNING)
        odm._connection_kwargs.setdefault("serverSelectionTimeoutMS", int(1000 * PATIENCE))
        with connecting():
            if _needs_service(fo, odm):
                check_folder(Path(fo.config.database_dir))
                with FileLock(of_user(".lock"), timeout=120):
                    start(fo, odm)
                _check_shared(fo, odm)
            fo.list_datasets()
        try:
            yield fo
        except ConnectionFailure as error:
            _forget(odm)
            raise EnvironmentProblem(
                f"FiftyOne's database has gone ({_one_line(error)}); run the same command again; {OTHERWISE}"
            ) from None


@contextlib.contextmanager
def connecting() -> Iterator[None]:
    """Turn what FiftyOne raises while it connects, some of it bare, into an EnvironmentProblem."""
    try:
        yield
    except EnvironmentProblem:
        raise
    except ConnectionError as error:
        raise EnvironmentProblem(
            f"FiftyOne's database does not answer ({_one_line(error)}); run 'shiftscope doctor'; {OTHERWISE}"
        ) from None
    except (Timeout, PermissionError) as error:
        raise EnvironmentProblem(
            f"{tempfile.gettempdir()}: cannot be used to start FiftyOne's database one at a time ({_one_line(error)}); remove it, or set TMPDIR; {OTHERWISE}"
        ) from None
    except OSError as error:
        # A database that a newer FiftyOne has written: its migrations refuse to go back (migrations/runner.py).
        raise EnvironmentProblem(
            f"{_one_line(error)}: install that one, or set FIFTYONE_DATABASE_NAME to a new name; {OTHERWISE}"
        ) from None
    except Exception as error:
        raise EnvironmentProblem(
            f"FiftyOne's database does not start ({_one_line(error)}); run 'shiftscope doctor'; {OTHERWISE}"
        ) from None


def check_address(address: str | None) -> None:
    """Raise EnvironmentProblem when nothing answers at FIFTYONE_DATABASE_URI. Before FiftyOne is imported, which takes seconds."""
    if not address:
        return
    import pymongo
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    try:
        # Only the hosts are ever shown: the rest may hold a password.
        hosts = ", ".join(
            f"{host}:{port}"
            for host, port in parse_uri(address if "://" in address else f"mongodb://{address}")["nodelist"]
        )
    except (PyMongoError, ValueError) as error:
        raise EnvironmentProblem(
            f"FIFTYONE_DATABASE_URI is malformed ({_one_line(error)}); write mongodb://HOST:PORT, or unset it"
        ) from None
    wait = int(1000 * PATIENCE)
    try:
        client: pymongo.MongoClient[Any] = pymongo.MongoClient(
            address, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait, socketTimeoutMS=wait
        )
        with client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise EnvironmentProblem(
            f"no database answers at {hosts}, which FIFTYONE_DATABASE_URI names ({type(error).__name__}); start it, or unset that; {OTHERWISE}"
        ) from None


def _needs_service(fo: Any, odm: Any) -> bool:
    """Whether FiftyOne would have to start, or join, a mongod of its own."""
    started = odm._db_service is not None or "FIFTYONE_PRIVATE_DATABASE_PORT" in os.environ
    return fo.config.database_uri is None and not started


def holder(folder: Path) -> psutil.Process | None:
    """The living mongod that holds a database folder, by the number it leaves there."""
    try:
        process = psutil.Process(int((folder / "mongod.lock").read_text()))
        return process if "mongod" in process.name() and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, psutil.Error):
        return None


def is_orphan(process: psutil.Process) -> bool:
    """Whether the service that started a mongod has ended: then nothing can join it any more."""
    try:
        return not any(SERVICE in parent.cmdline() for parent in process.parents())
    except psutil.Error:
        return False


def check_folder(folder: Path) -> None:
    """Raise EnvironmentProblem when no mongod could work in a database folder."""
    held = holder(folder)
    if held is not None and is_orphan(held):
        raise EnvironmentProblem(
            f"{folder}: a mongod whose FiftyOne has ended still holds this database (PID {held.pid}); end it with 'kill {held.pid}'; {OTHERWISE}"
        )
    there = folder
    while not there.exists():
        there = there.parent
    elsewhere = "set FIFTYONE_DATABASE_DIR to a folder you may write to"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: FiftyOne's database cannot be written there ({error.strerror}); {elsewhere}; {OTHERWISE}"
        ) from None
    free = shutil.disk_usage(there).free / 1e6
    if free < RESERVE_MB:
        raise EnvironmentProblem(
            f"{folder}: {free:.0f} MB free, FiftyOne's database needs {RESERVE_MB} to start; free some, or {elsewhere}; {OTHERWISE}"
        )


def start(fo: Any, odm: Any) -> None:
    """Start FiftyOne's own mongod, or join the one that another process of this user started. Raises EnvironmentProblem as soon as it has ended."""
    import fiftyone.core.service as service_module

    folder = Path(fo.config.database_dir)
    for _ in range(STARTS):
        with stderr_to(of_user(".log")), patience():
            service = service_module.DatabaseService()
        port = _listening(service.child)
        if port is not None:
            odm._db_service = service
            odm._connection_kwargs["port"] = port
            os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(port)
            return
        service.stop()
        other = holder(folder)
        if other is None or is_orphan(other):
            break
        time.sleep(1)
    reason = _last_words(folder, of_user(".log"))
    cure = next((words for mark, words in CURES.items() if mark in reason), "run 'shiftscope doctor'")
    raise EnvironmentProblem(
        f"{folder}: FiftyOne's mongod does not start: {cure} ({reason or 'it left no reason in its log'}); {OTHERWISE}"
    )


def _listening(child: psutil.Process) -> int | None:
    """The port at which a service's mongod answers; None as soon as the service has ended."""
    deadline = time.monotonic() + SLOWEST_START
    while time.monotonic() < deadline:
        try:
            if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE:
                return None
            for process in child.children(recursive=True):
                for connection in process.net_connections(kind="tcp"):
                    if connection.status == psutil.CONN_LISTEN and _answers(connection.laddr.port):
                        return int(connection.laddr.port)
        except psutil.NoSuchProcess:
            pass
        except psutil.AccessDenied:
            return None
        time.sleep(0.1)
    return None


def _answers(port: int) -> bool:
    """Whether a database speaks at a port of this machine."""
    import pymongo
    from pymongo.errors import PyMongoError

    try:
        client: pymongo.MongoClient[Any] = pymongo.MongoClient(
            "127.0.0.1", port, serverSelectionTimeoutMS=1000
        )
        with client:
            client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _check_shared(fo: Any, odm: Any) -> None:
    """Raise EnvironmentProblem when the mongod that was joined keeps another folder than ours: what is written would be elsewhere."""
    mine = os.path.realpath(fo.config.database_dir)
    for process in odm._db_service.child.children(recursive=True):
        line = process.cmdline()
        if "--dbpath" in line and os.path.realpath(line[line.index("--dbpath") + 1]) != mine:
            _forget(odm)
            raise EnvironmentProblem(
                f"FiftyOne's database runs from {line[line.index('--dbpath') + 1]} already (PID {process.pid}), not from {mine}, and a user has one at a time; end that program, or give both the same FIFTYONE_DATABASE_DIR; {OTHERWISE}"
            )


def _forget(odm: Any) -> None:
    """Let go of a database that is gone; FiftyOne would wait for it at exit, and go on asking at its port."""
    atexit.unregister(odm._delete_non_persistent_datasets_if_allowed)
    with contextlib.suppress(Exception):
        odm._disconnect()
    odm._db_service = None
    odm._connection_kwargs.pop("port", None)
    os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)


def of_user(suffix: str) -> Path:
    """A file that all processes of this user share, in a temporary folder that is this user's alone. Raises PermissionError when somebody else made that."""
    folder = Path(tempfile.gettempdir()) / f"shiftscope-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder / f"fiftyone{suffix}"


def _last_words(folder: Path, service: Path) -> str:
    """Why mongod ended: the first error in its log; without a log, what it said on stderr when it could not even start."""
    try:
        text = (folder / "log" / "mongo.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            if entry["s"] in ("E", "F") and entry["id"] not in ABORTED:
                details = entry.get("attr", {})
                return f"{entry['msg']} {details.get('error', '')} {details.get('message', '')}".strip()[:200]
        except (ValueError, KeyError, TypeError):
            continue
    with contextlib.suppress(OSError):
        return " ".join(service.read_text(encoding="utf-8", errors="replace").split()[-25:])
    return ""


def _one_line(error: BaseException) -> str:
    """What an error says, without pymongo's description of the whole topology."""
    text = str(error).strip().splitlines()
    return text[0].split(" (configured")[0].split(", Timeout:")[0][:200] if text else type(error).__name__


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Let no connection wait for ever: joining a service that is just ending asks it for an answer without a limit (service/ipc.py)."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def stderr_to(path: Path) -> Iterator[None]:
    """Send what a child process would write on our stderr to a file."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with path.open("wb") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
