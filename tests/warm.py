"""Start the console script from a process that has imported the large libraries already.

Most of the time of a short command goes into importing PyTorch, pandas, scikit-learn and matplotlib. A process of
its own does that once, and forks for every call: the child gets its own folder, environment and files, imports our
packages itself, and ends as any interpreter does. Libraries that read the environment when they are imported
(Ultralytics, FiftyOne, ours) are left to the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

# What a process reads once, before anything can be imported for it.
READ_AT_START = ("OMP_", "GOMP_", "MKL_", "OPENBLAS_", "PYTHON", "MPL", "ARROW_", "LD_")
LIBRARIES = (
    "torch", "torchvision", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.sparse", "sklearn.linear_model",
    "sklearn.decomposition", "sklearn.model_selection", "matplotlib.pyplot", "seaborn", "cv2", "PIL.Image", "av",
    "jinja2", "rich.progress", "typer",
)  # fmt: skip


class WarmScript:
    """Runs the console script by forking; one for each process of tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._environment = dict(os.environ)
        self._server: subprocess.Popen[str] | None = None

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Whether a call with this environment may share what was imported."""

        def read_once(variables: Mapping[str, str]) -> dict[str, str]:
            return {k: v for k, v in variables.items() if k.startswith(READ_AT_START)}

        return hasattr(os, "fork") and read_once(environment) == read_once(self._environment)

    def run(
        self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float
    ) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a call. Raises subprocess.TimeoutExpired."""
        with self._lock, tempfile.TemporaryDirectory() as scratch:
            if self._server is None or self._server.poll() is not None:
                self._server = subprocess.Popen(
                    [sys.executable, __file__],
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            server, out, err = self._server, Path(scratch, "out"), Path(scratch, "err")
            assert server.stdin is not None
            assert server.stdout is not None
            request = {
                "arguments": list(arguments),
                "cwd": str(cwd),
                "environment": dict(environment),
                "out": str(out),
                "err": str(err),
            }
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            watch = threading.Timer(timeout, _end, [server.pid])
            watch.start()
            try:
                answer = server.stdout.readline()
            finally:
                watch.cancel()
            if not answer:
                raise subprocess.TimeoutExpired(list(arguments), timeout)
            return int(answer), out.read_text(errors="replace"), err.read_text(errors="replace")


def _end(server: int) -> None:
    """End a server and what it has started; the next call starts another one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(server)
        for each in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _wait_for_request() -> dict[str, Any]:
    """Serve requests; returns in each child, with its request."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            request: dict[str, Any] = json.loads(line)
            return request
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    raise SystemExit(0)


def _become(request: dict[str, Any]) -> None:
    """Take over the files, the folder and the environment of a call."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115  # as Python has them
        for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["shiftscope", *request["arguments"]]


def main() -> None:
    """Serve until nobody asks any more."""
    # As the console script finds them: not from the folder of this file.
    sys.path[0] = str(Path(__file__).parents[1])
    for name in LIBRARIES:
        __import__(name)
    _become(_wait_for_request())
    from reports.cli import main as console_script

    console_script()


if __name__ == "__main__":
    main()
