"""The phases of a refresher, and how it gets from one to another. The only module that knows phases."""

from __future__ import annotations

import logging
from enum import Enum

from redis.exceptions import RedisError, ResponseError

from jobcache.schema.meta import DELETED_POSITION
from jobcache_refresher.announce import Announcer
from jobcache_refresher.cycle import Cycle
from jobcache_refresher.ledger import Ledger
from jobcache_refresher.publish.follower import Follower
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.publish.store import Store
from jobcache_refresher.scan.recalled import RecalledTree
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import Snapshot
from jobcache_refresher.scan.supervisor import FilesystemHungError, ScanSupervisor
from jobcache_refresher.status import Status
from jobcache_refresher.triggers.work import WorkItem, WorkQueue

log = logging.getLogger(__name__)

STANDBY_INTERVAL = 0.5
"""Seconds between two attempts of a standby to take the lease."""
FOLLOWING = 0.2
"""Seconds that a standby reads at a time, before it asks for the lease again."""


class Phase(Enum):
    """What a refresher is doing."""

    STANDBY = "standby"
    """Another refresher leads, or nobody does: it follows what is published and tries to win the lease."""
    ADOPTING = "adopting"
    """It has won the lease and reads what the namespace holds."""
    REBUILDING = "rebuilding"
    """The namespace holds nothing that can be trusted: it fills a new epoch from memory and from the tree."""
    LEADING = "leading"
    """What the namespace holds is whole: it scans, and publishes what changed."""
    STALLED = "stalled"
    """The filesystem does not answer: it has given the lease back and waits for the scan that hangs."""


class Event(Enum):
    """What can happen to a refresher."""

    LEASE_WON = "the lease was won"
    EPOCH_WHOLE = "the epoch in Redis is whole"
    EPOCH_LOST = "the epoch in Redis is lost"
    REBUILT = "the new epoch is complete"
    FENCED = "the lease was lost"
    HUNG = "the filesystem hangs"
    ANSWERED = "the filesystem answers again"


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.STANDBY, Event.LEASE_WON): Phase.ADOPTING,
    (Phase.ADOPTING, Event.EPOCH_WHOLE): Phase.LEADING,
    (Phase.ADOPTING, Event.EPOCH_LOST): Phase.REBUILDING,
    (Phase.REBUILDING, Event.EPOCH_LOST): Phase.REBUILDING,
    (Phase.REBUILDING, Event.REBUILT): Phase.LEADING,
    (Phase.LEADING, Event.EPOCH_LOST): Phase.REBUILDING,
    **{(phase, Event.FENCED): Phase.STANDBY for phase in Phase if phase is not Phase.STALLED},
    **{(phase, Event.HUNG): Phase.STALLED for phase in Phase if phase is not Phase.STALLED},
    (Phase.STALLED, Event.ANSWERED): Phase.STANDBY,
}
"""The phase that an event leads to. An event that is not listed for a phase must not happen in it."""


class TransitionError(Exception):
    """An event happened in a phase in which it must not: a bug."""


