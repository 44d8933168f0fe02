"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere. stdout is for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Seconds between plain lines: often enough to show that work goes on, rarely enough for a log.
LINE_SECONDS = 10.0


class Reporter:
    """Prints progress and messages, and keeps the time of each stage.

    console: stderr
    timings: seconds by key of a stage
    """

    def __init__(self, *, quiet: bool = False) -> None:
        # In a notebook, plain lines in one block: rich would display each as HTML of its own, or draw a bar.
        rich = False if Console().is_jupyter else None
        self.console = Console(
            stderr=True, quiet=quiet, highlight=False, soft_wrap=True, force_jupyter=rich, force_terminal=rich
        )
        self.timings: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Print one line."""
        self.console.print(line, markup=False)

    @contextmanager
    def stage(self, key: str, title: str, total: int | None = None) -> Iterator[Callable[[], None]]:
        """A stage of work; yields a function to call after each unit. Its time is added to timings[key]."""
        begin = time.perf_counter()
        with self.bar(title, total) as advance:
            yield advance
        self.timings[key] = self.timings.get(key, 0.0) + time.perf_counter() - begin

    @contextmanager
    def training(
        self, title: str
    ) -> Iterator[tuple[Callable[[int], None], Callable[[], None], Callable[[str], None]]]:
        """Progress of a training whose number of batches is known only after its start.

        Yields three functions: to call with the number of batches, after each batch, and with a line after
        each epoch.
        """
        with ExitStack() as stack:
            advance: Callable[[], None] = lambda: None  # noqa: E731

            def started(batches: int) -> None:
                nonlocal advance
                advance = stack.enter_context(self.stage("train", title, batches))

            yield started, lambda: advance(), lambda line: self.say(f"  {line}")

    @contextmanager
    def bar(self, title: str, total: int | None) -> Iterator[Callable[[], None]]:
        """A progress bar on a terminal; elsewhere a line at the start and every LINE_SECONDS."""
        if self.console.is_terminal and total:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            # A bar of a training begins where stdout is redirected and ends where it no longer is: rich would
            # put the closed redirection back.
            with Progress(*columns, console=self.console, transient=True, redirect_stdout=False) as progress:
                task = progress.add_task(title, total=total)
                yield lambda: progress.advance(task)
            self.say(title)
            return
        self.say(title)
        done, printed = 0, time.monotonic()

        def advance() -> None:
            nonlocal done, printed
            done += 1
            if time.monotonic() - printed >= LINE_SECONDS:
                printed = time.monotonic()
                self.say(f"  {done}" + (f" of {total}" if total else ""))

        yield advance
