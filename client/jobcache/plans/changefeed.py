"""The change feed: what happened to jobs since a position."""

from __future__ import annotations

from collections.abc import Sequence

from jobcache.ids import JobId
from jobcache.models import Change, ChangeKind
from jobcache.plans.header import Header
from jobcache.plans.plan import Pause, Plan, Run
from jobcache.plans.scripts import read_script
from jobcache.plans.source import Source
from jobcache.plans.writes import stream_position

BATCH = 500
"""Most entries that one step reads."""
POLL = 0.25
"""Seconds between two looks at a quiet feed."""


class Feed:
    """A reader's place in the feed. A position is ``<epoch>/<stream id>``, opaque to callers."""

    def __init__(self, source: Source, since: str | None, wait: float | None) -> None:
        self._source = source
        self._wait = wait
        self._started = since is not None
        epoch, _, position = (since or "/").rpartition("/")
        self._epoch = epoch.encode()
        self._position = position.encode()
        if since is not None:
            try:
                stream_position(self._position)
            except ValueError:
                raise ValueError(
                    f"since={since!r}: pass the position of a change, unchanged"
                ) from None

    def next_batch(self) -> Plan[list[Change] | None]:
        """The next changes, at least one; None when there were none for as long as the reader waits."""
        keys = self._source.keys
        waited = 0.0
        while True:
            reply = yield Run(
                read_script("changes"), (keys.meta, keys.changes), (self._position, BATCH)
            )
            header = Header(reply[0]).require_ready(self._source.where)
            last, oldest, entries = reply[1], reply[2], reply[3]
            batch = self._advance(header.epoch, last, oldest, entries)
            if batch:
                return batch
            if self._wait is not None and waited >= self._wait:
                return None
            waited = yield Pause(POLL if self._wait is None else min(POLL, self._wait - waited))

    def _advance(
        self, epoch: bytes, last: bytes, oldest: bytes, entries: Sequence[tuple[bytes, list[bytes]]]
    ) -> list[Change]:
        if not self._started:
            self._started, self._epoch, self._position = True, epoch, last
            return []
        missed = stream_position(self._position) < stream_position(oldest)
        if epoch != self._epoch or missed:
            self._epoch, self._position = epoch, last
            return [Change(kind=ChangeKind.RESYNC, id=None, position=self._shown(last))]
        batch = []
        for position, flat in entries:
            self._position = position
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if b"id" in fields:
                batch.append(
                    Change(
                        kind=ChangeKind(fields[b"change"].decode()),
                        id=JobId.from_path(fields[b"id"]),
                        position=self._shown(position),
                    )
                )
        return batch

    def _shown(self, position: bytes) -> str:
        return f"{self._epoch.decode()}/{position.decode()}"
