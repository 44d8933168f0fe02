"""The App on a report's dataset."""

from __future__ import annotations

import contextlib
import os
import sys
import webbrowser

from reports.progress import Reporter
from reports.workbench.connection import database
from reports.workbench.views import ADDRESS, FALSE_POSITIVES, WORKSPACE, address, slug


def open_app(name: str, reporter: Reporter, *, port: int, wait: bool) -> str:
    """Open the App on a dataset's workspace and false positives, and return its address; with wait, until the user interrupts.

    Bound to the loopback address, because the App has no login. Raises EnvironmentProblem when the database does not answer.
    """
    with database() as fo:
        dataset = fo.load_dataset(name)
        saved = dataset.list_saved_views()
        view = dataset.load_saved_view(FALSE_POSITIVES) if FALSE_POSITIVES in saved else dataset.view()
        spaces = dataset.load_workspace(WORKSPACE) if dataset.has_workspace(WORKSPACE) else None
        session = fo.launch_app(view, spaces=spaces, address=ADDRESS, port=port, auto=False)
        url = f"{address(name, port)}?view={slug(FALSE_POSITIVES)}&workspace={WORKSPACE}"
        if os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32"):
            webbrowser.open(url)
        reporter.say(f"FiftyOne App: {url}  (Ctrl-C ends it)")
        if wait:
            with contextlib.suppress(KeyboardInterrupt):
                session.wait(-1)
    return url
