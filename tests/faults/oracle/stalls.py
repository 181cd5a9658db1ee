"""How long this process was kept from running: what a read took beyond its deadline may be the machine's doing."""

from __future__ import annotations

import threading
import time
from collections import deque

TICK = 0.005
NOTABLE = 0.02
"""Seconds by which a tick must be late to count."""


class Stalls(threading.Thread):
    """Sleeps a little again and again, and notes when it took longer."""

    def __init__(self) -> None:
        super().__init__(name="oracle-stalls", daemon=True)
        self._late: deque[tuple[float, float]] = deque(maxlen=5000)
        self._ended = threading.Event()

    def run(self) -> None:
        before = time.time()
        while not self._ended.is_set():
            time.sleep(TICK)
            now = time.time()
            late = now - before - TICK
            if late > NOTABLE:
                self._late.append((now - late, now))
            before = now

    def within(self, begin: float, end: float) -> float:
        """Seconds lost within a span; what is being lost right now shows a tick later."""
        time.sleep(TICK * 2)
        return sum(
            max(0.0, min(end, until) - max(begin, since)) for since, until in list(self._late)
        )

    def end(self) -> None:
        self._ended.set()
        self.join()
