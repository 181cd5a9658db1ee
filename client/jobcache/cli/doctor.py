"""Whether the keys of a namespace agree with each other, found out from Redis alone, as queries that only read.

Others write meanwhile. So nothing is a finding that is not seen in one step of the server: a job with its index entries
at one revision, a member of an index with the job it stands for, a sum at one generation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from jobcache.cli.standing import (
    FIELDS,
    WRONG_TYPE,
    Standing,
    chips_of,
    entries_of,
    is_right,
    read_standing,
)
from jobcache.ids import JobId, decode_name
from jobcache.models import JobStatus
from jobcache.numbers import read_float, read_int
from jobcache.queries.query import Ask, Pause, Query, Run, Step
from jobcache.queries.source import Source
from jobcache.schema import keys as names
from jobcache.schema import meta as fields
from jobcache.schema.header import Header
from jobcache.schema.index import Entry, listings
from jobcache.schema.scripts import Script, load_script
from jobcache.schema.steps import steps

T = TypeVar("T")

EXAMPLES = 10
"""Findings of one kind that are named; the others are counted."""
JOBS_PER_STEP = 40
"""With their entries about as many look-ups as ``KEYS_PER_STEP``."""
KEYS_PER_STEP = 500
MOST = 1_000
"""Findings after which it is not worth the time to look for more of the kind that takes long."""
ATTEMPTS = 5
"""Looks at what others change meanwhile, before it is left unjudged."""


@dataclass(slots=True)
class Report:
    """What an examination found."""

    jobs: int = 0
    keys: int = 0
    """Keys looked at beside the hashes of jobs."""
    findings: Counter[str] = field(default_factory=Counter)
    """How many of each kind."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What could not be judged, and why."""

    def add(self, kind: str, what: bytes | str) -> None:
        """Note a finding."""
        self.findings[kind] += 1
        known = self.examples.setdefault(kind, [])
        if len(known) < EXAMPLES:
            known.append(decode_name(what) if isinstance(what, bytes) else what)


@cache
def _script() -> Script:
    return load_script("examine", preludes=("header", "entries", "standing"), read_only=True)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a step saw of a key."""

    type: str
    ends: bool
    size: int


_Wanted = tuple[bytes, Sequence[Entry]]
"""A job's path, and the entries whose scores are asked for."""


