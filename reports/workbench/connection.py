"""A FiftyOne whose database answers."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

from filelock import FileLock

from datasets.errors import EnvironmentProblem
from train.environment import runs_folder


@contextlib.contextmanager
def database() -> Iterator[Any]:
    """FiftyOne with a database that answers; one process starts it at a time.

    Raises EnvironmentProblem with the cure when it does not start.
    """
    runs_folder().mkdir(parents=True, exist_ok=True)
    # FiftyOne speaks on stdout, which is for data.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            with FileLock(runs_folder() / ".fiftyone.lock", timeout=120):
                import fiftyone as fo

                fo.config.show_progress_bars = False
                logging.getLogger("fiftyone").setLevel(logging.WARNING)
                # Its notice that MongoDB 6 is the oldest supported version is expected: make setup installs that one where no other is to be had.
                logging.getLogger("fiftyone.core.odm.database").setLevel(logging.ERROR)
                fo.list_datasets()
        except Exception as error:  # its start-up raises many kinds, some of them bare
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise EnvironmentProblem(
                f"FiftyOne's database does not start ({reason}); run 'shiftscope doctor', or use --no-fiftyone"
            ) from None
        yield fo
