"""A refresher that a test steps by hand, beside a client of the same namespace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from jobcache import JobCache
from jobcache.connection.endpoint import Endpoint
from jobcache.keys import Keys
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.server import Server
from jobcache_refresher.publish.store import Store
from jobcache_refresher.reconcile import Reconciler, Wanted
from jobcache_refresher.scan.patience import PatientScanner
from jobcache_refresher.scan.scanner import Scanner
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Tree
from jobcache_refresher.settings import Settings


class SteppedClock:
    """The real clocks, which a test can set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def advance(self, seconds: float) -> None:
        self.ahead += seconds

    @property
    def clock(self) -> Clock:
        return Clock(
            time=lambda: time.time() + self.ahead,
            monotonic=lambda: time.monotonic() + self.ahead,
        )


class StepRefresher:
    """One refresher without threads: every refresh is a call."""

    def __init__(
        self,
        url: str,
        status_dir: Path,
        namespace: str,
        *,
        tree: Tree | None = None,
        **settings: Any,
    ) -> None:
        self.settings = Settings.create(
            status_dir=str(status_dir), url=url, namespace=namespace, scan_threads=1, **settings
        )
        self.time = SteppedClock()
        clock = self.time.clock
        self.keys = Keys(namespace)
        self.server = Server(Endpoint.find(url, namespace=namespace))
        self.lease = Lease(self.server, self.keys, "test:1:0", 3600, clock)
        self.store = Store(self.server, self.keys, self.lease, clock)
        self.tree = tree or Tree(str(status_dir))
        self.scanner = Scanner(self.tree, self.settings, clock)
        self.patient = PatientScanner(self.scanner, 60, threading.Event(), clock)
        self.reconciler = Reconciler(
            self.settings, self.store, self.scanner, self.patient, "test:1:0", clock
        )

    def lead(self) -> None:
        assert self.lease.acquire()
        self.reconciler.assume()

    def outwait_burials(self) -> None:
        """Let as much time pass as files of a run that a client deleted do not count for."""
        self.time.advance(self.settings.settle + 0.1)

    def refresh(self, scope: Scope = Scope.RELIST, **wanted: Any) -> bool:
        self.time.advance(0.1)  # observations right after one another count once
        return self.reconciler.refresh(scope, Wanted(**wanted))

    def settle(self) -> None:
        """As many refreshes as a deletion takes."""
        self.refresh()
        self.refresh()

    def close(self) -> None:
        self.lease.release()
        self.patient.close()
        self.store.close()
        self.server.close()


class Rig:
    """A leading ``StepRefresher`` and two clients."""

    def __init__(
        self,
        url: str,
        status_dir: Path,
        namespace: str,
        *,
        tree: Tree | None = None,
        client_url: str | None = None,
        **settings: Any,
    ) -> None:
        self.url = url
        self.status_dir = status_dir
        self.namespace = namespace
        self.refresher = StepRefresher(url, status_dir, namespace, tree=tree, **settings)
        self.cache_url = client_url or url
        self.replies: list[Any] = []
        """What Redis replied to the calls of ``cache`` and ``forgetful``, in order."""
        self.on_reply: Callable[[], None] = lambda: None
        """Called after each of these replies."""
        self.cache = self._client(self.cache_url)
        self.forgetful = self._client(self.cache_url, memo_bytes=0)
        """A client that remembers nothing of what it was told before."""

    def _client(self, url: str, **options: Any) -> JobCache:
        return JobCache(
            url,
            namespace=self.namespace,
            deadline=10,
            ready_timeout=1,
            on_exchange=self._note_exchange,
            **options,
        )

    def _note_exchange(self, command: Any, reply: Any) -> None:
        self.replies.append(reply)
        self.on_reply()

    def __enter__(self) -> Self:
        self.refresher.lead()
        return self

    def __exit__(self, *failure: object) -> None:
        self.cache.close()
        self.forgetful.close()
        self.refresher.close()

    def refresh(self, scope: Scope = Scope.RELIST, **wanted: Any) -> bool:
        return self.refresher.refresh(scope, **wanted)

    def settle(self) -> None:
        self.refresher.settle()
