"""Redis as the refresher writes it. Every write shows the fencing token and the epoch, and the server judges both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from redis.exceptions import RedisError

from jobcache.errors import SchemaMismatch
from jobcache.ids import JobId
from jobcache.models import CacheState, ChangeKind
from jobcache.numbers import read_float, read_int
from jobcache.schema import keys as names
from jobcache.schema import meta
from jobcache.schema.index import (
    Listing,
    format_score,
    index_entries,
    listing_args,
    listings,
    removal_args,
)
from jobcache.schema.job import decode_indexed_fields
from jobcache.schema.keys import SCHEMA_VERSION, Keys
from jobcache.schema.steps import steps
from jobcache.schema.streams import CHANGES_CAP
from jobcache_refresher.publish.diff import Operation
from jobcache_refresher.publish.follower import record_of
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.scripts import fenced_script
from jobcache_refresher.publish.server import EpochError, Server
from jobcache_refresher.records import Record
from jobcache_refresher.text import shown
from jobcache_refresher.workers import Pending, Workers

T = TypeVar("T")

OPERATIONS_PER_STEP = 50
"""Jobs that one step of the server changes; some milliseconds of its time."""
KEYS_PER_DROP = 100
"""Keys that one step drops: hashes as small as ours are freed at once, whatever UNLINK says."""
LEAP = 1_000_000
"""Generations that a failover may have lost; far more than are written while a replica lags behind."""


@dataclass(frozen=True, slots=True)
class ScanStart:
    """Where the cache stood before a scan began."""

    generation: int
    now: float
    """The server's clock, in epoch seconds."""


class Applied(NamedTuple):
    """What became of an operation: ``ok``, or why nothing was done."""

    operation: Operation
    verdict: str
    revision: bytes


