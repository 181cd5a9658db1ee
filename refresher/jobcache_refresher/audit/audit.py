"""Whether Redis still holds what was published, and how that is made right.

The records are what was published last, so they say what every hash, index and list of names must hold. Clients delete
jobs meanwhile: every look takes, in the same step, the deletions that the records do not know yet.

* In every poll: the size of every index but those of runs, the sum of the active chips, the types of all other keys.
* In turn, everything once in ``audit_interval``: revision and size of every hash with its score in every index, the
  size of every index of runs, and keys that should not be there. Never less than ``LEAST_JOBS`` and ``LEAST_KEYS`` a
  poll, so that a small cache is looked at whole.
* When a server whose policy is ``allkeys-*`` has evicted keys: every hash and every size.
* When somebody asks: everything.

What concerns few jobs is repaired in place, each job in one step. Anything more begins a new epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TypeVar

from jobcache.models import ChangeKind, JobStatus
from jobcache.schema import keys as names
from jobcache.schema import meta
from jobcache.schema.index import Entry
from jobcache.schema.steps import steps
from jobcache_refresher.audit.eviction import Evictions
from jobcache_refresher.audit.inspection import (
    KEYS_PER_STEP,
    ExpectedJob,
    Inspection,
    Inspector,
    ObservedJob,
)
from jobcache_refresher.clock import Clock
from jobcache_refresher.expected import ExpectedSizes, entries_of
from jobcache_refresher.ledger import Ledger
from jobcache_refresher.publish.diff import Operation, put
from jobcache_refresher.publish.store import Applied, ScanStart, Store
from jobcache_refresher.records import Record, Records
from jobcache_refresher.text import shown

log = logging.getLogger(__name__)

T = TypeVar("T")

FEW = 100
"""Jobs, and members too many, that are repaired in place; what concerns more is built anew."""
LEAST_JOBS = 500
LEAST_KEYS = 1_000
JOBS_PER_STEP = 40
"""With their entries about as many look-ups as ``KEYS_PER_STEP``."""
HASHES_PER_STEP = 200
REASONS = 5
"""Findings that are told in words."""

_FIXED = frozenset(row.key.encode() for row in names.KEY_TABLE if "<" not in row.key)


@dataclass(slots=True)
class Damage:
    """How Redis differs from what was published. Keys are without their prefix."""

    jobs: set[bytes] = field(default_factory=set)
    """Paths of jobs that do not stand as they must."""
    orphans: set[tuple[bytes, bytes]] = field(default_factory=set)
    """Index and member of what stands where it must not."""
    keys: set[bytes] = field(default_factory=set)
    """Keys that must not be there, or not with that type."""
    chips: bool = False
    """Whether the sum of the active chips is wrong."""
    ending: int = 0
    """Keys that had a time to live; they have none any more."""
    deleted: set[bytes] = field(default_factory=set)
    """Jobs that clients deleted, as the records do not know yet; no damage."""
    is_vast: bool = False
    """Whether more is wrong than is repaired in place."""
    reasons: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.is_vast or bool(self.count)

    @property
    def count(self) -> int:
        """How many findings; at least so many if it is vast."""
        return len(self.jobs) + len(self.orphans) + len(self.keys) + self.chips + self.ending

    @property
    def summary(self) -> str:
        """The first findings in words."""
        return "; ".join(self.reasons[:REASONS]) + ("; ..." if len(self.reasons) > REASONS else "")

    def add_job(self, path: bytes) -> None:
        """Note a job that does not stand as it must."""
        if path not in self.jobs:
            self.jobs.add(path)
            self.reasons.append(f"job {shown(path)} does not stand as published")
            self.is_vast |= len(self.jobs) > FEW

    def add_orphan(self, index: bytes, member: bytes) -> None:
        """Note a member that must not be there."""
        self.orphans.add((index, member))
        self.reasons.append(f"{shown(index)} holds {shown(member)}")
        self.is_vast |= len(self.orphans) > FEW

    def add_key(self, key: bytes, what: str) -> None:
        """Note a key that must not be there."""
        if key not in self.keys:
            self.keys.add(key)
            self.reasons.append(f"{shown(key)} is {what}")


class Auditor:
    """Compares Redis with the records, a part in every poll, and repairs it.

    Args:
        inspector: looks at the keys.
        store: writes to them.
        ledger: what was published.
        interval: seconds within which everything is compared.
        clock: what time it is.
    """

    def __init__(
        self, inspector: Inspector, store: Store, ledger: Ledger, interval: float, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._inspector = inspector
        self._interval = interval
        self._clock = clock
        self._evictions = Evictions(self._inspector)
        self._looked_at: float | None = None
        self._jobs_left: list[bytes] = []
        self._runs_left: list[bytes] = []
        self._cursor = b"0"
        self._round_findings = 0
        self._report: dict[str, str] = {}

    @property
    def report(self) -> dict[str, str]:
        """What ``meta`` is to say of it."""
        return {meta.POLICY_WARNING: self._evictions.warning, **self._report}

    def begin(self) -> None:
        """Take note that the records are about to be read from Redis, or written to it whole."""
        self._evictions.look()
        self._looked_at = None
        self._jobs_left, self._runs_left, self._cursor = [], [], b"0"

    def look(self, start: ScanStart, *, everything: bool = False) -> Damage:
        """Look for what was lost or does not belong; with ``everything``, compare all there is.

        Args:
            start: where the cache stands.
            everything: whether to compare all there is at once.

        Raises:
            FencedError, EpochError: the cache is no longer this refresher's, or no longer the one it knew.
        """
        records, expected = self._ledger.records, self._ledger.expected
        look = _Look(self._inspector, records, expected)
        damage = look.damage
        evicted = self._evictions.look()
        now = self._clock.monotonic()
        share = 0.0 if self._looked_at is None else (now - self._looked_at) / self._interval
        self._looked_at = now

        sizes = expected.sizes(records)
        runs = [key for key in sizes if key.startswith(names.RUNS_PREFIX)]
        others = {key for key in sizes if not key.startswith(names.RUNS_PREFIX)}
        look.at_sizes([*others, *(_ALWAYS - others)])
        if everything or evicted:
            look.at_sizes(runs)
            look.at_jobs(records, whole=everything)
        if everything:
            self._jobs_left, self._runs_left, self._cursor = [], [], b"0"
            self._sweep(look, None)
        elif not damage.is_vast:
            self._continue_round(look, share, runs)
        look.closely()
        self._note(damage, start, everything or not self._jobs_left)
        return damage

    def repair(self, damage: Damage, start: ScanStart) -> Iterator[Applied]:
        """Make right what concerns few jobs."""
        log.warning("the cache differs from what was published, repairing it: %s", damage.summary)
        records = self._ledger.records
        self._inspector.drop(damage.keys)
        self._inspector.prune(damage.orphans)
        operations = [
            self._republication(path, records[path]) for path in damage.jobs & records.keys()
        ]
        yield from self._store.apply(operations, start)
        self._inspector.recount()

    def _republication(self, path: bytes, record: Record) -> Operation:
        actual = self._store.reload(path)
        if actual is None:
            self._inspector.drop([names.job_key(path)])
        operation = put(path, actual, record.fields)
        return operation._replace(
            kind=ChangeKind.MODIFIED,
            added=put(path, None, record.fields).added,
            visible=True,
        )

    def _continue_round(self, look: _Look, share: float, runs: Sequence[bytes]) -> None:
        records = look.records
        if not self._jobs_left:
            self._jobs_left = list(records)
        if not self._runs_left:
            self._runs_left = list(runs)
        jobs = _take(self._jobs_left, max(LEAST_JOBS, ceil(share * len(records))))
        look.at_jobs([path for path in jobs if path in records], whole=True)
        look.at_sizes(_take(self._runs_left, max(LEAST_KEYS, ceil(share * len(runs)))))
        expected = len(records) + len(look.sizes)
        self._sweep(look, 1 + ceil(max(LEAST_KEYS, share * expected) / KEYS_PER_STEP))

    def _sweep(self, look: _Look, steps: int | None) -> None:
        """Look for keys that must not be there; None for all that there are."""
        while steps is None or steps > 0:
            self._cursor, found = self._inspector.scan(self._cursor)
            look.at_keys(found)
            if int(self._cursor) == 0:
                return
            steps = None if steps is None else steps - 1

    def _note(self, damage: Damage, start: ScanStart, round_ends: bool) -> None:
        self._round_findings += damage.count or damage.is_vast
        if damage:
            what = "built anew" if damage.is_vast else "repaired"
            self._report[meta.REPAIRED_AT] = f"{start.now:.6f}"
            self._report[meta.REPAIRED] = f"{what}: {damage.summary}"
        if round_ends:
            self._report[meta.AUDITED_AT] = f"{start.now:.6f}"
            self._report[meta.AUDIT_FINDINGS] = str(self._round_findings)
            self._round_findings = 0


_ALWAYS = frozenset({names.JOBS, names.RUNNING, names.PROJECTS}) | {
    index(status) for status in JobStatus for index in (names.status_index, names.activity_index)
}
"""Indexes that are looked at even if nothing must stand in them."""


class _Look:
    """One look at Redis, and what came of it."""

    def __init__(self, inspector: Inspector, records: Records, expected: ExpectedSizes) -> None:
        self.damage = Damage()
        self.records = records
        self.sizes = expected.sizes(records)
        self._expected = expected
        self._inspector = inspector
        self._suspects: set[bytes] = set()
        """Indexes of another size than they must be."""

    def at_sizes(self, indexes: Sequence[bytes]) -> None:
        """Compare sizes of indexes and lists of names, and what each step tells besides."""
        for some in steps(indexes, KEYS_PER_STEP):
            if self.damage.is_vast:
                return
            seen = self._inspector.inspect(indexes=some)
            self._judge_ending(seen)
            self._judge_beside(seen)
            gone = self._expected.share(self.records, seen.deleted)
            for index, size in zip(some, seen.sizes, strict=True):
                self._judge_size(index, size, gone[index], bool(gone))

    def at_jobs(self, paths: Iterable[bytes], *, whole: bool) -> None:
        """Compare jobs: their hashes and, if ``whole``, their entries in every index."""
        for some in steps(paths, JOBS_PER_STEP if whole else HASHES_PER_STEP):
            if self.damage.is_vast:
                return
            expected = [self._expect(path, whole) for path in some]
            seen = self._inspector.inspect(jobs=expected)
            self._judge_ending(seen)
            for one, observed in zip(expected, seen.observed, strict=True):
                if one.path not in seen.deleted and not observed.meets(one):
                    self._judge_job(one.path, observed)

    def at_keys(self, found: Iterable[bytes]) -> None:
        """Look for keys that must not be there."""
        for key in found:
            path = key.removeprefix(names.JOB_PREFIX)
            known = path in self.records if path != key else key in self.sizes
            if not known and key not in _FIXED:
                self.damage.add_key(key, "of no job")

    def closely(self) -> None:
        """Find what is wrong in the indexes whose size is."""
        if not self._suspects or self.damage.is_vast:
            return
        expected: dict[bytes, dict[bytes, Entry]] = {index: {} for index in self._suspects}
        witnesses: dict[tuple[bytes, bytes], bytes] = {}
        for path, record in self.records.items():
            for entry in entries_of(path, record.fields):
                if entry.key in expected:
                    expected[entry.key][entry.member] = entry
                    witnesses[entry.key, entry.member] = path
        missing: set[bytes] = set()
        for index, entries in expected.items():
            present = self._present(index)
            for member, score in present.items():
                if member not in entries:
                    self._judge_orphan(index, member)
                elif score != entries[member].score:
                    missing.add(witnesses[index, member])
            missing |= {witnesses[index, member] for member in entries.keys() - present.keys()}
        self.at_jobs(missing, whole=True)

    def _present(self, index: bytes) -> dict[bytes, float]:
        if index in self.damage.keys:  # of a wrong type
            return {}
        return dict(self._inspector.members(index))

    def _expect(self, path: bytes, whole: bool) -> ExpectedJob:
        record = self.records[path]
        entries = entries_of(path, record.fields) if whole else ()
        return ExpectedJob(path, record.revision, len(record.fields) + 1, entries)

    def _judge_ending(self, seen: Inspection) -> None:
        if seen.ending:
            self.damage.ending += seen.ending
            self.damage.reasons.append(f"{seen.ending} keys had a time to live")

    def _judge_beside(self, seen: Inspection) -> None:
        damage = self.damage
        damage.deleted |= seen.deleted
        for key in seen.wrong_streams:
            damage.add_key(key, "of a wrong type, empty, or at its end")
        if seen.fresh_since is None or damage.chips:
            return
        chips = self._expected.chips(seen.fresh_since, seen.deleted)
        if seen.active_chips != chips:
            damage.chips = True
            damage.reasons.append(f"active_chips is {seen.active_chips}, not {chips}")

    def _judge_size(self, index: bytes, size: int | None, gone: int, anything_gone: bool) -> None:
        is_list = index == names.PROJECTS or index.startswith(names.GROUPS_PREFIX)
        if is_list and anything_gone and size is not None:
            return  # whether a name stays is decided by the jobs that are left
        expected = self.sizes.get(index, 0) - gone
        if size is None:
            self.damage.add_key(index, "of a wrong type")
        elif size != expected:
            self.damage.reasons.append(f"{shown(index)} holds {size} of {expected}")
        if size != expected:
            self._suspects.add(index)
            self.damage.is_vast |= abs(expected - (size or 0)) > FEW

    def _judge_job(self, path: bytes, observed: ObservedJob) -> None:
        self.damage.add_job(path)
        if observed.hash_is_wrong:
            self.damage.add_key(names.job_key(path), "of a wrong type")
        for index in observed.wrong_indexes:
            self.damage.add_key(index, "of a wrong type")
            self._suspects.add(index)
            self.damage.is_vast |= self.sizes.get(index, 0) > FEW

    def _judge_orphan(self, index: bytes, member: bytes) -> None:
        self.damage.add_orphan(index, member)
        path = names.member_path(index, member)
        if path.count(b"/") == 3 and path not in self.records:
            self.damage.keys.add(names.job_key(path))


def _take(items: list[T], count: int) -> list[T]:
    taken = items[-count:]
    del items[-count:]
    return taken
