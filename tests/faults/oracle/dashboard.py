"""The client that writes: deletes jobs whose files were removed, invalidates, asks for refreshes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from jobcache import JobCache, JobCacheError
from tests.faults.oracle.journal import Journal
from tests.faults.oracle.world import World
from tests.trees import Names


class Dashboard(threading.Thread):
    """Does one thing after another, as long as the server takes; what fails is not tried again."""

    def __init__(self, url: str, namespace: str, world: World, journal: Journal) -> None:
        super().__init__(name="oracle-dashboard", daemon=True)
        self._cache = JobCache(url, namespace=namespace, ready_timeout=0)
        self._world = world
        self._journal = journal
        self._wanted: queue.Queue[Callable[[], object] | None] = queue.Queue()

    def delete(self, names: Names) -> None:
        def act() -> None:
            acknowledged = False
            self._world.dismissing(names)
            try:
                self._cache.delete_job(*names)
                acknowledged = True
            finally:
                self._world.dismissed(names, acknowledged=acknowledged)

        self._wanted.put(act)

    def invalidate(self, names: Names) -> None:
        self._wanted.put(lambda: self._cache.invalidate(*names))

    def refresh(self) -> None:
        self._wanted.put(self._cache.refresh)

    def run(self) -> None:
        while (act := self._wanted.get()) is not None:
            try:
                act()
                self._journal.count("client writes")
            except JobCacheError:
                self._journal.count("client writes refused")
            except Exception as bug:
                self._journal.violate("h", f"a client's write raised {bug!r}")
        self._cache.close()

    def end(self) -> None:
        self._wanted.put(None)
        self.join()
