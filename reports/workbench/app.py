"""The App on a report's dataset."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import Any

from reports.progress import Reporter
from reports.workbench.connection import database, of_user, stderr_to
from reports.workbench.views import ADDRESS, DRAFTS, FALSE_POSITIVES, WORKSPACE, address, slug
from train.environment import runs_folder


def port_for(wanted: int, reporter: Reporter) -> int:
    """The port wanted, or another where it is taken: FiftyOne would join whatever App answers there, and wait a minute for anything else."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, wanted))
        except OSError:
            probe.bind((ADDRESS, 0))
            reporter.say(f"port {wanted} is taken; using another, which the links of a report do not lead to")
        return int(probe.getsockname()[1])


def _with_plugins(fo: Any) -> None:
    """Point FiftyOne, and the server it starts, to a folder of ours with our plugin and links to all that the user has; the user's own folder stays as it is."""
    folder = runs_folder() / ".fiftyone" / "plugins"
    folder.mkdir(parents=True, exist_ok=True)
    users = Path(fo.config.plugins_dir) if fo.config.plugins_dir else None
    wanted = (
        {p.name: p for p in users.iterdir() if p.is_dir()}
        if users and users.is_dir() and users != folder
        else {}
    )
    wanted["shiftscope"] = Path(__file__).parent / "plugin"
    for link in folder.iterdir():
        if link.is_symlink() and link.name not in wanted:
            link.unlink()
    for name, target in wanted.items():
        link = folder / name
        if link.is_symlink() and link.resolve() != target.resolve():
            link.unlink()
        if not link.exists():
            link.symlink_to(target, target_is_directory=True)
    fo.config.plugins_dir = str(folder)
    os.environ["FIFTYONE_PLUGINS_DIR"] = str(folder)


def open_app(name: str, reporter: Reporter, *, port: int, wait: bool) -> str:
    """Open the App on a dataset's workspace and false positives, or its drafts to be looked through, and return its address; with wait, until the user interrupts.

    Bound to the loopback address, because the App has no login. Raises EnvironmentProblem when the database does not answer.
    """
    reporter.say("Opening FiftyOne ...")
    with database() as fo:
        import fiftyone.core.service as service

        _with_plugins(fo)
        port = port_for(port, reporter)
        dataset = fo.load_dataset(name)
        there = dataset.list_saved_views()
        query = [f"view={slug(name)}" for name in (FALSE_POSITIVES, DRAFTS) if name in there]
        query += [f"workspace={WORKSPACE}"] * dataset.has_workspace(WORKSPACE)
        url = address(name, port) + ("?" + "&".join(query) if query else "")
        # Without a session: one would put its own view in the place of the one that an address names.
        with stderr_to(of_user("-app.log")):
            server = service.ServerService(port, address=ADDRESS, do_not_track=True)
        try:
            if os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32"):
                webbrowser.open(url)
            reporter.say(f"FiftyOne App: {url}  (Ctrl-C ends it)")
            if wait:
                with contextlib.suppress(KeyboardInterrupt):
                    server.wait()
        finally:
            server.stop()
    return url
