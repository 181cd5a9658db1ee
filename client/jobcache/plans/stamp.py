"""What stands on an answer: from where its jobs are looked at, and how fresh it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jobcache.codec import Vantage
from jobcache.models import CacheState, Freshness


class Stamp(Protocol):
    """The header of a new answer, or of an old one that stands in for it."""

    @property
    def epoch(self) -> bytes:
        """Which build of the cache it is from."""

    @property
    def vantage(self) -> Vantage:
        """From where the answer's jobs are looked at."""

    @property
    def freshness(self) -> Freshness:
        """What a caller is told of the age of an answer."""


@dataclass(frozen=True, slots=True)
class OldStamp:
    """That of an answer that is given again, since there is no new one."""

    first: Stamp
    """Its stamp when it was new."""
    since: float
    """Seconds since then."""
    why: str
    """Why there is no new one."""

    @property
    def epoch(self) -> bytes:
        """As ``Stamp``."""
        return self.first.epoch

    @property
    def vantage(self) -> Vantage:
        """As ``Stamp``: stale is judged as of the answer's scan, and not by how long it has been kept."""
        return self.first.vantage

    @property
    def freshness(self) -> Freshness:
        """As ``Stamp``; the age has grown since."""
        first = self.first.freshness
        return first.model_copy(
            update={
                "state": CacheState.DEGRADED,
                "reason": f"{self.why}; before that: {first.reason}" if first.reason else self.why,
                "age": None if first.age is None else first.age + self.since,
                "last_good": True,
            }
        )
