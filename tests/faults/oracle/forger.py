"""(g) by trying: writes under leases that were lost; each must be refused, and leave no trace."""

from __future__ import annotations

from jobcache.transport.endpoint import Endpoint
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.diff import put
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.server import EpochError, FencedError, Server
from jobcache_refresher.publish.store import ScanStart, Store
from tests.faults.oracle.place import Place
from tests.faults.oracle.watcher import Watcher
from tests.trees import Names

FORGED: Names = ("forged", "by", "a", "lost-token")
"""A job that only a write which should have been refused can bring about."""
FIELDS = {b"status": b"running", b"hardware": b"{}", b"config": b"{}", b"chips": b"1"}


class LostLease(Lease):
    """A lease that its holder still believes in."""

    lost = b""

    @property
    def value(self) -> bytes:
        return self.lost


class Forger(Watcher):
    """Collects leases, and writes with those that are no longer current."""

    interval = 0.3

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._server = Server(Endpoint.find(place.server.url))
        self._lease = LostLease(self._server, place.keys, "forger:1:00000000", 1, Clock())
        self._store = Store(self._server, place.keys, self._lease)
        self._known: list[bytes] = []

    def look(self) -> None:
        # A failover may bring a lease back that was lost.
        with self.place.server.changing:
            self._try_all()

    def _try_all(self) -> None:
        current = self.redis.get(self.place.keys.lease)
        for lost in self._known[-3:]:
            if lost != current:
                self._forge(lost)
        if isinstance(current, bytes) and current not in self._known:
            self._known.append(current)

    def _forge(self, lost: bytes) -> None:
        self._lease.lost = lost
        if self._store.join() is None:
            return
        operation = put("/".join(FORGED).encode(), None, FIELDS)
        try:
            list(self._store.apply([operation], ScanStart(1 << 50, 0.0)))
        except FencedError:
            self.place.journal.count("forged writes refused")
        except EpochError:
            pass  # a new epoch began in between: looked at before the lease was
        else:
            self.place.journal.violate("g", f"a write under the lost lease {lost!r} was taken")

    def end(self) -> None:
        super().end()
        self._store.close()
        self._server.close()
