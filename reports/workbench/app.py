"""Open the FiftyOne App on a report's dataset, and end its server with the command."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from datasets.errors import EnvironmentProblem
from reports.progress import Reporter
from reports.workbench.connection import SERVICE_ARGUMENT, database, redirect_stderr, user_file
from reports.workbench.views import ADDRESS, DRAFTS, FALSE_POSITIVES, WORKSPACE, address, slug
from train.environment import runs_folder

# Seconds. An idle server exits within one; an open event stream of a browser delays that. It has nothing to
# lose: the database is a process of its own.
STOP_TIMEOUT = 2.0
# Seconds. FiftyOne itself gives its server a minute, which imports alone can take when two other jobs share
# two cores.
START_TIMEOUT = 300.0


def open_app(name: str, reporter: Reporter, *, port: int, wait: bool) -> str:
    """Open the App on a dataset: a report's false positives and workspace, or the drafts of a review.

    The server listens on the loopback address, because the App has no login.

    Parameters
    ----------
    name : str
        Name of the dataset.
    reporter : Reporter
        Prints the address.
    port : int
        Preferred port; another one is used when it is occupied.
    wait : bool
        Return only after Ctrl-C or when the server exits.

    Returns
    -------
    str
        The address of the App. Its server has ended.

    Raises
    ------
    EnvironmentProblem
        The database or the server does not answer.
    SystemExit
        SIGTERM arrived. The server has ended.
    """
    reporter.say("Opening FiftyOne ...")
    with database() as fo:
        import fiftyone.core.service as service

        _install_plugin(fo)
        port = choose_port(port, reporter)
        dataset = fo.load_dataset(name)
        views = dataset.list_saved_views()
        query = [f"view={slug(view)}" for view in (FALSE_POSITIVES, DRAFTS) if view in views]
        query += [f"workspace={WORKSPACE}"] * dataset.has_workspace(WORKSPACE)
        url = address(name, port) + ("?" + "&".join(query) if query else "")

        class Server(service.ServerService):  # type: ignore[misc]  # FiftyOne has no types
            def _wait_for_child_port(self, port: int | None = None, timeout: float = START_TIMEOUT) -> Any:
                return super()._wait_for_child_port(port, timeout)

        with _server_ends():
            # Not a session: its view would replace the view that an address names.
            try:
                with redirect_stderr(user_file("-app.log")):
                    server = Server(port, address=ADDRESS, do_not_track=True)
            except service.ServiceListenTimeout:
                raise EnvironmentProblem(
                    f"FiftyOne's server does not answer at port {port} within {START_TIMEOUT:.0f} s; "
                    f"run the same command again, and see {user_file('-app.log')}"
                ) from None
            if os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32"):
                webbrowser.open(url)
            reporter.say(f"FiftyOne App: {url}  (Ctrl-C ends it)")
            if wait:
                with contextlib.suppress(KeyboardInterrupt):
                    server.wait()
    return url


def choose_port(preferred: int, reporter: Reporter) -> int:
    """The preferred port, or a free one when it is occupied.

    FiftyOne would join an App that answers at an occupied port, and wait a minute for any other program.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, preferred))
        except OSError:
            probe.bind((ADDRESS, 0))
            reporter.say(f"port {preferred} is in use; another port is used, and links of a report miss it")
        return int(probe.getsockname()[1])


def _install_plugin(fo: Any) -> None:
    """Let FiftyOne and its server load our plugin beside those of the user, whose folder stays unchanged.

    A folder of our own holds links to all of them.
    """
    folder = runs_folder() / ".fiftyone" / "plugins"
    folder.mkdir(parents=True, exist_ok=True)
    user_folder = Path(fo.config.plugins_dir) if fo.config.plugins_dir else None
    targets = {}
    if user_folder and user_folder.is_dir() and user_folder != folder:
        targets = {path.name: path for path in user_folder.iterdir() if path.is_dir()}
    targets["shiftscope"] = Path(__file__).parent / "plugin"
    for link in folder.iterdir():
        if link.is_symlink() and link.name not in targets:
            link.unlink()
    for name, target in targets.items():
        link = folder / name
        if link.is_symlink() and link.resolve() != target.resolve():
            link.unlink()
        if not link.exists():
            link.symlink_to(target, target_is_directory=True)
    fo.config.plugins_dir = str(folder)
    os.environ["FIFTYONE_PLUGINS_DIR"] = str(folder)


@contextlib.contextmanager
def _server_ends() -> Iterator[None]:
    """End FiftyOne's server with all its processes at the end of the block, also on SIGTERM."""

    def exit_now(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, exit_now)
    try:
        yield
    finally:
        # A second SIGTERM must not interrupt the clean-up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_servers()
        signal.signal(signal.SIGTERM, previous)


def _end_servers() -> None:
    """End the server services that this process started, and every process below them.

    They are listed from the system: SIGTERM may arrive before `ServerService` has returned.
    """
    processes = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            arguments = child.cmdline()
            if SERVICE_ARGUMENT in arguments and "server" in arguments:
                processes += [child, *child.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=STOP_TIMEOUT)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_TIMEOUT)
