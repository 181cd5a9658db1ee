"""The last good answers of this process, for when there are no new ones. Without I/O."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from jobcache.errors import CacheUnavailable, ConfigError, JobCacheError
from jobcache.queries.answer import Answer, StaleMetadata
from jobcache.times import Clock

MOST_ANSWERS = 256
MOST_BYTES = 16 << 20
"""Of the jobs in the answers that are kept, about; an answer larger than that is not kept."""


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer[Any]
    at: float
    size: int


class StaleIfError:
    """Answers by their query, those of one epoch, the least recently given to a caller going first.

    Args:
        most_age: seconds for which an answer may stand in for a new one.
        clock: seconds on a monotonic clock.
        most_bytes: of all answers together, about; one that is larger is not kept.
    """

    def __init__(
        self, most_age: float, clock: Clock = time.monotonic, most_bytes: int = MOST_BYTES
    ) -> None:
        self._most_age = most_age
        self._clock = clock
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._epoch = b""
        self._kept: dict[Hashable, _Kept] = {}
        self._bytes = 0
        self._forgot = -math.inf

    def keep(self, query: Hashable, answer: Answer[Any], asked: float) -> None:
        """A query was answered.

        Args:
            query: the query with its arguments.
            answer: the answer.
            asked: when it was asked, on the monotonic clock in seconds. Answers requested before the last ``forget()``
                are discarded: they may contain what was deleted.
        """
        size = answer.size
        with self._lock:
            if asked <= self._forgot:
                return
            if answer.header.epoch != self._epoch:
                self._clear()
                self._epoch = answer.header.epoch
            self._drop(query)
            if size > self._most_bytes:
                return
            self._kept[query] = _Kept(answer, asked, size)
            self._bytes += size
            while len(self._kept) > MOST_ANSWERS or self._bytes > self._most_bytes:
                self._drop(next(iter(self._kept)))

    def find(self, query: Hashable, why: str) -> Answer[Any] | None:
        """The last answer of a query, if it is young enough. Its header says that it is an old one."""
        with self._lock:
            kept = self._kept.get(query)
            if kept is None:
                return None
            since = self._clock() - kept.at
            if since > self._most_age:
                self._drop(query)
                return None
            self._kept[query] = self._kept.pop(query)
        return replace(kept.answer, header=StaleMetadata(kept.answer.header, since, why))

    def stand_in(self, query: Hashable, error: JobCacheError) -> Answer[Any]:
        """What to answer a query with that failed: its last good answer, if Redis did not answer now.

        Raises:
            JobCacheError: the error, where there is none or it must not stand in.
        """
        if not isinstance(error, CacheUnavailable):
            self.forget()
            raise error
        found = self.find(query, str(error))
        if found is None:
            raise error
        return found

    def forget(self) -> None:
        """What was known does not hold any more: the cache was emptied, or this process changed it."""
        with self._lock:
            self._clear()
            self._forgot = self._clock()

    def _drop(self, query: Hashable) -> None:
        kept = self._kept.pop(query, None)
        if kept is not None:
            self._bytes -= kept.size

    def _clear(self) -> None:
        self._kept = {}
        self._bytes = 0


def check_stale_if_error(seconds: float | None) -> float | None:
    """The setting that a caller means.

    Raises:
        ConfigError: it is no number of seconds.
    """
    if seconds is not None and not 0 <= seconds < math.inf:
        raise ConfigError(f"stale_if_error={seconds}: use a number of seconds from 0, or None")
    return seconds
