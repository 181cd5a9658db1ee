"""Signals and work side by side: the main thread only waits, so that a signal is acted on at once.

Python runs signal handlers in the main thread alone. Were it the one that scans, a filesystem that hangs would keep
SIGTERM waiting as well. And it waits on a pipe, not on a lock: the kernel may hand a signal to another thread (one that
is just starting a third does take it), which would leave a lock unmoved, but not Python's wake-up descriptor.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TypeVar

T = TypeVar("T")

LAST_RESORT = 4.5
"""Seconds after the first signal when the process ends whatever still hangs; SIGTERM promises 5."""


DONE = b"\0"
"""What the pipe says when work is done; a signal writes its number."""


class StopRequested(Exception):
    """SIGTERM or SIGINT came."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Attendance:
    """Takes over SIGTERM and SIGINT. Make it in the main thread."""

    def __init__(self) -> None:
        self._stopping = False
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def perform(self, work: Callable[[], T]) -> T:
        """Do the work in another thread, and return or raise what it does.

        Raises:
            StopRequested: a signal came first; the work goes on until it notices.
        """
        results: list[T] = []
        failures: list[BaseException] = []

        def do() -> None:
            try:
                results.append(work())
            except BaseException as error:  # handed to the main thread
                failures.append(error)
            os.write(self._write, DONE)

        threading.Thread(target=do, name="jobcache-work", daemon=True).start()
        self._listen()
        if failures:
            raise failures[0]
        return results[0]

    def wait(self) -> NoReturn:
        """Wait for a signal.

        Raises:
            StopRequested: it came.
        """
        while True:
            self._listen()

    def _listen(self) -> None:
        """Return once some work is done."""
        number = os.read(self._read, 1)
        if number != DONE:
            raise StopRequested(number[0])

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._stopping:
            self._stopping = True
            # The kernel's default for SIGALRM ends the process, whatever it hangs in.
            signal.setitimer(signal.ITIMER_REAL, LAST_RESORT)


def leave(code: int) -> NoReturn:
    """End the process without waiting for its threads: one may hang in the filesystem for ever."""
    logging.shutdown()
    os._exit(code)
