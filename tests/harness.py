"""A refresher that a test steps by hand, beside a client of the same namespace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from jobcache import AsyncJobCache, JobCache
from jobcache.schema.streams import DELETE
from jobcache_refresher.clock import Clock
from jobcache_refresher.engine import Engine
from jobcache_refresher.leadership import Phase
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.records import Records
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Tree
from jobcache_refresher.settings import Settings
from jobcache_refresher.triggers.requests import Requests
from jobcache_refresher.triggers.work import WorkItem


def note_reads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A list that grows by the path of every run of which a refresher reads the file."""
    read: list[bytes] = []
    original = Tree.read_whole

    def noted(self: Tree, path: bytes, *rest: Any) -> Any:
        read.append(path)
        return original(self, path, *rest)

    monkeypatch.setattr(Tree, "read_whole", noted)
    return read


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
            status_dir=str(status_dir),
            url=url,
            namespace=namespace,
            **{"scan_threads": 1, "lease_ttl": 3600.0, "hang_timeout": 60.0, **settings},
        )
        self.time = SteppedClock()
        self.tree = tree or Tree(str(status_dir))
        self.engine = engine = Engine(
            self.settings, "test:1:0", self.time.clock, stop=threading.Event(), tree=self.tree
        )
        self.keys, self.server, self.store = engine.keys, engine.server, engine.store
        self.lease, self.scanner, self.leadership = engine.lease, engine.scanner, engine.leadership

    @property
    def records(self) -> Records:
        """What it published, or took over."""
        return self.engine.ledger.records

    def lead(self) -> None:
        """Win the lease; it is lost first, if this refresher leads."""
        if self.leadership.phase is not Phase.STANDBY:
            self.leadership.lose_lease(FencedError("a test says so"))
        assert self.lease.acquire()
        self.leadership.adopt()

    def rebuild(self) -> None:
        """As if Redis had lost what was published."""
        self.leadership.lose_epoch(EpochError("a test says so"))
        self.engine.cycle.begin_epoch()

    def outwait_quarantines(self) -> None:
        """Let as much time pass as files of a run that a client deleted do not count for."""
        self.time.advance(self.settings.settle + 0.1)

    def refresh(
        self, scope: Scope = Scope.RELIST, hints: Iterable[bytes] = (), **requests: Any
    ) -> bool:
        self.time.advance(0.1)  # observations right after one another count once
        return self.leadership.step(WorkItem(scope, frozenset(hints), Requests(**requests)))

    def settle(self) -> None:
        """As many refreshes as a deletion takes."""
        self.refresh()
        self.refresh()

    def close(self) -> None:
        self.lease.release()
        self.engine.close()


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
        """What Redis replied to the calls of these clients, in order."""
        self.on_reply: Callable[[], None] = lambda: None
        """Called after each of these replies."""
        self.cache = self.client()
        self.forgetful = self.client(memo_bytes=0)
        """A client that remembers nothing of what it was told before."""

    def client(self, **options: Any) -> JobCache:
        """Another client; whoever asks for it closes it."""
        return JobCache(
            self.cache_url,
            namespace=self.namespace,
            deadline=10,
            ready_timeout=1,
            on_exchange=self._note_exchange,
            **options,
        )

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Have the refresher do what other clients ask it to delete, as long as this lasts."""
        work = self.refresher.engine.work
        work.open(None, None)
        yield
        work.stop()
        work.forget()

    def async_client(self) -> AsyncJobCache:
        """One for an event loop."""
        return AsyncJobCache(
            self.url, namespace=self.namespace, deadline=10, on_exchange=self._note_exchange
        )

    def _note_exchange(self, command: Any, reply: Any) -> None:
        self.replies.append(reply)
        if DELETE in command:  # nobody but this rig's refresher is there to do it
            self.refresher.engine.deleter.apply(reply, command[-1])
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