class Store:
    """The keys of one namespace, written under a lease."""

    def __init__(self, server: Server, keys: Keys, lease: Lease) -> None:
        self._server = server
        self._keys = keys
        self._lease = lease
        self._epoch = b""
        """The epoch that is written to; empty for none."""
        self._known = b""
        """The epoch of the generations below."""
        self._sender = Workers(1, "jobcache-apply")
        self._lock = threading.Lock()
        self._newest = 0, 0
        """The last generation that the server told of within the epoch, and that of the last write."""
        self._may_have_lost_writes = False
        """Set when the outcome of a write is unknown: readers may know newer generations. The next scan skips many."""

    def close(self) -> None:
        """Let go of the thread that writes."""
        self._sender.close()

    @property
    def has_epoch(self) -> bool:
        """Whether an epoch was joined or begun, and not left since."""
        return bool(self._epoch)

    def leave(self) -> None:
        """The epoch is lost: a new one must be begun before anything else is written."""
        self._epoch = b""

    def join(self) -> bytes | None:
        """Join the epoch that is under way; returns its name, or None when there is none to join.

        A server that went back within an epoch, as one that restarts from an old file, has none either.

        Raises:
            SchemaMismatch: a newer version of jobcache wrote it.
        """
        if self._server.ask(b"TYPE", self._keys.meta) not in {b"hash", b"none"}:
            return None
        wanted = (meta.SCHEMA, meta.EPOCH, meta.GENERATION, meta.WRITTEN, meta.STATE)
        schema, epoch, generation, written, state = self._server.ask(
            b"HMGET", self._keys.meta, *wanted
        )
        version = read_int(schema) or 0
        if version > SCHEMA_VERSION:
            raise SchemaMismatch(
                f"namespace {self._keys.namespace!r} at {self._server.shown} holds schema version "
                f"{version}, this refresher writes version {SCHEMA_VERSION}"
            )
        if read_float(epoch) is None or version != SCHEMA_VERSION:
            return None
        if state == CacheState.BUILDING.value.encode():
            return None  # half of it may be of the epoch before, or was never written
        stands = (read_int(generation) or 0, read_int(written) or 0)
        if epoch == self._known and (stands[0] < self._newest[0] or stands[1] < self._newest[1]):
            return None
        self._epoch = self._known = epoch
        self._may_have_lost_writes = True
        self._newest = stands
        return self._epoch

    def begin(self, fields: Mapping[str, str]) -> None:
        """Begin a new epoch: readers are told to wait, and what was there is dropped."""
        epoch, _ = self._server.run(
            fenced_script("begin"),
            (self._keys.lease, self._keys.meta, self._keys.changes),
            (self._lease.value, meta.SCHEMA, SCHEMA_VERSION, *_flat(fields)),
        )
        with self._lock:
            self._epoch = self._known = epoch
            self._newest = 0, 0
        for some in self._leftovers():
            self.write("clear", (), some)

    def start_scan(self) -> ScanStart:
        """Begin a scan: note where the cache stands, and leave out generations that readers may know.

        Raises:
            FencedError, EpochError: as every method below.
        """
        leap = LEAP if self._may_have_lost_writes else 0
        self._may_have_lost_writes = False
        # Before asking: another thread may write meanwhile.
        epoch, known = self._epoch, self._newest
        generation, written, now = self.run("stand", (), (leap, SCHEMA_VERSION))
        self._check(known, generation, written)
        self._note(epoch, generation + leap, generation + leap if leap else written)
        return ScanStart(generation + leap, float(now))

    def apply(
        self, operations: Iterable[Operation], start: ScanStart, *, announce: bool = True
    ) -> Iterator[Applied]:
        """Apply changes that were found by a scan which began at ``start``; ``announce`` them in the change feed.

        While the server is at one step, the next is made ready.
        """
        under_way: tuple[list[Operation], Pending[Any]] | None = None
        try:
            for some in steps(operations, OPERATIONS_PER_STEP):
                args = self._step_args(some, start, announce)
                before, under_way = under_way, (some, self._sender.submit(self._apply_step(args)))
                if before is not None:
                    yield from self._applied(*before)
            if under_way is not None:
                before, under_way = under_way, None
                yield from self._applied(*before)
        finally:
            if under_way is not None:  # not while it may still write
                under_way[1].wait()

    def _step_args(
        self, operations: list[Operation], start: ScanStart, announce: bool
    ) -> list[bytes | str | int]:
        numbers: dict[tuple[bytes, ...], int] = {}
        changes: list[bytes | str | int] = [len(operations)]
        moved: dict[bytes, bytes] = {}
        for operation in operations:
            changes += _operation_args(operation, announce, numbers)
            if operation.removed or operation.added:
                # One of each group will do: the listings are those of all of it.
                moved[operation.path.rsplit(b"/", 2)[0]] = operation.path
        names_of: set[Listing] = set()
        for path in moved.values():
            names_of.update(listings(JobId.from_path(path)))
        args: list[bytes | str | int] = [start.generation, CHANGES_CAP]
        args += [self._keys.prefix, self._keys.full(names.JOB_PREFIX), len(numbers)]
        for several in numbers:
            args += [len(several), *several]
        return args + changes + listing_args(names_of)

    def _apply_step(self, args: list[bytes | str | int]) -> Callable[[], Any]:
        # No closure, which a frame would hold that is emptied.
        return partial(self.write, "apply", (self._keys.changes, self._keys.tombstones), args)

    def _applied(self, operations: list[Operation], step: Pending[Any]) -> Iterator[Applied]:
        generation, _, verdicts = step.result()
        revision = b"%d" % generation
        for operation, verdict in zip(operations, verdicts, strict=True):
            yield Applied(operation, verdict.decode(), revision)

    def delete(self, path: bytes, position: bytes) -> None:
        """Delete a job that a client asks to delete, and note in ``meta`` that the request is done. For any thread.

        Raises:
            FencedError, EpochError: the cache is no longer this refresher's, or no longer the one it knew.
        """
        job = JobId.from_path(path)
        keys = (self._keys.job(job), self._keys.tombstones, self._keys.changes)
        while True:
            record = self.reload(path)
            entries = index_entries(job, decode_indexed_fields(record.fields)) if record else ()
            reply = self.write(
                "delete",
                keys,
                (
                    position,
                    path,
                    record.revision if record else b"",
                    CHANGES_CAP,
                    self._keys.prefix,
                    *removal_args(entries),
                    *listing_args(listings(job)),
                ),
            )
            if reply[2]:
                return
            if record is None:
                raise EpochError(f"the hash of {shown(path)} is none that was written")

    def complete(self, start: ScanStart, stale_after: float, fields: Mapping[str, str]) -> float:
        """Declare the scan that began at ``start`` complete; returns when, in epoch seconds of the server."""
        keys = self._keys
        _, _, completed_at = self.write(
            "complete",
            (keys.tombstones, keys.running, keys.jobs),
            (start.generation, repr(stale_after), keys.full(names.JOB_PREFIX), *_flat(fields)),
        )
        return float(completed_at)

    def report(self, fields: Mapping[str, str]) -> None:
        """Set fields of ``meta`` between two completed scans; an empty value removes one."""
        self.run("report", (), _flat(fields))

    def reload(self, path: bytes) -> Record | None:
        """One job as Redis holds it."""
        return record_of(self._server.ask(b"HGETALL", self._keys.job(JobId.from_path(path))))

    def field(self, name: str) -> bytes | None:
        """One field of ``meta``."""
        value: bytes | None = self._server.ask(b"HGET", self._keys.meta, name)
        return value

    def number(self, name: str) -> float | None:
        """One field of ``meta`` that holds a number; None when there is none."""
        return read_float(self.field(name))

    def write(self, script: str, keys: Iterable[bytes], args: Iterable[bytes | str | float]) -> Any:
        """Run a fenced script that writes, and so makes the generation grow. For any thread.

        Returns its reply, which begins with the generation and with that of the write before.

        Raises:
            FencedError, EpochError: as ``run``.
        """
        epoch, known = self._epoch, self._newest
        reply = self.run(script, keys, args)
        # The write before must be there, unless the server went back to an older state. (It may be one of which the
        # reply was lost.)
        self._check(known, *reply[:2])
        self._note(epoch, reply[0], reply[0])
        return reply

    def run(self, script: str, keys: Iterable[bytes], args: Iterable[bytes | str | float]) -> Any:
        """Run a fenced script: on lease, ``meta`` and further keys, with the lease's value, the epoch and others.

        Raises:
            FencedError, EpochError: the cache is no longer this refresher's, or no longer the one it knew.
        """
        if not self._epoch:
            raise EpochError("no epoch was begun")
        try:
            return self._server.run(
                fenced_script(script),
                (self._keys.lease, self._keys.meta, *keys),
                (self._lease.value, self._epoch, *args),
            )
        except (RedisError, OSError):
            self._may_have_lost_writes = True  # it may have been done, and seen, and be lost
            raise

    def _check(self, known: tuple[int, int], generation: int, written: int) -> None:
        """See that the server holds what was known of it: else the epoch is lost, and nothing more is written to it."""
        if generation < known[0] or written < known[1]:
            self.leave()
            raise EpochError(f"the cache went back to generation {generation}")

    def _note(self, epoch: bytes, generation: int, written: int) -> None:
        # Replies to several threads may overtake each other, and the begin of an epoch.
        with self._lock:
            if epoch == self._epoch:
                self._newest = max(self._newest[0], generation), max(self._newest[1], written)

    def _leftovers(self) -> Iterator[list[bytes]]:
        keys = self._keys
        keep = {keys.lease, keys.meta, keys.changes, keys.requests, keys.release}
        cursor: bytes = b"0"
        while True:
            cursor, found = self._server.ask(
                b"SCAN", cursor, b"MATCH", self._keys.prefix + b"*", b"COUNT", KEYS_PER_DROP
            )
            some = [key for key in found if key not in keep]
            if some:
                yield some
            if int(cursor) == 0:
                return


def _operation_args(
    operation: Operation, announce: bool, numbers: dict[tuple[bytes, ...], int]
) -> list[bytes | str | int]:
    """The arguments of one operation; lists of names that many have alike are numbered."""
    deletes = operation.kind is ChangeKind.DELETED
    args: list[bytes | str | int] = [
        "del" if deletes else "put",
        operation.path,
        operation.expected_revision,
        operation.kind.value if operation.visible and announce else "",
    ]
    if not deletes:
        args += [numbers.setdefault(tuple(operation.set_fields), len(numbers) + 1)]
        args += operation.set_fields.values()
        args += [len(operation.dropped_fields), *operation.dropped_fields]
    args += [len(operation.removed), *chain.from_iterable(operation.removed), len(operation.added)]
    for keys, member, score in operation.added:
        args += [numbers.setdefault(keys, len(numbers) + 1), format_score(score), member]
    return args


def _flat(mapping: Mapping[Any, Any]) -> list[Any]:
    return list(chain.from_iterable(mapping.items()))
