"""The header of every answer: what ``meta`` said in the same step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobcache.codec import Vantage
from jobcache.errors import CacheNotReady, SchemaMismatch
from jobcache.ids import decode_name
from jobcache.keys import SCHEMA_VERSION
from jobcache.models import CacheState, Freshness
from jobcache.times import from_epoch


@dataclass(frozen=True, slots=True)
class Header:
    """Schema, epoch, generation, state and times of the cache an answer came from."""

    schema: int | None
    epoch: bytes
    generation: int
    state: CacheState
    reason: str | None
    completed_at: float | None
    """End of the last completed scan, in epoch seconds of the server's clock."""
    stale_after: float
    """Seconds without a heartbeat after which a running job is stale."""
    status_dir: str
    now: float
    """The server's clock, in epoch seconds."""

    @classmethod
    def parse(cls, reply: Sequence[bytes | None]) -> Header:
        """Read the fields in the order in which ``header.lua`` gives them."""
        schema, epoch, generation, state, reason, completed_at, stale_after, status_dir, now = reply
        return cls(
            schema=None if schema is None else int(schema),
            epoch=epoch or b"",
            generation=int(generation or 0),
            state=_read_state(state),
            reason=reason.decode("utf-8", "replace") if reason else None,
            completed_at=None if completed_at is None else float(completed_at),
            stale_after=float(stale_after or 0),
            status_dir=decode_name(status_dir or b""),
            now=float(now or 0),
        )

    def require_schema(self, where: str) -> Header:
        """Return the header of a cache that this version can read.

        Raises:
            SchemaMismatch: another version of jobcache wrote the keys.
        """
        if self.schema is not None and self.schema != SCHEMA_VERSION:
            raise SchemaMismatch(
                f"{where} holds schema version {self.schema}, this jobcache reads version "
                f"{SCHEMA_VERSION}: install the version of jobcache that the refresher runs"
            )
        return self

    def require_ready(self, where: str) -> Header:
        """Return the header of a cache that may be answered from.

        Raises:
            SchemaMismatch: another version of jobcache wrote the keys.
            CacheNotReady: no refresher has completed a scan.
        """
        self.require_schema(where)
        if self.state is CacheState.ABSENT:
            raise CacheNotReady(
                f"no refresher has written to {where}: start one with this URL and namespace"
            )
        if self.state is CacheState.BUILDING:
            raise CacheNotReady(f"the refresher has not completed its first scan of {where}")
        return self

    @property
    def freshness(self) -> Freshness:
        """What a caller is told of the age of an answer."""
        age = None if self.completed_at is None else max(0.0, self.now - self.completed_at)
        return Freshness(
            state=self.state,
            reason=self.reason,
            completed_at=from_epoch(self.completed_at),
            age=age,
            generation=self.generation,
            epoch=self.epoch.decode(),
        )

    @property
    def vantage(self) -> Vantage:
        """From where the answer's jobs are looked at."""
        return Vantage(self.status_dir, (self.completed_at or 0.0) - self.stale_after)


def _read_state(state: bytes | None) -> CacheState:
    if not state:
        return CacheState.ABSENT
    try:
        return CacheState(state.decode("utf-8", "replace"))
    except ValueError:  # one of a later schema, as require_ready says
        return CacheState.BUILDING
