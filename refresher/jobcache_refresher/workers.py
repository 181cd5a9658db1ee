"""Filesystem operations side by side: on a network filesystem their latency is the cost, not the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

BATCH = 16
"""Items that a thread takes at a time."""


class Workers:
    """A bounded number of threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "jobcache-scan") if threads > 1 else None

    def map(self, call: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
        """``call`` of each item, in order."""
        if self._pool is None or len(items) <= 1:
            yield from map(call, items)
            return
        window = self._threads * BATCH * 4
        for start in range(0, len(items), window):
            some = items[start : start + window]
            batches = [some[at : at + BATCH] for at in range(0, len(some), BATCH)]
            for results in self._pool.map(lambda batch: list(map(call, batch)), batches):
                yield from results

    def close(self) -> None:
        """Let the threads go; one that hangs in the filesystem is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
