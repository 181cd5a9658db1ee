"""How far a scan is, shown while it runs: a bar on a terminal, log lines otherwise.

The scan only stores two numbers; a thread beside it does the showing, so that showing costs the scan nothing and goes
on while the filesystem hangs.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

log = logging.getLogger(__name__)

LOG_INTERVAL = 5.0
"""Seconds between two log lines."""
BAR_INTERVAL = 0.1
"""Seconds between two looks of the bar."""


class Display(Protocol):
    """Shows the progress of one scan."""

    interval: float
    """Seconds between two calls of ``show``."""

    def show(self, done: int, total: int) -> None:
        """So many of so many runs are examined; a total of 0 means that the directories are still being listed."""

    def close(self) -> None:
        """The scan is over."""


class LogLines:
    """A log line now and then."""

    def __init__(self, label: str, interval: float = LOG_INTERVAL) -> None:
        self.interval = interval
        self._label = label

    def show(self, done: int, total: int) -> None:
        """Log how far the scan is."""
        if total:
            log.info("%s: %d of %d runs, %d%%", self._label, done, total, 100 * done // total)
        else:
            log.info("%s: listing directories", self._label)

    def close(self) -> None:
        """Nothing to take away."""


class Bar:
    """A bar on a terminal, gone when the scan is over. What is written to ``sys.stderr`` meanwhile stands above it."""

    def __init__(self, label: str, stream: TextIO) -> None:
        self.interval = BAR_INTERVAL
        self._label = label
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(file=stream),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task(f"{label}: listing directories", total=None)
        self._progress.start()

    def show(self, done: int, total: int) -> None:
        """Draw the bar."""
        if total:
            self._progress.update(self._task, description=self._label, completed=done, total=total)
        self._progress.refresh()

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def display_on(stream: TextIO, label: str) -> Display:
    """The display that suits a stream."""
    console = Console(file=stream)
    if console.is_terminal and not console.is_dumb_terminal:
        return Bar(label, stream)
    return LogLines(label)


class ScanProgress:
    """Shows the first scan while it is entered; call it with the counts of the scan under way.

    Args:
        label: what the scan is called.
        display: makes the display; by default one that suits stderr.
    """

    def __init__(self, label: str, display: Callable[[str], Display] | None = None) -> None:
        self._label = label
        self._make_display = display or (lambda label: display_on(sys.stderr, label))
        self._seen = (0, 0)
        self._over = threading.Event()
        self._began = 0.0
        self._thread: threading.Thread | None = None

    def __call__(self, done: int, total: int) -> None:
        """So many of so many runs are examined. Cheap enough to be called for every run."""
        self._seen = (done, total)

    @property
    def seconds(self) -> float:
        """How long ago the scan began."""
        return time.monotonic() - self._began

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread = threading.Thread(
            target=self._show, args=(self._make_display(self._label),), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _show(self, display: Display) -> None:
        try:
            while not self._over.wait(display.interval):
                display.show(*self._seen)
        finally:
            display.close()
