"""The change feed: what happened to jobs since a position."""

from __future__ import annotations

from collections.abc import Sequence

from jobcache.arguments import NUMBER, require_type
from jobcache.ids import JobId
from jobcache.models import Change, ChangeKind
from jobcache.numbers import place_in_stream, read_position
from jobcache.queries.query import Pause, Query, Run
from jobcache.queries.source import Source
from jobcache.schema.header import Header
from jobcache.schema.scripts import read_script
from jobcache.schema.streams import FEED_CHANGE, FEED_ID

BATCH = 500
"""Most entries that one step reads."""
POLL = 0.25
"""Seconds between two looks at a quiet feed."""
CLOCKS_APART = 5.0
"""Seconds by which the clocks of two servers may differ."""


class Feed:
    """A reader's place in the feed. A position is ``<epoch>/<stream id>``, opaque to callers."""

    def __init__(self, source: Source, since: str | None, wait: float | None) -> None:
        self._source = source
        self._wait = wait
        require_type("since", since, str, optional=True)
        require_type("wait", wait, *NUMBER, optional=True)
        self._started = since is not None
        epoch, _, position = (since or "/").rpartition("/")
        self._epoch = epoch.encode("utf-8", "replace")
        self._position = position.encode("utf-8", "replace")
        if since is not None and read_position(self._position) is None:
            raise ValueError(f"since={since!r}: pass the position of a change, unchanged")

    def next_batch(self) -> Query[list[Change] | None]:
        """The next changes, at least one; None when there were none for as long as the reader waits."""
        keys = self._source.keys
        waited, passed_over = 0.0, False
        while True:
            reply = yield Run(
                read_script("changes"),
                (keys.meta, keys.changes),
                (self._position, BATCH),
                renews=passed_over,
            )
            header = Header(reply[0]).require_ready(self._source.where)
            last, oldest, entries = reply[1], reply[2], reply[3]
            batch = self._advance(header, last, oldest, entries)
            if batch:
                return batch
            passed_over = bool(entries)
            if passed_over:  # none of them can be read; what follows may be
                continue
            if self._wait is not None and waited >= self._wait:
                return None
            waited = yield Pause(POLL if self._wait is None else min(POLL, self._wait - waited))

    def _advance(
        self,
        header: Header,
        last: bytes,
        oldest: bytes,
        entries: Sequence[tuple[bytes, list[bytes]]],
    ) -> list[Change]:
        epoch = header.epoch
        if not self._started:
            self._started, self._epoch, self._position = True, epoch, last
            return []
        if epoch != self._epoch or self._is_outside(header, oldest, last):
            self._epoch, self._position = epoch, last
            return [Change(kind=ChangeKind.RESYNC, id=None, position=self._shown(last))]
        batch = []
        for position, flat in entries:
            self._position = position
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            kind = _KINDS.get(fields.get(FEED_CHANGE, b""))
            job = JobId.read(fields.get(FEED_ID, b""))
            if kind is not None and job is not None:  # else it is none that this version can read
                batch.append(Change(kind=kind, id=job, position=self._shown(position)))
        return batch

    def _is_outside(self, header: Header, oldest: bytes, last: bytes) -> bool:
        """Whether entries after the position are gone, or the feed began anew and may never come to it.

        A position that the feed has not come to yet may be of a server that this one follows; one of a time to come is
        of a feed that is gone.
        """
        position = place_in_stream(self._position)
        if position > place_in_stream(last):
            return position[0] > (header.now + CLOCKS_APART) * 1000
        return position < place_in_stream(oldest)

    def _shown(self, position: bytes) -> str:
        return f"{self._epoch.decode('utf-8', 'replace')}/{position.decode()}"


_KINDS = {kind.value.encode(): kind for kind in ChangeKind if kind is not ChangeKind.RESYNC}
