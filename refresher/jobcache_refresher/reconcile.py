"""One refresh: scan, diff, apply, complete."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from jobcache.models import CacheState
from jobcache_refresher.clock import Clock
from jobcache_refresher.diff import diff
from jobcache_refresher.guard import RootFaultError
from jobcache_refresher.patience import FilesystemHungError, PatientScanner
from jobcache_refresher.records import Fields, Record, Records
from jobcache_refresher.scanner import Scan, Scanner
from jobcache_refresher.scope import Scope
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status
from jobcache_refresher.store import Outcome, Place, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a refresh is asked to do beyond its scope."""

    hints: frozenset[bytes] = frozenset()
    """Paths of runs to discover or read again."""
    dropped: frozenset[bytes] = frozenset()
    """Paths of runs that a client deleted from the cache."""
    release: bool = False
    """Whether an operator released deletions that are held."""
    position: str = ""
    """Id of the last request taken into account; empty for none."""


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
        self._identity = {
            "status_dir": settings.status_dir,
            "mode": settings.mode,
            "mode_reason": "",
            "poll_interval": f"{settings.poll_interval:g}",
            "relist_interval": f"{settings.relist_interval:g}",
            "refresher": holder,
        }
        self._pending: dict[bytes, Fields] = {}
        """What was read, and is not in Redis yet."""
        self._buried: dict[bytes, float] = {}
        """Runs that a client deleted, and the monotonic time from which their files count again."""
        self._deleted_on_hints = 0
        """Since the last scan of more than hints."""
        self._completed_at: float | None = None
        self._position = ""

    def describe(self, **fields: str) -> None:
        """Say something else of this refresher in ``meta``, from the next completed refresh on."""
        self._identity |= fields

    def assume(self) -> None:
        """Take over what the namespace holds, or begin anew.

        Raises:
            SchemaMismatch: a newer version of jobcache wrote it.
        """
        published = self._store.open()
        if published is None:
            self.rebuild()
            return
        self._scanner.reset()
        self._pending.clear()
        self.records = published
        for path, record in published.items():
            self._scanner.recall(path, record.fields)
        log.info("took over %d jobs from Redis", len(published))

    def rebuild(self) -> None:
        """Begin a new epoch, to be filled from memory and from the tree."""
        log.info("building the cache anew, %d jobs of it from memory", len(self.records))
        self._store.begin(self._identity)
        self._completed_at = None
        known = {path: record.fields for path, record in self.records.items()}
        self._pending = {**known, **self._pending}
        self.records = {}

    def refresh(self, scope: Scope, wanted: Wanted = Wanted()) -> bool:
        """Scan, diff, apply and, unless only hints were looked at, complete.

        Returns whether the status directory could be believed.

        Raises:
            FencedError, EpochError: the cache is no longer this refresher's, or no longer the one it knew.
            FilesystemHungError: the status directory does not answer.
            redis.RedisError: the server did not; what was read is kept for the next refresh.
        """
        began = self._clock.monotonic()
        place = self._store.place()
        self._position = wanted.position or self._position
        for path in wanted.dropped:
            self._bury(path)
        risen = self._rise()
        since = self._completed_at if self._completed_at is not None else place.now
        try:
            scan = self._patient.scan(
                scope,
                wanted.hints | risen,
                fresh_since=since - self._settings.stale_after,
            )
        except RootFaultError as fault:
            self._degrade(str(fault))
            return False
        except FilesystemHungError as hung:
            self._degrade(f"status_dir={self._settings.status_dir!r} hangs: {hung}")
            raise
        self._pending.update(scan.readings)
        for path in self._buried.keys() & self._pending.keys():
            del self._pending[path]
        held = self._held(scan, wanted.release)
        self._apply(() if held else self._deletable(scan, scope), place)
        if scope is not Scope.HINTS:
            seconds = self._clock.monotonic() - began
            self._completed_at = self._complete(place, scan, held, seconds)
            self._note_completion(scan, held, seconds)
        return True

    def _apply(self, gone: Iterable[bytes], place: Place) -> None:
        for path in gone:
            self._pending.pop(path, None)
            if path not in self.records:
                self._scanner.forget(path)
        found = list(self._pending.items())
        for outcome in self._store.apply(diff(self.records, found, gone), place):
            self._note(outcome)
        # What is left was read, and is what Redis says already.
        self._pending.clear()

    def _note(self, outcome: Outcome) -> None:
        operation = outcome.operation
        path = operation.path
        self._pending.pop(path, None)
        if outcome.verdict != "ok":
            # Somebody else changed or deleted the job meanwhile: look at both sides again.
            record = self._store.reload(path)
            if record is None:
                self._bury(path)
            else:
                self.records[path] = record
                self._scanner.distrust(path)
            return
        if operation.visible:
            self.status.changes[operation.kind] += 1
        if operation.fields:
            self.records[path] = Record(operation.fields, outcome.revision)
        else:
            self._forget(path)
            self._scanner.forget(path)

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
        return risen

    def _forget(self, path: bytes) -> None:
        self.records.pop(path, None)
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

    def _held(self, scan: Scan, release: bool) -> int:
        """How many deletions wait for an operator; 0 when none does."""
        if release or scan.vanishing <= self._settings.hold_minimum:
            return 0
        known = self.records.keys() | self._pending.keys()
        waiting = sum(path in known for path in scan.gone)
        # Those seen to be absent only once count as well: what vanishes at once may be noticed in two scans.
        much = scan.vanishing > self._settings.hold_fraction * len(known)
        return waiting if much else 0

    def _complete(self, place: Place, scan: Scan, held: int, seconds: float) -> float:
        reason = ""
        if held:
            reason = (
                f"{held} of {len(self.records)} jobs vanished at once: their deletion waits for "
                f"'jobcache-refresher release'"
            )
        self._say(reason or None)
        return self._store.complete(
            place,
            self._settings.stale_after,
            {
                **self._identity,
                "state": (CacheState.DEGRADED if reason else CacheState.READY).value,
                "reason": reason,
                "errors": str(scan.errors),
                "held": str(held),
                "examined": str(scan.examined),
                "scan_seconds": f"{seconds:.3f}",
                "request_position": self._position,
                "scanned": "",
                "total": "",
            },
        )

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
