"""What the server holds, seen in steps that are too short for anybody to notice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import NoPermissionError, ResponseError

from jobcache.numbers import place_in_stream, read_float, read_int, read_position
from jobcache.schema import keys as names
from jobcache.schema.index import Entry
from jobcache.schema.keys import Keys
from jobcache.schema.meta import REQUEST_POSITION, fresh_since
from jobcache.schema.steps import steps
from jobcache.schema.streams import newest_command, newest_position
from jobcache_refresher.publish.server import Server
from jobcache_refresher.publish.store import Store

T = TypeVar("T")

KEYS_PER_STEP = 500
WRONG_TYPE = b"!"


@dataclass(frozen=True, slots=True)
class ExpectedJob:
    """A job as it must stand."""

    path: bytes
    revision: bytes
    fields: int
    """How many fields its hash has, the revision among them."""
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class ObservedJob:
    """A job as it stands. None stands for what is not there."""

    revision: bytes | None
    fields: int
    hash_is_wrong: bool
    """Whether its key is no hash."""
    scores: tuple[float | None, ...]
    wrong_indexes: frozenset[bytes]
    """Keys among its indexes that are no sorted set."""

    def meets(self, expected: ExpectedJob) -> bool:
        """Whether this is what must be."""
        scores = tuple(entry.score for entry in expected.entries)
        return (self.revision, self.fields, self.scores) == (
            expected.revision,
            expected.fields,
            scores,
        )


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one step of the server saw."""

    fresh_since: float | None
    """Epoch seconds of the oldest heartbeat that counts; None before the first completed scan."""
    active_chips: int | None
    """None when it is no number."""
    wrong_streams: tuple[bytes, ...]
    """Keys beside the jobs that are of a wrong type, or may take no more."""
    deleted: frozenset[bytes]
    """Jobs that clients deleted since the last completed scan began. The refresher may not know of some yet."""
    ending: int
    """Keys that had a time to live, and have none any more."""
    sizes: tuple[int | None, ...]
    """None for a key that is no sorted set."""
    observed: tuple[ObservedJob, ...]


class Inspector:
    """Looks at the keys of one namespace, and removes what it is told to.

    Args:
        server: where they lie.
        keys: their names.
        store: runs fenced scripts on them.
    """

    def __init__(self, server: Server, keys: Keys, store: Store) -> None:
        self._server = server
        self._keys = keys
        self._store = store

    def request_position(self) -> bytes:
        """Id of the last request that was taken into account; empty for none, and for one that cannot be."""
        return self.known_request(self._store.field(REQUEST_POSITION) or b"")

    def inspect(
        self, indexes: Sequence[bytes] = (), jobs: Sequence[ExpectedJob] = ()
    ) -> Inspection:
        """See how large indexes are and how jobs stand.

        Raises:
            FencedError, EpochError: the cache is no longer this refresher's, or no longer the one it knew.
        """
        keys = self._keys
        args: list[bytes | str | int] = [keys.prefix, len(indexes), *indexes, len(jobs)]
        for job in jobs:
            args += [names.job_key(job.path), len(job.entries)]
            for entry in job.entries:
                args += [entry.key, entry.member]
        seen = self._store.run("inspect", (keys.requests, keys.changes, keys.tombstones), args)
        (completed_at, stale_after, chips), wrong, deleted, ending, sizes, observed = seen
        return Inspection(
            fresh_since(read_float(completed_at), read_float(stale_after)),
            read_int(chips or 0),
            tuple(key.removeprefix(keys.prefix) for key in wrong),
            frozenset(deleted),
            ending,
            tuple(None if size == WRONG_TYPE else size for size in sizes),
            tuple(map(_read_observed, jobs, observed)),
        )

    def members(self, index: bytes) -> Iterator[tuple[bytes, float]]:
        """Members of an index with their scores. What changes meanwhile may make some be missed."""
        key, first = self._keys.full(index), 0
        while True:
            last = first + KEYS_PER_STEP - 1
            flat = self._server.ask(b"ZRANGE", key, first, last, b"WITHSCORES")
            yield from zip(flat[::2], map(float, flat[1::2]), strict=True)
            if len(flat) < 2 * KEYS_PER_STEP:
                return
            first = last + 1

    def scan(self, cursor: bytes) -> tuple[bytes, list[bytes]]:
        """One step over the namespace's keys, given without their prefix; ``b"0"`` begins and ends a round.

        Where SCAN is denied, nothing is seen.
        """
        pattern = self._keys.prefix + b"*"
        try:
            after, found = self._server.ask(
                b"SCAN", cursor, b"MATCH", pattern, b"COUNT", KEYS_PER_STEP
            )
        except NoPermissionError:
            return b"0", []
        return after, [key.removeprefix(self._keys.prefix) for key in found]

    def last_request(self) -> bytes:
        """Id of the newest request."""
        try:
            return newest_position(self._server.ask(*newest_command(self._keys.requests)))
        except ResponseError:  # of a wrong type, as an audit will find
            return b"0-0"

    def known_request(self, *positions: bytes) -> bytes:
        """The last of some positions that the stream of requests reaches; empty when it reaches none.

        One that lies beyond its end is of a stream that is gone, or was made up.
        """
        end = place_in_stream(self.last_request())
        reached = [
            (place, raw) for raw in positions if (place := read_position(raw)) and place <= end
        ]
        return max(reached)[1] if reached else b""

    def info(self) -> dict[str, str] | None:
        """What the server says of its memory and its counters; None where that is denied."""
        try:
            raw: bytes = self._server.ask(b"INFO", b"memory", b"stats")
        except ResponseError:
            return None
        lines = (line.partition(":") for line in raw.decode("utf-8", "replace").splitlines())
        return {name: value for name, colon, value in lines if colon}

    def configured_policy(self) -> str | None:
        """The eviction policy, out of the configuration; None where that is denied."""
        try:
            found: list[bytes] = self._server.ask(b"CONFIG", b"GET", b"maxmemory-policy")
        except ResponseError:
            return None
        return found[1].decode() if len(found) == 2 else None

    def prune(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Remove members of indexes; an entry is an index and a member."""
        for some in steps(entries, KEYS_PER_STEP):
            flat = [part for entry in some for part in entry]
            self._store.write("prune", (), (self._keys.prefix, len(some), *flat))

    def drop(self, suffixes: Iterable[bytes]) -> None:
        """Remove whole keys, named without their prefix."""
        for some in steps(suffixes, KEYS_PER_STEP):
            self._store.write("clear", (), [self._keys.full(suffix) for suffix in some])

    def recount(self) -> None:
        """Have the active chips summed anew."""
        self._store.write("recount", (self._keys.running,), (self._keys.full(names.JOB_PREFIX),))


def _read_observed(job: ExpectedJob, reply: list[Any]) -> ObservedJob:
    values, length, scores = reply
    wrong = frozenset(
        entry.key for entry, score in zip(job.entries, scores, strict=True) if score == WRONG_TYPE
    )
    return ObservedJob(
        None if values == WRONG_TYPE else values[0],
        0 if length == WRONG_TYPE else length,
        values == WRONG_TYPE,
        tuple(None if score in (None, WRONG_TYPE) else float(score) for score in scores),
        wrong,
    )
