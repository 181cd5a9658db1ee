"""The parts of a refresher, put together. No threads of its own, and nothing is connected or scanned yet."""

from __future__ import annotations

import threading
from collections.abc import Callable

from jobcache.schema.keys import Keys
from jobcache_refresher.announce import Announcer
from jobcache_refresher.audit.inspection import Inspector
from jobcache_refresher.clock import Clock
from jobcache_refresher.cycle import Cycle
from jobcache_refresher.leadership import Leadership
from jobcache_refresher.ledger import Ledger
from jobcache_refresher.overdue import NextScan
from jobcache_refresher.publish.deleter import Deleter
from jobcache_refresher.publish.follower import Follower
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.problems import PublishedProblems
from jobcache_refresher.publish.server import Server
from jobcache_refresher.publish.store import Store
from jobcache_refresher.scan.recalled import RecalledTree
from jobcache_refresher.scan.rules import Rules
from jobcache_refresher.scan.scanner import Scanner
from jobcache_refresher.scan.supervisor import ScanSupervisor
from jobcache_refresher.scan.tree import Tree
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status
from jobcache_refresher.triggers.hints import HintSource
from jobcache_refresher.triggers.mounts import types_below
from jobcache_refresher.triggers.requests import RequestInbox
from jobcache_refresher.triggers.work import WorkQueue


class Engine:
    """Everything that a refresher is made of.

    Args:
        settings: intervals, limits and places.
        holder: the name of this process in the lease and in ``meta``, without spaces.
        clock: what time it is.
        stop: when set, nobody waits for a scan any more.
        wake: called, in other threads, when there is something to do.
        on_progress: told how many of how many runs a scan has examined.
        tree: the status directory; by default that of the settings.
        may_come_later: whether a status directory that does not exist yet is empty, and not an error.
    """

    def __init__(
        self,
        settings: Settings,
        holder: str,
        clock: Clock,
        *,
        stop: threading.Event,
        wake: Callable[[], None] = lambda: None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        tree: Tree | None = None,
        may_come_later: bool = False,
    ) -> None:
        self.status = Status()
        self.server = Server(settings.endpoint())
        self.keys = Keys(settings.namespace)
        self.lease = Lease(self.server, self.keys, holder, settings.lease_ttl, clock)
        self.store = Store(self.server, self.keys, self.lease)
        self.inspector = Inspector(self.server, self.keys, self.store)
        self.scanner = Scanner(
            tree or Tree(settings.status_dir),
            settings,
            clock,
            lambda done, total: self._note_progress(done, total),
            types_below,
            may_come_later=may_come_later,
        )
        self.supervisor = ScanSupervisor(
            self.scanner,
            settings.hang_timeout,
            stop,
            clock,
            lambda: self.announcer.report_progress(),
        )
        self._on_progress = on_progress
        self.next_scan = NextScan(settings.poll_interval, clock)
        self.announcer = Announcer(
            settings,
            self.store,
            PublishedProblems(self.server, self.store, self.keys),
            self.status,
            self.next_scan,
            holder,
            clock,
        )
        self.ledger = Ledger()
        self.deleter = Deleter(self.store, wake)
        self.work = WorkQueue(
            settings.poll_interval,
            RequestInbox(self.server, self.keys, self.deleter, wake),
            HintSource(settings.status_dir, settings.mode, wake, clock),
            self.deleter,
            clock,
        )
        self.cycle = Cycle(
            settings,
            self.store,
            self.inspector,
            self.deleter,
            self.ledger,
            self.scanner,
            self.supervisor,
            self.status,
            self.next_scan,
            self.announcer,
            clock,
        )
        recalled = RecalledTree(clock, Rules.of(settings).tag)
        self.follower = Follower(self.server, self.keys, recalled, clock)
        self.leadership = Leadership(
            self.lease,
            self.store,
            self.follower,
            recalled,
            self.announcer,
            self.cycle,
            self.work,
            self.supervisor,
            self.ledger,
            self.status,
        )

    def _note_progress(self, done: int, total: int) -> None:
        self._on_progress(done, total)
        self.announcer.note_progress(done, total)

    def close(self) -> None:
        """Let go of threads, descriptors and connections."""
        self.supervisor.close()
        self.work.close()
        self.store.close()
        self.server.close()
