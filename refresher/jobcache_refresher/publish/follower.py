"""What is published, as read from Redis: whole at a takeover, and nearly so all the while a refresher stands by.

Within an epoch no revision comes twice, so a job is read once at each. While it stands by, a refresher reads all jobs
once and then what the change feed tells of; that is a start. At a takeover every revision is compared, and only what
differs is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import count
from typing import Any, Protocol

from jobcache.models import CacheState
from jobcache.schema import keys as names
from jobcache.schema import meta
from jobcache.schema.job import CHIPS, FINGERPRINT, JOB_FIELDS, REV, decode_indexed_fields
from jobcache.schema.keys import SCHEMA_VERSION, Keys
from jobcache.schema.streams import FEED_ID, newest_command, newest_position
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.scripts import plain_script
from jobcache_refresher.publish.server import Server
from jobcache_refresher.records import Fields, Record, Records

KEYS_PER_STEP = 500
JOBS_PER_READ = 200
"""Jobs that one step of the server reads whole; some milliseconds of its time."""

_FIELDS = (REV, *JOB_FIELDS, CHIPS, FINGERPRINT)
"""All that a hash holds."""


class Listener(Protocol):
    """Is told of every record, as it is read; what it makes of them is handed over with them."""

    def begin(self) -> None:
        """Everything is forgotten, to be read anew."""

    def move(self, path: bytes, record: Record | None) -> None:
        """A record came or changed; None if it went."""


class Follower:
    """The records of one epoch, as another refresher publishes them. For one thread.

    Args:
        server: where they are published.
        keys: of which namespace.
        listener: told of every record.
        clock: what time it is.
        keys_per_step: jobs, or entries of the change feed, that one step of the server tells of.
    """

    def __init__(
        self,
        server: Server,
        keys: Keys,
        listener: Listener,
        clock: Clock,
        keys_per_step: int = KEYS_PER_STEP,
    ) -> None:
        self._listener = listener
        self.keys_per_step = keys_per_step
        self._server = server
        self._keys = keys
        self._clock = clock
        self._records: Records = {}
        self._epoch = b""
        self._next = 0
        """Rank of the first job that was not compared yet."""
        self._position = b"-"
        """What was read of the change feed."""
        self.is_whole = False
        """Whether every job of the epoch was read once."""

    def take(self) -> Records:
        """Hand the records over; the follower begins anew."""
        records = self._records
        self._records, self._epoch, self.is_whole = {}, b"", False
        return records

    def follow(self, seconds: float) -> None:
        """Read on, for so long at most and a step.

        Raises:
            redis.RedisError: the server failed, or a key is of a wrong type.
        """
        ends = self._clock.monotonic() + seconds
        schema, epoch, state = self._server.ask(
            b"HMGET", self._keys.meta, meta.SCHEMA, meta.EPOCH, meta.STATE
        )
        is_ours = schema == b"%d" % SCHEMA_VERSION
        if not is_ours or epoch is None or state == CacheState.BUILDING.value.encode():
            return
        if epoch != self._epoch:
            self._begin(epoch)
            newest = self._server.ask(*newest_command(self._keys.changes))
            self._position = newest_position(newest) if newest else b"-"
        while self._clock.monotonic() < ends and self._epoch:
            if not self.is_whole:
                at_end = self._compare_stretch() is None
                self.is_whole = at_end and bool(self._epoch)
            elif not self._read_feed():
                return

    def complete(self, epoch: bytes) -> Records | None:
        """Everything that is published, for whoever holds the lease now; None if it is of another epoch."""
        if epoch != self._epoch:
            self._begin(epoch)
        if not self._records:
            self._load()
            return self.take() if self._epoch else None
        self.is_whole, self._next = False, 0
        seen: set[bytes] = set()
        while (paths := self._compare_stretch()) is not None:
            seen.update(paths)
        if not self._epoch:
            return None
        for path in self._records.keys() - seen:
            self._drop(path)
        return self.take()

    def _begin(self, epoch: bytes) -> None:
        self.take()
        self._listener.begin()
        self._epoch, self._next = epoch, 0

    def _load(self) -> None:
        """Read all jobs, from the first to a step that is not full."""
        keys = self._keys
        steps = (
            (first, first + JOBS_PER_READ - 1, keys.full(names.JOB_PREFIX), *_FIELDS)
            for first in count(step=JOBS_PER_READ)
        )
        with closing(
            self._server.stream(plain_script("load"), (keys.meta, keys.jobs), steps)
        ) as replies:
            for epoch, paths, jobs in replies:
                if epoch != self._epoch:
                    self.take()
                    return
                for path, values in zip(paths, jobs, strict=True):
                    fields = {
                        name: value
                        for name, value in zip(_FIELDS, values, strict=True)
                        if value is not None
                    }
                    revision = fields.pop(REV, None)
                    if revision is not None and _is_sound(fields):
                        self._keep(path, Record(fields, revision))
                if len(paths) < JOBS_PER_READ:
                    return

    def _compare_stretch(self) -> Sequence[bytes] | None:
        """Compare the next jobs, and read those that differ; None when there are no more."""
        keys = self._keys
        epoch, *flat = self._server.run(
            plain_script("revisions"),
            (keys.meta, keys.jobs),
            (self._next, self._next + self.keys_per_step - 1, keys.full(names.JOB_PREFIX)),
        )
        if epoch != self._epoch:
            self.take()
            return None
        paths, revisions = flat[::2], flat[1::2]
        known = self._records
        self._read(
            [
                path
                for path, revision in zip(paths, revisions, strict=True)
                if path not in known or known[path].revision != revision
            ]
        )
        self._next += self.keys_per_step
        return paths or None

    def _read_feed(self) -> bool:
        """Read what the feed tells of; False when there is nothing."""
        entries = self._server.ask(
            b"XRANGE", self._keys.changes, self._position, b"+", b"COUNT", self.keys_per_step
        )
        if self._position != b"-":
            if not entries or entries[0][0] != self._position:
                self.take()  # the feed was trimmed, or begun anew: read everything again
                return False
            del entries[0]
        if entries:
            self._position = entries[-1][0]
            told = (dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in entries)
            self._read(list({fields[FEED_ID]: None for fields in told if FEED_ID in fields}))
        return bool(entries)

    def _read(self, paths: Sequence[bytes]) -> None:
        hashes = [(b"HGETALL", self._keys.full(names.job_key(path))) for path in paths]
        *replies, epoch = self._server.ask_all([*hashes, (b"HGET", self._keys.meta, meta.EPOCH)])
        if epoch != self._epoch:
            self.take()
            return
        for path, reply in zip(paths, replies, strict=True):
            record = record_of(reply)
            if record is None:
                self._drop(path)
            else:
                self._keep(path, record)

    def _keep(self, path: bytes, record: Record) -> None:
        self._records[path] = record
        self._listener.move(path, record)

    def _drop(self, path: bytes) -> None:
        if self._records.pop(path, None) is not None:
            self._listener.move(path, None)


def record_of(reply: list[Any]) -> Record | None:
    """A job's record, out of its hash; None if there is none, or what somebody else wrote."""
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    revision = fields.pop(REV, None)
    if revision is None or not _is_sound(fields):
        return None
    return Record(fields, revision)


def _is_sound(fields: Fields) -> bool:
    """Whether the fields are as this program writes them; what somebody else wrote counts as lost."""
    try:
        decode_indexed_fields(fields)
        int(fields.get(b"log_scanned", b"0").partition(b":")[0])
    except (KeyError, ValueError):
        return False
    return True
