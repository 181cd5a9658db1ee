"""One scan, published: discover, read, diff, apply, complete. Knows no phases; ``leadership`` says when it runs.

A new epoch is filled in the same way: from memory first, since the tree may take long or not answer at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from jobcache.models import ChangeKind
from jobcache.schema import meta
from jobcache_refresher.announce import Announcer
from jobcache_refresher.audit.audit import FEW, Auditor
from jobcache_refresher.audit.inspection import Inspector
from jobcache_refresher.clock import Clock
from jobcache_refresher.deletions import Hold, make_policy
from jobcache_refresher.ledger import Ledger, PathState
from jobcache_refresher.overdue import NextScan
from jobcache_refresher.publish.deleter import Deleter
from jobcache_refresher.publish.diff import Operation, diff
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.publish.store import Applied, ScanStart, Store
from jobcache_refresher.records import Record, Records
from jobcache_refresher.scan.root import RootFaultError
from jobcache_refresher.scan.scanner import Readings, Scan, Scanner
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import Snapshot
from jobcache_refresher.scan.supervisor import ScanSupervisor
from jobcache_refresher.scan.volumes import decode_volumes, describe_faults, encode_volumes
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status
from jobcache_refresher.triggers.work import WorkItem
from jobcache_refresher.workers import to_keep

log = logging.getLogger(__name__)


class LeakError(EpochError):
    """Redis does not hold what is written to it."""


class Cycle:
    """Makes Redis say what the tree says. For the one thread that refreshes.

    Args:
        settings: intervals and limits.
        store: where jobs are published.
        inspector: looks at what is there.
        deleter: deletes what clients ask to delete.
        ledger: what is published.
        scanner: what is known of the tree.
        supervisor: runs the scanner, and notices when it hangs.
        status: counts that metrics show.
        next_scan: when it should be complete.
        announcer: tells readers.
        clock: what time it is.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        inspector: Inspector,
        deleter: Deleter,
        ledger: Ledger,
        scanner: Scanner,
        supervisor: ScanSupervisor,
        status: Status,
        next_scan: NextScan,
        announcer: Announcer,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._store = store
        self._ledger = ledger
        self._scanner = scanner
        self._supervisor = supervisor
        self._status = status
        self._next_scan = next_scan
        self._announcer = announcer
        self._clock = clock
        self._inspector = inspector
        self._deleter = deleter
        self._auditor = Auditor(inspector, store, ledger, settings.audit_interval, clock)
        self._policy = make_policy(settings)
        self._completed_at: float | None = None
        """End of the last scan that was completed in this epoch, in epoch seconds; None while the epoch is built."""
        self._position = ""
        """Id of the last request taken into account; empty for none."""
        self._began = 0.0
        """Monotonic time at which the scan under way, or the last one, began."""

    @property
    def is_building(self) -> bool:
        """Whether no scan was completed in this epoch yet, so that readers wait."""
        return self._completed_at is None

    def request_position(self) -> bytes:
        """Id of the last request that was taken into account; empty for none."""
        return self._inspector.request_position()

    def unconfirmed(self, paths: Iterable[bytes]) -> set[bytes]:
        """Those of some paths that lack something which awaits a second observation."""
        return self._scanner.unconfirmed(paths)

    # A new leader, and a new epoch

    def adopt(self, records: Records, snapshot: Snapshot) -> None:
        """Take over what Redis holds, and what it says of the tree.

        Raises:
            EpochError: Redis lost many jobs while nobody led.
        """
        self._auditor.begin()
        self._next_scan.expect()
        self.remember(records, snapshot)
        self._announcer.adopt_problems()
        self._scanner.adopt_volumes(decode_volumes(self._store.field(meta.VOLUMES)))
        self._position = self.request_position().decode()
        # Readers follow an epoch that was complete once: what is new to this refresher is news to them.
        self._completed_at = self._store.number(meta.COMPLETED_AT)
        if self._completed_at is None:
            raise EpochError("Redis does not say when a scan was completed")
        self._policy = make_policy(self._settings, holds_on=bool(self._store.number(meta.HELD)))
        log.info("took over %d jobs from Redis", len(records))
        lost = (self._store.number(meta.JOBS) or 0) - len(records)
        if lost > FEW:
            raise EpochError(f"Redis lost {lost} jobs or their index while nobody led")

    def remember(self, records: Records, snapshot: Snapshot) -> None:
        """Put other knowledge in place of this refresher's own: what was published, and what that says of the tree."""
        self._scanner.reset(snapshot)
        self._mark_dirty(PathState.PENDING, PathState.UNREAD, PathState.CONFLICT)
        self._ledger.adopt(records)

    def lose_epoch(self) -> None:
        """The epoch cannot be trusted: from now on, nothing counts as published."""
        self._mark_dirty(PathState.PENDING, PathState.UNREAD, PathState.CONFLICT)
        self._ledger.lose_epoch()
        self._store.leave()
        self._completed_at = None

    def begin_epoch(self) -> None:
        """Begin a new epoch: readers are told to wait, and what was there is dropped."""
        log.info(
            "building the cache anew, %d jobs of it from memory",
            self._ledger.count(PathState.REMEMBERED),
        )
        self._status.rebuilds += 1
        self._auditor.begin()
        fields = self._auditor.report
        if self._deleter.position:
            fields = {**fields, meta.DELETED_POSITION: self._deleter.position.decode()}
        self._announcer.begin_epoch(fields)

    def republish(self) -> None:
        """Publish from memory what an earlier epoch held, but for jobs that clients deleted.

        The epoch is complete after this if nobody else can have led since the last completed scan. Otherwise the next
        scan completes it.

        Raises:
            LeakError: Redis lost much of it already.
        """
        remembered = dict(self._ledger.items(PathState.REMEMBERED))
        if not remembered:
            return
        start = self._store.start_scan()
        for path in self._deleter.take():
            remembered.pop(path, None)
            self._quarantine(path)
        self._apply(diff(self._ledger.records, remembered.items(), ()), start)
        self._resolve_conflicts()
        self._ledger.take_all(PathState.REMEMBERED)
        self._prove_whole(start)
        if self._ledger.is_current:
            self._complete(start, {})

    # A scan

    def run(self, item: WorkItem) -> bool:
        """Scan, and publish what changed. Unless only hints were looked at, the scan completes.

        Returns whether the status directory could be believed.

        Raises:
            FencedError: the cache is no longer this refresher's.
            EpochError: the epoch is lost.
            FilesystemHungError: the status directory does not answer.
            redis.RedisError: the server failed; what was read is read again by the next scan.
        """
        self._began = self._clock.monotonic()
        self._announcer.begin_scan(item.scope)
        start = self._store.start_scan()
        self._take_requests(item)
        if item.scope is not Scope.HINTS:
            self._audit(start, everything=item.requests.audit)
        try:
            scan = self._scan(item, start)
        except RootFaultError as fault:
            self.degrade(str(fault))
            return False
        hold = self._delete(item, scan, start)
        if item.scope is not Scope.HINTS:
            if self.is_building:
                self._prove_whole(start)
            self._complete_scan(start, scan, hold, self._clock.monotonic() - self._began)
        return True

    def _take_requests(self, item: WorkItem) -> None:
        self._position = item.requests.position.decode() or self._position
        self._mark_dirty(PathState.PENDING, PathState.UNREAD)
        if item.requests.release:
            self._scanner.release_volumes()
        # After the scan began: a tombstone from before is known now, and need not be kept when it completes.
        for path in self._deleter.take():
            self._ledger.mark_conflict(path)
            self._policy.note_asked(path)
        self._resolve_conflicts()

    def _scan(self, item: WorkItem, start: ScanStart) -> Scan:
        released = self._ledger.end_quarantines(self._clock.monotonic())
        for path in released:
            self._scanner.mark_dirty(path)  # also if this scan does not come to it
        judged_at = start.now if self._completed_at is None else self._completed_at
        failures: list[Exception] = []

        def publish(readings: Readings) -> None:
            # A failure waits until the scan is over; the scanner's thread must not be left alone.
            if failures:
                self._ledger.drop_pending(readings)
                return
            self._ledger.expect(readings)
            try:
                self._publish(start)
            except Exception as error:
                failures.append(to_keep(error))
                self._ledger.drop_pending()

        scan = self._supervisor.scan(
            item.scope,
            item.hints | released,
            fresh_since=judged_at - self._settings.stale_after,
            now=start.now,
            take=publish,
        )
        if failures:
            raise failures.pop()  # held by nothing but its own traceback
        return scan

    def _publish(self, start: ScanStart) -> None:
        pending = self._ledger.items(PathState.PENDING)
        self._apply(diff(self._ledger.records, pending, ()), start)
        # What is left was read, and is what Redis says already.
        self._ledger.take_all(PathState.PENDING)

    def _delete(self, item: WorkItem, scan: Scan, start: ScanStart) -> Hold | None:
        """Delete what is gone, as far as the policy allows; returns what is held."""
        records = self._ledger.records
        decision = self._policy.decide(
            scan.missing,
            records,
            began=self._began,
            saw_all=item.scope is not Scope.HINTS,
            released=item.requests.release,
        )
        for path in decision.delete:
            if path not in records:
                self._scanner.forget(path)
        self._apply(diff(records, (), decision.delete), start)
        self._resolve_conflicts()
        return decision.hold

    def _apply(self, operations: Iterable[Operation], start: ScanStart) -> None:
        # Of a cache that nobody has seen, nobody awaits news.
        for applied in self._store.apply(operations, start, announce=not self.is_building):
            self._note(applied)

    def _note(self, applied: Applied) -> None:
        operation = applied.operation
        if applied.verdict != "ok":
            self._ledger.mark_conflict(operation.path)
            return
        if operation.visible:
            self._status.changes[operation.kind] += 1
        if operation.kind is ChangeKind.ADDED and not self.is_building:
            self._policy.note_new(operation.path, self._began)
        if operation.fields:
            self._ledger.publish(operation.path, Record(operation.fields, applied.revision))
        else:
            self._ledger.drop(operation.path)
            self._scanner.forget(operation.path)

    # What somebody else did

    def _mark_dirty(self, *states: PathState) -> None:
        """Have runs read again that were read and are not published: a deletion may lie in between."""
        for state in states:
            for path in self._ledger.take_all(state):
                self._scanner.mark_dirty(path)

    def _resolve_conflicts(self) -> None:
        # A path stays in this state until it was looked at, also if Redis fails meanwhile.
        for path, _ in self._ledger.items(PathState.CONFLICT):
            self._look_again(path)

    def _look_again(self, path: bytes) -> None:
        """Look at both sides of a job that somebody else changed or deleted; it may be there again by now."""
        record = self._store.reload(path)
        if record is None:
            self._quarantine(path)
        else:
            self._ledger.publish(path, record)
            self._scanner.mark_dirty(path)

    def _quarantine(self, path: bytes) -> None:
        # Its files were removed a moment ago, on another host: for as long as the filesystem may show old attributes,
        # what it shows of them does not count. If they are there after that, they are the truth.
        self._ledger.quarantine(path, self._clock.monotonic() + self._settings.settle)

    # What Redis lost

    def _audit(self, start: ScanStart, *, everything: bool) -> None:
        """Look for what Redis lost, and repair what is little.

        Raises:
            EpochError: too much is wrong.
        """
        damage = self._auditor.look(start, everything=everything)
        if damage.is_vast:
            for path in damage.deleted & self._ledger.records.keys():
                self._quarantine(path)
            raise EpochError(f"the cache differs from what was published: {damage.summary}")
        if damage:
            self._status.repairs += damage.count
            for applied in self._auditor.repair(damage, start):
                self._note(applied)
            self._resolve_conflicts()

    def _prove_whole(self, start: ScanStart) -> None:
        """Look at a cache that was just built, before any reader does."""
        try:
            self._audit(start, everything=False)
        except FencedError:
            raise
        except EpochError:
            raise LeakError(
                "Redis loses keys of the cache while it is built: is its memory full?"
            ) from None

    # What readers are told

    def degrade(self, reason: str) -> None:
        """Tell readers why answers may be old or not whole."""
        self._announcer.degrade(reason, is_building=self.is_building)

    def _complete_scan(
        self, start: ScanStart, scan: Scan, hold: Hold | None, seconds: float
    ) -> None:
        held_back = hold.describe(len(self._ledger.records), self._clock) if hold else ""
        reasons = (held_back, scan.absence, describe_faults(scan.volumes))
        self._status.say("; ".join(filter(None, reasons)))
        held = hold.jobs if hold else 0
        found = self._scanner.snapshot.problems(self._announcer.problems)
        self._announcer.note_problems(found, start)
        # The stream may have begun anew: then whoever asks next must not be told that it was seen to.
        self._position = self._inspector.known_request(self._position.encode()).decode()
        self._next_scan.note_duration(seconds)
        self._complete(
            start,
            {
                meta.ERRORS: str(scan.errors),
                meta.HELD: str(held),
                meta.REREAD: str(len(self._scanner.snapshot.outdated)),
                meta.VOLUMES: encode_volumes(scan.volumes),
                meta.EXAMINED: str(scan.examined),
                meta.SCAN_SECONDS: f"{seconds:.3f}",
                meta.REQUEST_POSITION: self._position,
                meta.SCANNED: "",
                meta.TOTAL: "",
            },
        )
        self._ledger.is_current = True
        status = self._status
        status.jobs, status.errors, status.held = len(self._ledger.records), scan.errors, held
        status.scan_seconds, status.completed_at = seconds, self._completed_at or 0.0
        status.scans += 1
        status.examined += scan.examined

    def _complete(self, start: ScanStart, fields: dict[str, str]) -> None:
        self._completed_at = self._announcer.complete(start, {**self._auditor.report, **fields})
