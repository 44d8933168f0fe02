"""Connect to FiftyOne's database, or raise one line that names the reason, within seconds.

FiftyOne itself waits a minute for a mongod that has exited and half a minute for one that does not answer,
joins the database of another folder without notice, and reports none of these reasons. The checks here run
before it connects. Its waits are those of 1.22 (core/service.py, core/odm/database.py).
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

# Seconds. A database on this machine or in the same building answers within a fraction of this.
ANSWER_TIMEOUT = 3.0
# mongod allocates its journal in files of 100 MB.
MIN_FREE_MB = 100
# A start is tried again when another process was faster and its mongod can be joined.
START_ATTEMPTS = 3
START_TIMEOUT = 60.0
FALLBACK = "reports work without it: --no-fiftyone"
# Text in mongod's last error -> what to do about it.
REMEDIES = {
    "DBPathInUse": "another mongod uses it; end that one",
    "No space left": "its disk is full; free some space",
    "eature": "it was written by another version of MongoDB; set FIFTYONE_DATABASE_DIR to an empty folder",
    "Read-only file system": "it cannot be written; set FIFTYONE_DATABASE_DIR to a writable folder",
}
SERVICE_ARGUMENT = "--51-service"
# Entries of mongod's log that only report that it ended.
ABORT_LOG_IDS = (23091, 23092)


@contextlib.contextmanager
def _databricks_untold() -> Iterator[None]:
    """Hide Databricks' SDK, which MLflow brings, while FiftyOne is imported: it would import it, which takes
    two seconds, to say there that it is used.
    """
    name = "databricks.sdk"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # how Python marks a module that cannot be imported
    try:
        yield
    finally:
        del sys.modules[name]


@contextlib.contextmanager
def database() -> Iterator[Any]:
    """Import FiftyOne and connect it to a database that answers.

    Yields
    ------
    module
        The module fiftyone.

    Raises
    ------
    EnvironmentProblem
        The database does not start, does not answer, or stops answering in use. The message names a remedy.
    """
    # FiftyOne prints to stdout, which is reserved for data.
    with contextlib.redirect_stdout(sys.stderr):
        check_address(os.environ.get("FIFTYONE_DATABASE_URI"))
        # FiftyOne warns that MongoDB 6 is the oldest supported version. `make setup` installs that version
        # where no newer one is available.
        logging.getLogger("fiftyone.core.odm.database").setLevel(logging.ERROR)
        with _databricks_untold():
            import fiftyone as fo
        import fiftyone.core.odm.database as odm
        from pymongo.errors import ConnectionFailure

        fo.config.show_progress_bars = False
        logging.getLogger("fiftyone").setLevel(logging.WARNING)
        odm._connection_kwargs.setdefault("serverSelectionTimeoutMS", int(1000 * ANSWER_TIMEOUT))
        with _connection_errors():
            if _needs_service(fo, odm):
                check_folder(Path(fo.config.database_dir))
                # One process of a user starts the database at a time.
                with FileLock(user_file(".lock"), timeout=120):
                    _start_service(fo, odm)
                _check_same_folder(fo, odm)
            fo.list_datasets()
        try:
            yield fo
        except ConnectionFailure as error:
            _disconnect(odm)
            raise EnvironmentProblem(
                f"FiftyOne's database stopped answering ({_first_line(error)}); "
                f"run the same command again; {FALLBACK}"
            ) from None


@contextlib.contextmanager
def _connection_errors() -> Iterator[None]:
    """Turn every error that FiftyOne raises while it connects into an EnvironmentProblem."""
    try:
        yield
    except EnvironmentProblem:
        raise
    except ConnectionError as error:
        raise EnvironmentProblem(
            f"FiftyOne's database does not answer ({_first_line(error)}); run 'shiftscope doctor'; {FALLBACK}"
        ) from None
    except (Timeout, PermissionError) as error:
        raise EnvironmentProblem(
            f"{tempfile.gettempdir()}: the lock for FiftyOne's database cannot be taken "
            f"({_first_line(error)}); remove it, or set TMPDIR; {FALLBACK}"
        ) from None
    except OSError as error:
        # A newer FiftyOne wrote the database, and migrations do not go back (migrations/runner.py).
        raise EnvironmentProblem(
            f"{_first_line(error)}: install that version, or set FIFTYONE_DATABASE_NAME to a new name; "
            f"{FALLBACK}"
        ) from None
    except Exception as error:
        raise EnvironmentProblem(
            f"FiftyOne's database does not start ({_first_line(error)}); run 'shiftscope doctor'; {FALLBACK}"
        ) from None


def check_address(address: str | None) -> None:
    """Raise EnvironmentProblem when no database answers at an address such as FIFTYONE_DATABASE_URI.

    FiftyOne, whose import takes seconds, is not needed for this.
    """
    if not address:
        return
    import pymongo
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    try:
        # Messages name only the hosts: the rest of the address may hold a password.
        hosts = ", ".join(
            f"{host}:{port}"
            for host, port in parse_uri(address if "://" in address else f"mongodb://{address}")["nodelist"]
        )
    except (PyMongoError, ValueError) as error:
        raise EnvironmentProblem(
            f"FIFTYONE_DATABASE_URI is malformed ({_first_line(error)}); "
            "write mongodb://HOST:PORT, or unset it"
        ) from None
    wait = int(1000 * ANSWER_TIMEOUT)
    try:
        client: pymongo.MongoClient[Any] = pymongo.MongoClient(
            address, serverSelectionTimeoutMS=wait, connectTimeoutMS=wait, socketTimeoutMS=wait
        )
        with client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise EnvironmentProblem(
            f"no database answers at {hosts}, the address in FIFTYONE_DATABASE_URI "
            f"({type(error).__name__}); start it, or unset that variable; {FALLBACK}"
        ) from None


def _needs_service(fo: Any, odm: Any) -> bool:
    """Whether FiftyOne has to start or join a mongod of its own."""
    started = odm._db_service is not None or "FIFTYONE_PRIVATE_DATABASE_PORT" in os.environ
    return fo.config.database_uri is None and not started


def running_mongod(folder: Path) -> psutil.Process | None:
    """The running mongod that uses a database folder, by the process id in its lock file."""
    try:
        process = psutil.Process(int((folder / "mongod.lock").read_text()))
        return process if "mongod" in process.name() and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, psutil.Error):
        return None


def is_orphan(process: psutil.Process) -> bool:
    """Whether the service that started a mongod has ended, so that no program can join it."""
    try:
        return not any(SERVICE_ARGUMENT in parent.cmdline() for parent in process.parents())
    except psutil.Error:
        return False


def check_folder(folder: Path) -> None:
    """Raise EnvironmentProblem when a mongod cannot use a database folder: occupied, read-only or full."""
    mongod = running_mongod(folder)
    if mongod is not None and is_orphan(mongod):
        raise EnvironmentProblem(
            f"{folder}: a mongod whose FiftyOne has ended still uses this database (PID {mongod.pid}); "
            f"end it with 'kill {mongod.pid}'; {FALLBACK}"
        )
    existing = folder
    while not existing.exists():
        existing = existing.parent
    elsewhere = "set FIFTYONE_DATABASE_DIR to a writable folder"
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: FiftyOne's database cannot be written ({error.strerror}); {elsewhere}; {FALLBACK}"
        ) from None
    free = shutil.disk_usage(existing).free / 1e6
    if free < MIN_FREE_MB:
        raise EnvironmentProblem(
            f"{folder}: {free:.0f} MB free, FiftyOne's database needs {MIN_FREE_MB} MB to start; "
            f"free some space, or {elsewhere}; {FALLBACK}"
        )


def _start_service(fo: Any, odm: Any) -> None:
    """Start FiftyOne's own mongod, or join the one that another process of this user started.

    Raises EnvironmentProblem as soon as the started one has ended.
    """
    import fiftyone.core.service as service_module

    folder = Path(fo.config.database_dir)
    for _ in range(START_ATTEMPTS):
        with redirect_stderr(user_file(".log")), _socket_timeout():
            service = service_module.DatabaseService()
        port = _wait_for_port(service.child)
        if port is not None:
            odm._db_service = service
            odm._connection_kwargs["port"] = port
            os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(port)
            return
        service.stop()
        other = running_mongod(folder)
        if other is None or is_orphan(other):
            break
        time.sleep(1)
    reason = _mongod_error(folder, user_file(".log"))
    remedy = next((text for mark, text in REMEDIES.items() if mark in reason), "run 'shiftscope doctor'")
    raise EnvironmentProblem(
        f"{folder}: FiftyOne's mongod does not start: {remedy} "
        f"({reason or 'its log names no reason'}); {FALLBACK}"
    )


def _wait_for_port(child: psutil.Process) -> int | None:
    """Wait for the port at which a service's mongod answers; None as soon as the service has ended."""
    deadline = time.monotonic() + START_TIMEOUT
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
    """Whether a database answers at a port of this machine."""
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


