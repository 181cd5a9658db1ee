"""Somebody who asks the server the least there is, again and again: how long is anybody kept waiting?"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from jobcache.transport.connect import make_pool
from jobcache.transport.endpoint import Endpoint
from tests.bench.roles import idle

PAUSE = 0.001
"""Seconds between an answer and the next PING."""
DEADLINE = 30.0


class Role(idle.Role):
    """Pings from `begin` to `end`.

    Goes before all else where the system allows it: a machine that is busy elsewhere should not look like a server that
    is.
    """

    def __init__(self, url: str) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        self._pool = make_pool(Endpoint.find(url), size=1)
        self._waits: list[float] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Ping from now on."""
        self._waits.clear()
        self._ended.clear()
        self._thread = threading.Thread(target=self._ping, daemon=True)
        self._thread.start()

    def end(self) -> dict[str, float]:
        """Stop: how many pings there were, and what the longest and one in a thousand of them waited, in seconds."""
        assert self._thread is not None
        self._ended.set()
        self._thread.join()
        waits = sorted(self._waits)
        rare = waits[int(0.999 * (len(waits) - 1))]
        return {"pings": len(waits), "longest": waits[-1], "p999": rare}

    def _ping(self) -> None:
        while True:
            began = time.perf_counter()
            self._pool.exchange(("PING",), time.monotonic() + DEADLINE)
            self._waits.append(time.perf_counter() - began)
            if self._ended.wait(PAUSE):
                return