def examine(
    source: Source,
    *,
    every_key: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Query[Report]:
    """Examine a namespace. However much it holds, the deadline is for each step.

    Args:
        source: where.
        every_key: whether to look for keys that belong to nothing, too; that takes the right to SCAN.
        progress: told how many of about how many jobs are examined.

    Raises:
        CacheNotReady: it is being built, now or after the examination began.
    """
    return (yield from _Examination(source, progress).perform(every_key))


def _ask(*command: bytes | str | int) -> Ask:
    return Ask(command, renews=True)


class _Examination:
    def __init__(self, source: Source, progress: Callable[[int, int], None]) -> None:
        self._source = source
        self._progress = progress
        self._keys = source.keys
        self._report = Report()
        self._seen: set[bytes] = set()
        """Paths of the jobs examined."""
        self._sizes: Counter[bytes] = Counter()
        """Members that the examined jobs have in each index."""
        self._named: set[tuple[bytes, bytes]] = set()
        """Lists of names, and the names that the examined jobs keep in them."""
        self._looked_at: set[bytes] = set()

    def perform(self, every_key: bool) -> Query[Report]:
        report = self._report
        kind = yield _ask(b"TYPE", self._keys.meta)
        if kind not in {b"hash", b"none"}:
            report.add("key of a wrong type", b"meta")
            return report
        fixed = [row.key.encode() for row in names.KEY_TABLE if "<" not in row.key]
        made = yield from self._look_at_keys(fixed)
        if made[names.JOBS].type == "zset":
            yield from self._walk_jobs(made[names.JOBS].size)
        suspects = yield from self._judge_sizes({*self._sizes, *fixed, *_ALWAYS})
        if every_key:
            suspects |= yield from self._walk_keys()
        for index in sorted(suspects):
            yield from self._walk_index(index)
        if made[names.RUNNING].type in {"zset", "none"}:
            yield from self._recount()
        report.jobs = len(self._seen)
        return report

    # Jobs

    def _walk_jobs(self, total: int) -> Generator[Step, Any, None]:
        cursor = b"0"
        while True:
            self._progress(len(self._seen), total)
            cursor, found = yield self._members(names.JOBS, cursor)
            paths = dict.fromkeys(path for path in found[::2] if path not in self._seen)
            yield from self._examine_jobs([path for path in paths if _is_path(path)])
            if int(cursor) == 0:
                return

    def _examine_jobs(self, paths: Iterable[bytes]) -> Generator[Step, Any, None]:
        for some in steps(paths, JOBS_PER_STEP):
            before = yield from self._look_at_jobs([(path, ()) for path in some])
            wanted = [
                (path, entries_of(path, standing))
                for path, standing in zip(some, before, strict=True)
            ]
            after = yield from self._look_at_jobs(wanted)
            for (path, entries), old, new in zip(wanted, before, after, strict=True):
                if is_right(entries, old, new):
                    self._count(path, entries)
                else:
                    yield from self._examine_closely(path)

    def _examine_closely(self, path: bytes) -> Generator[Step, Any, None]:
        """Until two looks at one job saw the same revision: the second then saw its entries at that one."""
        if self._report.findings.total() >= MOST:
            note = f"after {MOST} findings no job is looked at more closely"
            if note not in self._report.notes:
                self._report.notes.append(note)
            self._seen.add(path)
            return
        entries: list[Entry] = []
        before: Standing | None = None
        for _ in range(ATTEMPTS):
            asked = entries or [Entry(names.JOBS, path, 0.0)]
            (now,) = yield from self._look_at_jobs([(path, asked)])
            if before is not None and now.fields == before.fields:
                self._judge_job(path, entries, now)
                return
            before, entries = now, entries_of(path, now)
        self._report.notes.append(f"{decode_name(path)} changes all the time")

    def _judge_job(self, path: bytes, entries: Sequence[Entry], now: Standing) -> None:
        report = self._report
        if now.fields is None:
            report.add("key of a wrong type", names.job_key(path))
        elif not now.fields:
            if now.scores[0] is not None:
                report.add("job without a hash", path)
            return
        elif not entries:
            report.add("hash that cannot be read", names.job_key(path))
        else:
            for entry, score in zip(entries, now.scores, strict=True):
                if score is None:
                    report.add("job that an index lacks", entry.key + b": " + path)
                elif score != entry.score:
                    report.add("member with a wrong score", entry.key + b": " + entry.member)
        self._count(path, entries)

    def _count(self, path: bytes, entries: Iterable[Entry]) -> None:
        self._seen.add(path)
        for entry in entries:
            if not _is_list(entry.key):
                self._sizes[entry.key] += 1
            elif (entry.key, entry.member) not in self._named:
                self._named.add((entry.key, entry.member))
                self._sizes[entry.key] += 1

    # Keys and indexes

    def _judge_sizes(self, indexes: Iterable[bytes]) -> Generator[Step, Any, set[bytes]]:
        """Those of the sorted sets whose size is not what the examined jobs make it, as far as nobody wrote."""
        made = yield from self._look_at_keys(indexes)
        return {key for key, one in made.items() if one.size != self._sizes[key]} - _UNCOUNTED

    def _walk_keys(self) -> Generator[Step, Any, set[bytes]]:
        """All keys of the namespace; returns the indexes that nothing is known to stand in."""
        suspects: set[bytes] = set()
        cursor, prefix = b"0", self._keys.prefix
        while True:
            cursor, found = yield _ask(
                b"SCAN", cursor, b"MATCH", prefix + b"*", b"COUNT", KEYS_PER_STEP
            )
            keys = {key.removeprefix(prefix) for key in found}
            hashes = {key for key in keys if key.startswith(names.JOB_PREFIX)}
            yield from self._look_at_keys(hashes)
            suspects |= yield from self._judge_sizes(keys - hashes - self._sizes.keys())
            for path in [key.removeprefix(names.JOB_PREFIX) for key in hashes]:
                if _is_path(path) and path not in self._seen:
                    yield from self._examine_closely(path)
            if int(cursor) == 0:
                return suspects

    def _look_at_keys(self, keys: Iterable[bytes]) -> Generator[Step, Any, dict[bytes, _Made]]:
        looked: dict[bytes, _Made] = {}
        for some in steps(keys, KEYS_PER_STEP):
            made, _ = yield from self._look(keys=some)
            for key, (kind, left, size) in zip(some, made, strict=True):
                one = _Made(kind.decode(), left >= 0, 0 if size == WRONG_TYPE else size)
                looked[key] = one
                self._judge_key(key, one)
        return looked

    def _judge_key(self, key: bytes, made: _Made) -> None:
        report = self._report
        if made.type == "none" or key in self._looked_at:
            return
        self._looked_at.add(key)
        if not key.startswith(names.JOB_PREFIX):
            report.keys += 1
        expected = names.type_of(key)
        if expected is None:
            report.add("key of no meaning", key)
        elif made.type != expected:
            report.add("key of a wrong type", key)
        if made.ends and key not in {b"lease", b"release"}:
            report.add("key with a time to live", key)

    def _walk_index(self, index: bytes) -> Generator[Step, Any, None]:
        """Find members that stand for nothing, and jobs that only this index knows."""
        cursor = b"0"
        while (yield _ask(b"TYPE", self._keys.full(index))) == b"zset":
            cursor, found = yield self._members(index, cursor)
            for some in steps(dict.fromkeys(found[::2]), JOBS_PER_STEP):
                if _is_list(index):
                    for member in some:
                        yield from self._judge_name(index, member)
                else:
                    yield from self._judge_members(index, some)
            if int(cursor) == 0:
                return

    def _judge_members(self, index: bytes, members: Sequence[bytes]) -> Generator[Step, Any, None]:
        wanted: list[tuple[bytes, list[Entry]]] = []
        for member in members:
            path = names.member_path(index, member)
            if _is_path(path):
                wanted.append((path, [Entry(index, member, 0.0)]))
            else:
                self._report.add("member that stands for no job", index + b": " + member)
        standings = yield from self._look_at_jobs(wanted)
        for (path, (entry,)), standing in zip(wanted, standings, strict=True):
            (score,) = standing.scores
            known = {(one.key, one.member) for one in entries_of(path, standing)}
            said = index == names.JOBS and not standing.fields
            if score is not None and not said and (index, entry.member) not in known:
                self._report.add("member that stands for no job", index + b": " + entry.member)
            if standing.fields and path not in self._seen:
                yield from self._examine_closely(path)

    def _judge_name(self, index: bytes, name: bytes) -> Generator[Step, Any, None]:
        """A name stands in a list for as long as one of its witnesses does."""
        project = index.removeprefix(names.GROUPS_PREFIX) if index != names.PROJECTS else name
        job = JobId(decode_name(project), decode_name(name), "-", "-")
        (witnesses,) = (one.witnesses for one in listings(job) if one.listing == index)
        entry = [Entry(index, name, 0.0)]
        made, (standing,) = yield from self._look(keys=witnesses, jobs=[(b"", entry)])
        alive = any(size not in (0, WRONG_TYPE) for _, _, size in made)
        if not alive and standing.scores[0] is not None:
            self._report.add("name of nothing", index + b": " + name)

    # Sums

    def _recount(self) -> Generator[Step, Any, None]:
        """Sum the chips of fresh running jobs while nobody writes."""
        wanted = (
            fields.EPOCH,
            fields.GENERATION,
            fields.COMPLETED_AT,
            fields.STALE_AFTER,
            fields.ACTIVE_CHIPS,
        )
        for _ in range(ATTEMPTS):
            before = yield _ask(b"HMGET", self._keys.meta, *wanted)
            since = fields.fresh_since(*map(read_float, before[2:4]))
            if since is None:
                return
            total = yield from self._sum_chips(since)
            after = yield _ask(b"HMGET", self._keys.meta, *wanted)
            if before == after:
                chips = read_int(after[4] or 0)
                if chips != total:
                    self._report.add("wrong sum", f"active_chips is {chips}, not {total}")
                return
            yield Pause(0.05)
        self._report.notes.append("active_chips was not judged: jobs change all the time")

    def _sum_chips(self, since: float) -> Generator[Step, Any, int]:
        total = first = 0
        while True:
            window = (repr(since).encode(), b"+inf", b"LIMIT", first, KEYS_PER_STEP)
            paths: list[bytes] = yield _ask(b"ZRANGEBYSCORE", self._keys.running, *window)
            standings = yield from self._look_at_jobs([(path, ()) for path in paths])
            total += sum(chips_of(one, since) for one in standings)
            if len(paths) < KEYS_PER_STEP:
                return total
            first += len(paths)

    # Steps

    def _members(self, index: bytes, cursor: bytes) -> Ask:
        return _ask(b"ZSCAN", self._keys.full(index), cursor, b"COUNT", KEYS_PER_STEP)

    def _look_at_jobs(self, wanted: Sequence[_Wanted]) -> Generator[Step, Any, list[Standing]]:
        if not wanted:
            return []
        _, standings = yield from self._look(jobs=wanted)
        return standings

    def _look(
        self, keys: Sequence[bytes] = (), jobs: Sequence[_Wanted] = ()
    ) -> Generator[Step, Any, tuple[list[Any], list[Standing]]]:
        args: list[bytes | str | int] = [self._keys.prefix, len(keys), *keys]
        args += [len(FIELDS), *FIELDS, len(jobs)]
        for path, entries in jobs:
            args += [names.job_key(path), len(entries)]
            for entry in entries:
                args += [entry.key, entry.member]
        reply = yield Run(_script(), (self._keys.meta,), tuple(args), renews=True)
        Header(reply[0]).require_ready(self._source.where)
        return reply[1], [read_standing(one) for one in reply[2]]


_ALWAYS = {names.JOBS, names.RUNNING, names.PROJECTS} | {
    index(status) for status in JobStatus for index in (names.status_index, names.activity_index)
}
"""Indexes that are looked at even if nothing is known to stand in them."""
_UNCOUNTED = {row.key.encode() for row in names.KEY_TABLE if "<" not in row.key} - _ALWAYS


def _is_path(path: bytes) -> bool:
    return path.count(b"/") == 3


def _is_list(index: bytes) -> bool:
    return index == names.PROJECTS or index.startswith(names.GROUPS_PREFIX)
