"""The header of every answer: what ``meta`` said in the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jobcache.errors import CacheNotReady, SchemaMismatch
from jobcache.ids import decode_name
from jobcache.models import CacheState, Freshness
from jobcache.numbers import read_float, read_int
from jobcache.schema import meta
from jobcache.schema.job import AsOf
from jobcache.schema.keys import SCHEMA_VERSION
from jobcache.times import from_epoch

HEADER_FIELDS = (
    meta.SCHEMA,
    meta.EPOCH,
    meta.GENERATION,
    meta.STATE,
    meta.REASON,
    meta.COMPLETED_AT,
    meta.STALE_AFTER,
    meta.STATUS_DIR,
    meta.OVERDUE_AFTER,
    meta.POLL_INTERVAL,
    meta.REPORTED_AT,
)
"""Fields that make a header, in the order in which ``header.lua`` reads them.

The type of the lease follows, ``none`` while nobody leads, then the server's time.
"""


class Header:
    """Schema, epoch, generation, state and times of the cache an answer came from.

    Args:
        reply: the fields in the order in which ``header.lua`` gives them. They are read when they are asked for, since
            most answers need few of them.
    """

    __slots__ = ("_reply",)

    def __init__(self, reply: Sequence[Any]) -> None:
        self._reply = reply

    @property
    def schema(self) -> int | None:
        """Version of the keys; None when there are none."""
        return read_int(self._reply[0])

    @property
    def epoch(self) -> bytes:
        """Which build of the namespace."""
        return self._reply[1] or b""

    @property
    def generation(self) -> int:
        """How many writes it has seen."""
        return read_int(self._reply[2]) or 0

    @property
    def state(self) -> CacheState:
        """How far it can be trusted."""
        state = self._reply[3]
        # An unknown one is of a later schema, as require_ready says.
        return _STATES.get(state, CacheState.BUILDING) if state else CacheState.ABSENT

    @property
    def reason(self) -> str | None:
        """Why the state is what it is."""
        reason = self._reply[4]
        return reason.decode("utf-8", "replace") if reason else None

    @property
    def completed_at(self) -> float | None:
        """End of the last completed scan, in epoch seconds of the server's clock."""
        return read_float(self._reply[5])

    @property
    def stale_after(self) -> float:
        """Seconds without a heartbeat after which a running job is stale."""
        return read_float(self._reply[6]) or 0.0

    @property
    def status_dir(self) -> str:
        """Where the jobs lie."""
        return decode_name(self._reply[7] or b"")

    @property
    def now(self) -> float:
        """The server's clock, in epoch seconds."""
        seconds, microseconds = self._reply[-1]
        return int(seconds) + int(microseconds) / 1e6

    def require_schema(self, where: str) -> Header:
        """Return the header of a cache that this version can read.

        Raises:
            SchemaMismatch: another version of jobcache wrote the keys.
        """
        if self._reply[0] != _SCHEMA and self._reply[0] is not None:
            version = self._reply[0].decode("utf-8", "replace")
            raise SchemaMismatch(
                f"{where} holds schema version {version}, this jobcache reads version "
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
        state = self.state
        if state is CacheState.ABSENT:
            raise CacheNotReady(
                f"no refresher has written to {where}: start one with this URL and namespace"
            )
        if state is CacheState.BUILDING:
            raise CacheNotReady(f"the refresher has not completed its first scan of {where}")
        return self

    @property
    def moment(self) -> tuple[bytes, int]:
        """What answers depend on, and nothing else: epoch and generation."""
        return self.epoch, self.generation

    @property
    def freshness(self) -> Freshness:
        """What a caller is told of the age of an answer."""
        completed_at = self.completed_at
        state, reason = self.state, self.reason
        overdue = self._overdue
        if overdue is not None and state in _ANSWERABLE:
            state = CacheState.DEGRADED
            reason = f"{reason}; {overdue}" if reason else overdue
        return Freshness(
            state=state,
            reason=reason,
            completed_at=from_epoch(completed_at),
            age=None if completed_at is None else max(0.0, self.now - completed_at),
            generation=self.generation,
            epoch=self.epoch.decode("utf-8", "replace"),
        )

    @property
    def _overdue(self) -> str | None:
        """That a scan should have completed by now, in words; None if not, or if it cannot be told.

        A refresher that leads and reported progress lately is slow, not overdue.
        """
        completed_at, _, _, bound, poll, reported_at = map(read_float, self._reply[5:11])
        if completed_at is None or bound is None or bound <= 0:
            return None
        leads = self._reply[-2] != _NO_KEY
        last = max(completed_at, reported_at or 0.0) if leads else completed_at
        if self.now - last <= bound:
            return None
        due = "" if poll is None else f", one is due every {poll:g} s"
        nobody = "" if leads else "; no refresher leads"
        return f"the last scan completed {self.now - completed_at:.0f} s ago{due}{nobody}"

    @property
    def as_of(self) -> AsOf:
        """From where the answer's jobs are looked at."""
        completed_at = self.completed_at
        return AsOf(
            self.status_dir,
            meta.fresh_since(completed_at or 0.0, self.stale_after) or 0.0,
            from_epoch(completed_at),
        )


_SCHEMA = b"%d" % SCHEMA_VERSION
_NO_KEY = b"none"
"""The type of a key that is not there."""
_ANSWERABLE = (CacheState.READY, CacheState.DEGRADED)
_STATES = {state.value.encode(): state for state in CacheState}
