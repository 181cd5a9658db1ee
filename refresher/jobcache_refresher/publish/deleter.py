"""Deletions that clients ask for, applied at once: a scan may last, and whoever deletes waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from redis.exceptions import RedisError

from jobcache.numbers import place_in_stream
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.publish.store import Store

log = logging.getLogger(__name__)

RETRY = 0.2
"""Seconds after which a deletion that Redis did not take is tried again."""


class Deleter:
    """Deletes jobs in Redis in a thread of its own, and remembers which for the thread that scans.

    Args:
        store: what is published.
        wake: called, in the deleter's thread, when something was deleted.
        retry: seconds after which a deletion that Redis did not take is tried again.
    """

    def __init__(self, store: Store, wake: Callable[[], None], retry: float = RETRY) -> None:
        self._store = store
        self._retry = retry
        self._wake = wake
        self._lock = threading.Lock()
        self._deleted: set[bytes] = set()
        self._asked: SimpleQueue[tuple[bytes, bytes] | None] = SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.position = b""
        """Id of the last request that was applied; empty for none."""

    def open(self, position: bytes) -> None:
        """Begin to apply what is asked.

        Args:
            position: id of the last request that was applied; empty for none. Requests up to it are passed over.
        """
        self.position = position
        if self._thread is None:
            self._asked, self._stop = SimpleQueue(), threading.Event()
            self._thread = threading.Thread(
                target=self._work,
                args=(self._asked, self._stop),
                name="jobcache-delete",
                daemon=True,
            )
            self._thread.start()

    def ask(self, position: bytes, path: bytes) -> None:
        """Have a job deleted.

        Args:
            position: id of the request, which ``meta`` names when it is done.
            path: the job's.
        """
        if place_in_stream(position) > place_in_stream(self.position):
            self._asked.put((position, path))

    def apply(self, position: bytes, path: bytes) -> None:
        """Delete a job here and now.

        Raises:
            FencedError, EpochError: the cache is no longer this refresher's, or no longer the one it knew.
            redis.RedisError, OSError: the server failed.
        """
        with self._lock:  # so that whoever takes what was deleted misses nothing that Redis shows
            self._store.delete(path, position)
            self._deleted.add(path)
            self.position = position

    def take(self) -> frozenset[bytes]:
        """Jobs that were deleted since the last call."""
        with self._lock:
            deleted, self._deleted = frozenset(self._deleted), set()
        return deleted

    @property
    def has_news(self) -> bool:
        """Whether something was deleted since the last call of ``take``."""
        return bool(self._deleted)

    def close(self) -> None:
        """Apply nothing more: another refresher is asked from now on. What was deleted is forgotten."""
        self._stop.set()
        self._asked.put(None)
        self._thread = None
        self.take()

    def _work(self, asked: SimpleQueue[tuple[bytes, bytes] | None], stop: threading.Event) -> None:
        while (request := asked.get()) is not None:
            while not stop.is_set():
                try:
                    self.apply(*request)
                except (FencedError, EpochError, RedisError, OSError) as error:
                    log.debug("a deletion waits: %s", str(error))
                    stop.wait(self._retry)
                else:
                    self._wake()
                    break
