"""The lease: one refresher writes at a time, and the server knows which."""

from __future__ import annotations

import threading

from jobcache.schema.keys import Keys
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.scripts import lease_script
from jobcache_refresher.publish.server import Server


class Lease:
    """A lease with a fencing token, minted by the server in the step that grants it.

    Args:
        server: where the lease lies.
        keys: of which namespace.
        holder: a name for this process, without spaces.
        ttl: seconds that the lease lasts without renewal.
    """

    def __init__(self, server: Server, keys: Keys, holder: str, ttl: float, clock: Clock) -> None:
        self._server = server
        self._keys = keys
        self._holder = holder
        self._ttl = ttl
        self._clock = clock
        self._lock = threading.Lock()
        self._value = b""
        self._ends = float("-inf")
        self._lapses = float("-inf")

    @property
    def has_lapsed(self) -> bool:
        """Whether somebody else may have led since it was last held: it ended, by this clock, or was lost alone."""
        return self._clock.monotonic() >= self._lapses

    @property
    def loss(self) -> str:
        """Why a lease that was held is held no longer, in words."""
        ago = self._clock.monotonic() - self._lapses
        if ago < 0 or ago == float("inf"):
            return "another refresher took the lease, or Redis lost it"
        return (
            f"the lease ended {ago:.1f} s ago without being renewed: this process was paused, or "
            f"Redis was out of reach"
        )

    @property
    def value(self) -> bytes:
        """Holder and fencing token, as every write must show them; empty when the lease is not held."""
        with self._lock:
            return self._value if self._clock.monotonic() < self._ends else b""

    def acquire(self) -> bool:
        """Take the lease if nobody holds it."""
        asked_at = self._clock.monotonic()
        taken, value = self._server.run(
            lease_script("acquire"),
            (self._keys.lease, self._keys.meta),
            (self._holder, int(self._ttl * 1000)),
        )
        if taken:
            self._hold(value, asked_at)
        return bool(taken)

    def renew(self) -> bool:
        """Keep the lease; False when it is lost."""
        value, asked_at = self.value, self._clock.monotonic()
        if not value:
            return False
        kept = self._server.run(
            lease_script("renew"),
            (self._keys.lease, self._keys.meta),
            (value, int(self._ttl * 1000)),
        )
        if kept == 1:
            self._hold(value, asked_at)
        else:
            self.drop(with_the_cache=kept == -1)
        return bool(kept == 1)

    def release(self) -> None:
        """Give the lease back, so that a standby need not wait for its end."""
        value = self.value
        self.drop()
        if value:
            self._server.run(lease_script("release"), (self._keys.lease,), (value,))

    def drop(self, *, with_the_cache: bool = False) -> None:
        """Stop believing in the lease. If it was lost alone, somebody else may lead from now on."""
        self._hold(b"", float("-inf"))
        if not with_the_cache:
            self._lapses = float("-inf")

    def _hold(self, value: bytes, asked_at: float) -> None:
        # Counted from before the request, so that the server's lease never ends first.
        with self._lock:
            self._value, self._ends = value, asked_at + self._ttl
            if value:
                self._lapses = self._ends