class Leadership:
    """Decides, turn by turn, what a refresher does. For the one thread that refreshes.

    Args:
        lease: who may write.
        store: what is published.
        follower: reads what another refresher publishes.
        recalled: what that says of the tree.
        announcer: tells readers how this refresher is set up.
        cycle: scans and publishes.
        work: what is to be looked at.
        supervisor: knows whether a scan hangs.
        ledger: what this refresher published.
        status: counts that metrics show.
    """

    def __init__(
        self,
        lease: Lease,
        store: Store,
        follower: Follower,
        recalled: RecalledTree,
        announcer: Announcer,
        cycle: Cycle,
        work: WorkQueue,
        supervisor: ScanSupervisor,
        ledger: Ledger,
        status: Status,
    ) -> None:
        self.phase = Phase.STANDBY
        self._lease = lease
        self._store = store
        self._follower = follower
        self._recalled = recalled
        self._announcer = announcer
        self._cycle = cycle
        self._work = work
        self._supervisor = supervisor
        self._ledger = ledger
        self._status = status

    def turn(self) -> float:
        """Do what is due in the present phase; returns for how many seconds nothing is due.

        Raises:
            FilesystemHungError: the status directory does not answer. The lease was given back.
            SchemaMismatch: a newer version of jobcache wrote to the namespace.
            redis.RedisError, OSError: the server failed; the phase is as before.
        """
        try:
            if not self._may_lead():
                return STANDBY_INTERVAL
            if self.phase is Phase.ADOPTING:
                self.adopt()
                self._work.look_at_everything()
            if not self._work.is_open:
                self._work.open(
                    self._cycle.request_position() or None,
                    self._store.field(DELETED_POSITION),
                )
            at_least = Scope.POLL if self.phase is Phase.REBUILDING else Scope.HINTS
            item = self._work.next(at_least)
            if item is not None:
                self._work_on(item)
            return self._work.pause
        except FencedError as lost:
            self.lose_lease(lost)
            return STANDBY_INTERVAL
        except FilesystemHungError as hung:
            self._stall(hung)
            raise

    def adopt(self) -> None:
        """The lease was won: take over what the namespace holds, or begin a new epoch.

        Raises:
            SchemaMismatch: a newer version of jobcache wrote it.
        """
        if self.phase is Phase.STANDBY:
            self._on(Event.LEASE_WON)
        try:
            self._take_over()
        except EpochError as lost:
            self.lose_epoch(lost)
            self._cycle.begin_epoch()
        else:
            self._on(Event.EPOCH_WHOLE)

    def step(self, item: WorkItem) -> bool:
        """Do one item of work. What Redis lost is noticed before the scan, and is whole again when this returns.

        Returns whether the status directory could be believed, and the cache is whole.
        """
        try:
            try:
                return self._attempt(item)
            except EpochError as lost:
                self.lose_epoch(lost)
                return self._attempt(item.at_least(Scope.POLL))
        except EpochError as leak:
            # What is left of this epoch is of no use to anybody, and takes up room.
            self.lose_epoch(leak)
            self._cycle.begin_epoch()
            self._cycle.degrade(str(leak))
            return False

    def stand_by(self) -> None:
        """Read what another refresher publishes, a little at a time, so that a takeover need not."""
        self._status.degraded = ""  # whoever leads tells how the cache is
        try:
            self._follower.follow(FOLLOWING)
        except (EpochError, ResponseError) as error:
            if isinstance(error, ResponseError) and "WRONGTYPE" not in str(error):
                raise
            # A key is of a wrong type: whoever leads will repair it.
            log.debug("standing by: %s", error)
        if self._follower.is_whole and self._ledger.records:
            # This refresher led once. The follower knows better than its memory.
            self._cycle.remember({}, Snapshot())

    def _may_lead(self) -> bool:
        """Whether this refresher holds the lease now; it is taken if it can be had."""
        if self.phase is Phase.STALLED:
            if self._supervisor.waits_for_hung_scan():
                return False
            self._on(Event.ANSWERED)
        if self.phase is not Phase.STANDBY:
            if not self._lease.value:
                # A lease that did not end by itself was lost with the whole cache: then nobody else can have led.
                raise FencedError(self._lease.loss, with_the_cache=not self._lease.has_lapsed)
            return True
        self._work.suspend()
        # If the lease ran out by this clock, another refresher may have led meanwhile, whoever has it now.
        may_be_outdated = self._lease.has_lapsed
        wins = self._lease.acquire()
        if may_be_outdated or not wins:
            self._ledger.is_current = False
            self._work.forget()
        if wins:
            log.info("leading as %s", self._lease.value.decode())
            self._on(Event.LEASE_WON)
            return True
        self.stand_by()
        return False

    def _work_on(self, item: WorkItem) -> None:
        self._announcer.describe(self._work.description)
        try:
            believed = self.step(item)
        except BaseException:
            self._work.failed(item)
            raise
        self._work.done(item, believed=believed, unconfirmed=self._cycle.unconfirmed)

    def _take_over(self) -> None:
        epoch = self._store.join()
        records = None if epoch is None else self._follower.complete(epoch)
        if records is not None:
            self._cycle.adopt(records, self._recalled.take())
            return
        if self._follower.is_whole:  # it knows what was published last
            self._cycle.remember(self._follower.take(), self._recalled.take())
        raise EpochError("there is no whole cache to take over")

    def _attempt(self, item: WorkItem) -> bool:
        if self.phase is Phase.REBUILDING:
            if not self._store.has_epoch:
                self._cycle.begin_epoch()
            self._cycle.republish()
            self._note_completion()
        believed = self._cycle.run(item)
        self._note_completion()
        return believed

    def _note_completion(self) -> None:
        if self.phase is Phase.REBUILDING and not self._cycle.is_building:
            self._on(Event.REBUILT)

    def lose_lease(self, lost: FencedError) -> None:
        """Another refresher may lead from now on: nothing more is written."""
        self._lease.drop(with_the_cache=lost.with_the_cache)
        self._on(Event.FENCED, str(lost))

    def lose_epoch(self, lost: EpochError) -> None:
        """Nothing that was published counts any more."""
        log.warning("%s: building the cache anew", str(lost))  # a record would keep its frames
        self._on(Event.EPOCH_LOST)
        self._cycle.lose_epoch()

    def _stall(self, hung: FilesystemHungError) -> None:
        self._on(Event.HUNG, f"the filesystem hangs ({hung})")
        try:
            self._cycle.degrade(f"the status directory hangs: {hung}")
            self._lease.release()
        except (RedisError, OSError, FencedError, EpochError) as error:
            log.warning("the lease was not given back, it ends by itself: %s", error)

    def _on(self, event: Event, why: str = "") -> None:
        before = self.phase
        self.phase = after_event(before, event)
        if event in (Event.FENCED, Event.HUNG):
            self._status.leadership_lost += 1
            self._status.forget_scan()
            log.warning("leading no more, and writing nothing: %s", why)
        log.debug("%s: %s -> %s", event.value, before.value, self.phase.value)


def after_event(phase: Phase, event: Event) -> Phase:
    """The phase that an event leads to.

    Raises:
        TransitionError: the event must not happen in this phase.
    """
    after = TRANSITIONS.get((phase, event))
    if after is None:
        raise TransitionError(f"{event.name} in phase {phase.name}")
    return after
