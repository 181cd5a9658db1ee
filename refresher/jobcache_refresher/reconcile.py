"""One refresh: scan, diff, apply, complete."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set
from dataclasses import dataclass

from redis.exceptions import ResponseError

from jobcache.models import CacheState
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.audit import FEW, Auditor
from jobcache_refresher.publish.diff import Operation, diff
from jobcache_refresher.publish.records import Fields, Record, Records
from jobcache_refresher.publish.server import EpochError
from jobcache_refresher.publish.store import Outcome, Place, Store
from jobcache_refresher.scan.guard import RootFaultError
from jobcache_refresher.scan.patience import FilesystemHungError, PatientScanner
from jobcache_refresher.scan.scanner import Readings, Scan, Scanner, recall
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import Snapshot
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status
from jobcache_refresher.text import shown

log = logging.getLogger(__name__)

FOLLOWING = 0.2
"""Seconds that a standby reads at a time, before it asks for the lease again."""
NAMED = 5
"""Directories that a reason names, of those that are not read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a refresh is asked to do beyond its scope."""

    hints: frozenset[bytes] = frozenset()
    """Paths of runs to discover or read again."""
    dropped: frozenset[bytes] = frozenset()
    """Paths of runs that a client deleted from the cache."""
    release: bool = False
    """Whether an operator released deletions that are held."""
    audit: bool = False
    """Whether to compare all of Redis with what was published."""
    position: str = ""
    """Id of the last request taken into account; empty for none."""


class LeakyError(Exception):
    """Redis does not hold what is written to it."""


class Reconciler:
    """Makes Redis say what the tree says. Holds the records; leaves the lease to its owner.

    Args:
        settings: intervals and limits.
        store: where to write.
        scanner: what is known of the tree.
        patient: how to scan with it.
        holder: the name of this process in ``meta``.
        clock: what time it is.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        scanner: Scanner,
        patient: PatientScanner,
        holder: str,
        clock: Clock,
    ) -> None:
        self.records: Records = {}
        self.status = Status()
        self._settings = settings
        self._store = store
        self._scanner = scanner
        self._patient = patient
        self._clock = clock
        self._auditor = Auditor(store, settings.audit_interval, clock)
        self._identity = {
            "status_dir": settings.status_dir,
            "mode": settings.mode,
            "mode_reason": "",
            "poll_interval": f"{settings.poll_interval:g}",
            "relist_interval": f"{settings.relist_interval:g}",
            "refresher": holder,
        }
        self._pending: Readings = {}
        """What the scan under way read, and is not in Redis yet."""
        self._failure: Exception | None = None
        """Why no more of it is published."""
        self._contested: list[bytes] = []
        """Runs that somebody else changed or deleted in Redis, to be looked at when the scan is over."""
        self._from_memory: dict[bytes, Fields] = {}
        """What an earlier epoch held, and this one does not yet."""
        self._buried: dict[bytes, float] = {}
        """Runs that a client deleted, and the monotonic time from which their files count again."""
        self._deleted_on_hints = 0
        """Since the last scan of more than hints."""
        self._holding = False
        """Whether deletions wait for an operator, or for all that vanished to come back."""
        self._completed_at: float | None = None
        self._memory_is_current = False
        """Whether nobody else can have led since the last completed refresh."""
        self._follows = False
        """Whether the scanner knows what the mirror read, instead of what was published from here."""
        self._position = ""
        store.mirror.on_reset = self._forget_tree
        store.mirror.on_move = self._recall

    def describe(self, **fields: str) -> None:
        """Say something else of this refresher in ``meta``, from the next completed refresh on."""
        self._identity |= fields

    def assume(self) -> None:
        """Take over what the namespace holds, or begin anew.

        Raises:
            SchemaMismatch: a newer version of jobcache wrote it.
        """
        self._auditor.begin()
        published = self._store.open()
        self._doubt(self._pending)
        self._doubt(self._contested)
        if published is None:
            self._remember()
            self.rebuild()
            return
        self._follows = False
        self._from_memory.clear()
        self._position = (self._store.field("request_position") or b"").decode()
        completed_at = self._store.field("completed_at")
        # Readers follow an epoch that was complete once: what is new to this refresher is news to them.
        self._completed_at = None if completed_at is None else float(completed_at)
        self.records = published
        log.info("took over %d jobs from Redis", len(published))
        lost = int(self._store.field("jobs") or 0) - len(published)
        if lost > FEW:
            log.warning("Redis lost %d jobs or their index while nobody led", lost)
            self.rebuild()

    def follow(self) -> None:
        """Stand by: read what another refresher publishes, a little at a time, so that a takeover need not.

        Raises:
            redis.RedisError: the server failed.
        """
        try:
            self._store.mirror.follow(FOLLOWING)
            if self._store.mirror.is_whole:
                self.records = {}  # of a time when this one led: the mirror knows better
        except (EpochError, ResponseError) as error:
            if isinstance(error, ResponseError) and "WRONGTYPE" not in str(error):
                raise
            # A key is of a wrong type: whoever leads will mend it.
            log.debug("standing by: %s", error)

    def _forget_tree(self) -> None:
        self._follows = True
        self._scanner.reset(Snapshot())

    def _recall(self, path: bytes, record: Record | None) -> None:
        if record is None:
            self._scanner.forget(path)
        else:
            recall(self._scanner.snapshot, path, record.fields)

    def _remember(self) -> None:
        """What was published is lost: have the scanner know what will be published from memory, and nothing else."""
        if not self._follows:
            return
        self._follows = False
        if self._store.mirror.is_whole:
            self._from_memory.clear()
            self.records = self._store.mirror.take()
            return
        self._scanner.reset(Snapshot())
        for path, fields in self._from_memory.items():
            recall(self._scanner.snapshot, path, fields)
        for path, record in self.records.items():
            recall(self._scanner.snapshot, path, record.fields)

    def doubt_memory(self) -> None:
        """Another refresher led, or may have: what this one remembers may be old."""
        self._memory_is_current = False
        self._say(None)

    def rebuild(self) -> None:
        """Begin a new epoch, to be filled from memory and from the tree."""
        log.info("building the cache anew, %d jobs of it from memory", len(self.records))
        self.status.rebuilds += 1
        # Memory first: whatever fails from here on, nothing counts as published.
        self._from_memory.update((path, record.fields) for path, record in self.records.items())
        self.records = {}
        self._completed_at = None
        self._auditor.begin()
        stale_after = repr(self._settings.stale_after)
        self._store.begin({**self._identity, **self._auditor.report, "stale_after": stale_after})

    def refresh(self, scope: Scope, wanted: Wanted = Wanted()) -> bool:
        """Scan, diff, apply and, unless only hints were looked at, complete.

        What Redis lost is noticed before the scan, and is whole again when this returns.

        Returns whether the status directory could be believed, and the cache is whole.

        Raises:
            FencedError: the cache is no longer this refresher's.
            EpochError: it was lost thrice while this went on.
            FilesystemHungError: the status directory does not answer.
            redis.RedisError: the server did not; what was read is kept for the next refresh.
        """
        try:
            try:
                return self._refresh(scope, wanted)
            except EpochError as lost:
                log.warning("%s: rebuilding", lost)
                self.rebuild()
                return self._refresh(max(scope, Scope.POLL), wanted)
        except (LeakyError, EpochError) as leak:
            # What is left of it is of no use to anybody, and takes up room.
            log.warning("%s: trying again later", leak)
            self.rebuild()
            self._degrade(str(leak))
            return False

    def _refresh(self, scope: Scope, wanted: Wanted) -> bool:
        began = self._clock.monotonic()
        place = self._store.place()
        self._position = wanted.position or self._position
        for path in wanted.dropped:
            self._from_memory.pop(path, None)
        self._doubt(self._pending)
        if self._from_memory:
            place = self._republish(place)
        self._settle_contested()
        for path in wanted.dropped:
            self._drop(path)
        if scope is not Scope.HINTS and not self._audit(place, everything=wanted.audit):
            self.rebuild()
            place = self._republish(self._store.place())
        risen = self._rise()
        since = self._completed_at if self._completed_at is not None else place.now
        self._failure = None
        try:
            scan = self._patient.scan(
                scope,
                wanted.hints | risen,
                fresh_since=since - self._settings.stale_after,
                take=lambda readings: self._take(readings, place),
            )
        except RootFaultError as fault:
            self._degrade(str(fault))
            return False
        except FilesystemHungError as hung:
            self._degrade(f"status_dir={self._settings.status_dir!r} hangs: {hung}")
            raise
        if self._failure is not None:
            raise self._failure
        held = self._held(scan, scope, wanted.release)
        self._delete(() if held else self._deletable(scan, scope), place)
        if scope is not Scope.HINTS:
            if self._completed_at is None:
                self._prove_whole(place)
            seconds = self._clock.monotonic() - began
            self._completed_at = self._complete(place, scan, held, seconds)
            self._memory_is_current = True
            self._note_completion(scan, held, seconds)
        return True

    def _republish(self, place: Place) -> Place:
        """Publish what an earlier epoch held, before the tree is looked at: it may take long, or not answer at all."""
        fields = self._from_memory
        self._apply(diff(self.records, fields.items(), ()), place)
        self._settle_contested()
        self._prove_whole(place)
        self._from_memory = {}
        if not self._memory_is_current:
            return self._store.place()  # still building: the tree must be looked at first
        self._completed_at = self._store.complete(
            place,
            self._settings.stale_after,
            {
                **self._identity,
                **self._auditor.report,
                **self._state(self.status.degraded or ""),
            },
        )
        return self._store.place()

    def _doubt(self, paths: dict[bytes, Fields] | list[bytes]) -> None:
        """Have runs read anew that were read and could not be published: a deletion may lie in between."""
        for path in paths:
            self._scanner.distrust(path)
        paths.clear()

    def _drop(self, path: bytes) -> None:
        """A client says that it deleted a job; that may be long ago, and the job be there again."""
        record = self._store.reload(path)
        if record is None:
            self._bury(path)
        else:
            self._keep(path, record)
            self._scanner.distrust(path)

    def _prove_whole(self, place: Place) -> None:
        """Look at a cache that was just built, before anybody else does.

        Raises:
            LeakyError: Redis lost much of it already.
        """
        if not self._audit(place, everything=False):
            raise LeakyError("Redis loses keys of the cache while it is built: is its memory full?")

    def _audit(self, place: Place, *, everything: bool) -> bool:
        """Look for what Redis lost, and mend what is little; False when the cache must be built anew."""
        damage = self._auditor.look(self.records, self._position, place, everything=everything)
        if damage.is_vast:
            log.warning("the cache differs from what was published: %s", damage.summary)
            for path in damage.deleted:
                self._bury(path)
            return False
        if damage:
            self.status.repairs += damage.count
            for outcome in self._auditor.mend(damage, self.records, place):
                self._note(outcome)
            self._settle_contested()
        return True

    def _take(self, readings: Readings, place: Place) -> None:
        """Publish what was read, while the scan goes on. An error waits until the scan is over."""
        self._pending |= readings
        for path in self._buried.keys() & readings.keys():
            del self._pending[path]
        if self._failure is None:
            try:
                self._publish(place)
            except Exception as error:
                self._failure = error

    def _publish(self, place: Place) -> None:
        # Of a cache that nobody has seen, nobody awaits news.
        announce = self._completed_at is not None
        operations = diff(self.records, list(self._pending.items()), ())
        self._apply(operations, place, announce=announce)
        # What is left was read, and is what Redis says already.
        self._pending.clear()

    def _delete(self, gone: Iterable[bytes], place: Place) -> None:
        for path in gone:
            if path not in self.records:
                self._scanner.forget(path)
        self._apply(diff(self.records, (), gone), place, announce=self._completed_at is not None)
        self._settle_contested()

    def _apply(
        self, operations: Iterable[Operation], place: Place, *, announce: bool = True
    ) -> None:
        for outcome in self._store.apply(operations, place, announce=announce):
            self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        operation = outcome.operation
        path = operation.path
        self._pending.pop(path, None)
        if outcome.verdict != "ok":
            self._contested.append(path)
            return
        if operation.visible:
            self.status.changes[operation.kind] += 1
        if operation.fields:
            self._keep(path, Record(operation.fields, outcome.revision))
        else:
            self._forget(path)
            self._scanner.forget(path)

    def _settle_contested(self) -> None:
        """Look at both sides again of what somebody else changed or deleted meanwhile."""
        for path in self._contested:
            self._drop(path)
        self._contested.clear()

    def _bury(self, path: bytes) -> None:
        """Forget a job that a client deleted.

        Its files were removed a moment ago, on another host: for as long as the filesystem may show old attributes,
        what it shows of them does not count. If they are there after that, they are the truth.
        """
        self._forget(path)
        self._buried[path] = self._clock.monotonic() + self._settings.settle

    def _rise(self) -> frozenset[bytes]:
        """The runs whose files count again; they are to be read whatever their fingerprint."""
        now = self._clock.monotonic()
        risen = frozenset(path for path, until in self._buried.items() if until <= now)
        for path in risen:
            del self._buried[path]
            # Also if this scan does not come to it.
            self._scanner.distrust(path)
        return risen

    def _keep(self, path: bytes, record: Record) -> None:
        known = self.records.get(path)
        self._auditor.census.move(path, known.fields if known else None, record.fields)
        self.records[path] = record

    def _forget(self, path: bytes) -> None:
        known = self.records.pop(path, None)
        self._auditor.census.move(path, known.fields if known else None, None)
        self._pending.pop(path, None)

    def _deletable(self, scan: Scan, scope: Scope) -> list[bytes]:
        """What may go now. Hints show a mass deletion bit by bit: beyond a few, a scan that sees it all must judge."""
        if scope is not Scope.HINTS:
            self._deleted_on_hints = 0
        elif self._deleted_on_hints + len(scan.gone) > self._settings.hold_minimum:
            return []
        else:
            self._deleted_on_hints += len(scan.gone)
        return scan.gone

    def _held(self, scan: Scan, scope: Scope, release: bool) -> int:
        """How many deletions wait for an operator; 0 when none does.

        A hold lasts until it is released, or until nothing is missing any more: if it ended when a part came back, the
        rest would go.
        """
        if release or (scope is not Scope.HINTS and not scan.vanishing):
            self._holding = False
            return 0
        if not self._holding and scan.vanishing <= self._settings.hold_minimum:
            return 0
        known = self.records.keys()
        # Those seen to be absent only once count as well: what vanishes at once may be noticed in two scans.
        self._holding |= scan.vanishing > self._settings.hold_fraction * len(known)
        return sum(path in known for path in scan.gone) if self._holding else 0

    def _complete(self, place: Place, scan: Scan, held: int, seconds: float) -> float:
        reasons = []
        if held:
            reasons.append(
                f"{held} of {len(self.records)} jobs vanished at once: their deletion waits for "
                f"'jobcache-refresher release'"
            )
        if scan.volumes:
            reasons.append(_unread(scan.volumes))
        reason = "; ".join(reasons)
        self._say(reason or None)
        return self._store.complete(
            place,
            self._settings.stale_after,
            {
                **self._identity,
                **self._auditor.report,
                **self._state(reason),
                "errors": str(scan.errors),
                "held": str(held),
                "examined": str(scan.examined),
                "scan_seconds": f"{seconds:.3f}",
                "request_position": self._position,
                "scanned": "",
                "total": "",
            },
        )

    @staticmethod
    def _state(reason: str) -> dict[str, str]:
        state = CacheState.DEGRADED if reason else CacheState.READY
        return {"state": state.value, "reason": reason}

    def _note_completion(self, scan: Scan, held: int, seconds: float) -> None:
        status = self.status
        status.jobs, status.errors, status.held = len(self.records), scan.errors, held
        status.scan_seconds, status.completed_at = seconds, self._completed_at or 0.0
        status.scans += 1
        status.examined += scan.examined

    def _degrade(self, reason: str) -> None:
        self._say(reason)
        fields = {"reason": reason}
        if self._store.field("state") != CacheState.BUILDING.value.encode():
            fields["state"] = CacheState.DEGRADED.value
        self._store.report(fields)

    def _say(self, degraded: str | None) -> None:
        if degraded != self.status.degraded:
            if degraded:
                log.warning("degraded: %s", degraded)
            else:
                log.info("no longer degraded")
            self.status.degraded = degraded


def _unread(volumes: Set[bytes]) -> str:
    named = ", ".join(shown(path) for path in sorted(volumes)[:NAMED])
    more = f" and {len(volumes) - NAMED} more" if len(volumes) > NAMED else ""
    return f"directories on filesystems of their own are not read: {named}{more}"