def _check_same_folder(fo: Any, odm: Any) -> None:
    """Raise EnvironmentProblem when the mongod that was joined keeps its data in another folder."""
    expected = os.path.realpath(fo.config.database_dir)
    for process in odm._db_service.child.children(recursive=True):
        try:
            arguments = process.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "--dbpath" not in arguments:
            continue
        folder = arguments[arguments.index("--dbpath") + 1]
        if os.path.realpath(folder) != expected:
            _disconnect(odm)
            raise EnvironmentProblem(
                f"FiftyOne's database runs from {folder} already (PID {process.pid}), not from {expected}, "
                "and a user has one at a time; end that program, or give both the same "
                f"FIFTYONE_DATABASE_DIR; {FALLBACK}"
            )


def _disconnect(odm: Any) -> None:
    """Drop the connection to a database that has ended; FiftyOne would wait for it at exit."""
    atexit.unregister(odm._delete_non_persistent_datasets_if_allowed)
    with contextlib.suppress(Exception):
        odm._disconnect()
    odm._db_service = None
    odm._connection_kwargs.pop("port", None)
    os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)


def user_file(suffix: str) -> Path:
    """A file that all processes of this user share, in a private temporary folder.

    Raises PermissionError when that folder belongs to another user.
    """
    folder = Path(tempfile.gettempdir()) / f"shiftscope-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder / f"fiftyone{suffix}"


def _mongod_error(folder: Path, service_log: Path) -> str:
    """The first error in mongod's log, or the end of its stderr when it wrote no log; "" without either."""
    try:
        text = (folder / "log" / "mongo.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            if entry["s"] in ("E", "F") and entry["id"] not in ABORT_LOG_IDS:
                details = entry.get("attr", {})
                return f"{entry['msg']} {details.get('error', '')} {details.get('message', '')}".strip()[:200]
        except (ValueError, KeyError, TypeError):
            continue
    with contextlib.suppress(OSError):
        return " ".join(service_log.read_text(encoding="utf-8", errors="replace").split()[-25:])
    return ""


def _first_line(error: BaseException) -> str:
    """The first line of an error, without pymongo's description of the topology."""
    text = str(error).strip().splitlines()
    return text[0].split(" (configured")[0].split(", Timeout:")[0][:200] if text else type(error).__name__


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    """Limit every wait on a socket: FiftyOne joins a running service without one (service/ipc.py)."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(ANSWER_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def redirect_stderr(path: Path) -> Iterator[None]:
    """Write to a file what child processes started meanwhile would print to stderr."""
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with path.open("wb") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
