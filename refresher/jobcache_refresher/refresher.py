"""``Refresher``: the lifecycle around the refreshes. Who leads, when the next scan is due, and how it all ends."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from jobcache.errors import CacheUnavailable, JobCacheError
from jobcache.keys import Keys
from jobcache_refresher.clock import Clock
from jobcache_refresher.lease import Lease
from jobcache_refresher.reconcile import Reconciler, Wanted
from jobcache_refresher.requests import RequestInbox, Requests
from jobcache_refresher.scanner import Scanner, Scope
from jobcache_refresher.server import EpochError, FencedError, Server
from jobcache_refresher.settings import Settings
from jobcache_refresher.store import Store
from jobcache_refresher.tree import Tree

log = logging.getLogger(__name__)

STANDBY_INTERVAL = 0.5
"""Seconds between two attempts of a standby to take the lease."""
RETRY_INTERVAL = 1.0
"""Seconds to wait after Redis failed."""
CLOSING_TIME = 3.0
"""Seconds that a refresh under way may take to end when the refresher is stopped."""


class Refresher:
    """Reads a status directory and keeps Redis up to date, for as long as it holds the lease.

    Several may run on one namespace: one leads, the others stand by. Use it as ``async with``, as ``with``, or through
    ``start()`` and ``stop()``.

    Args:
        status_dir: the directory that the training jobs write to.
        mode: how changes are noticed: ``polling``.
        poll_interval: seconds between two looks at what is active.
        url: Redis URL; by default ``JOBCACHE_REDIS_URL``, then ``REDIS_URL``.
        namespace: which of the caches in one Redis.
        progress: told how many of how many runs a scan has examined.
        settings: any other field of ``Settings``.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        status_dir: str | os.PathLike[str],
        mode: str = "polling",
        poll_interval: float = 10.0,
        *,
        url: str | None = None,
        namespace: str = "default",
        progress: Callable[[int, int], None] | None = None,
        clock: Clock = Clock(),  # noqa: B008 - immutable
        **settings: Any,
    ) -> None:
        self.settings = Settings.create(
            status_dir=os.fspath(status_dir),
            mode=mode,
            poll_interval=poll_interval,
            url=url or "",
            namespace=namespace,
            **settings,
        )
        self._progress = progress
        self._clock = clock
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._server = Server(self.settings.endpoint())
        self._keys = Keys(self.settings.namespace)
        self._lease = Lease(self._server, self._keys, self._holder, self.settings.lease_ttl, clock)
        self._store = Store(self._server, self._keys, self._lease)
        tree = Tree(self.settings.status_dir)
        self._scanner = Scanner(tree, self.settings, clock, self._on_progress)
        self._reconciler = Reconciler(
            self.settings, self._store, self._scanner, self._holder, clock
        )
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._settled = threading.Event()
        self._failure: Exception | None = None
        self._leads = False
        self._inbox = RequestInbox(self._server, self._keys, self._wake.set)
        self._threads: list[threading.Thread] = []
        self._next_relist = float("-inf")
        self._next_poll = float("-inf")
        self._next_report = float("-inf")

    # Lifecycle

    def open(self) -> Self:
        """Do the first full scan (or stand by, if another refresher leads), then go on in the background.

        Raises:
            ConfigError: the status directory cannot be read.
            CacheUnavailable: Redis cannot be reached.
            SchemaMismatch: a newer version of jobcache wrote to the namespace.
        """
        self._check()
        for target in (self._loop, self._keep_lease):
            thread = threading.Thread(target=target, name=f"jobcache{target.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._settled.wait()
        if self._failure is not None:
            self.close()
            raise self._failure
        return self

    def close(self) -> bool:
        """Stop, and give the lease back. Returns whether every thread ended in time."""
        self._stop.set()
        self._wake.set()
        self._settled.set()
        self._inbox.close()
        for thread in self._threads:
            thread.join(CLOSING_TIME)
        self._scanner.close()
        try:
            self._lease.release()
        except (RedisError, OSError) as error:
            log.warning("the lease was not given back, it ends by itself: %s", error)
        self._server.close()
        return not any(thread.is_alive() for thread in self._threads)

    async def start(self) -> None:
        """``open()`` for async applications."""
        await asyncio.to_thread(self.open)

    async def stop(self) -> None:
        """``close()`` for async applications."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def refresh_once(self) -> int:
        """Scan everything once, without a background; returns how many jobs there are.

        Raises:
            CacheUnavailable: Redis cannot be reached, or another refresher holds the lease.
        """
        self._check()
        try:
            if not self._lease.acquire():
                holder = self._server.ask(b"GET", self._keys.lease)
                raise CacheUnavailable(
                    f"another refresher holds the lease: {(holder or b'').decode()}"
                )
            self._reconciler.assume()
            self._reconciler.refresh(Scope.RELIST)
            return len(self._reconciler.records)
        except (RedisError, OSError) as error:
            raise CacheUnavailable(f"{self._server.shown}: {error}") from error
        finally:
            self.close()

    # The loop

    def _check(self) -> None:
        self.settings.check_status_dir()
        try:
            self._server.ask(b"PING")
        except (RedisError, OSError) as error:
            raise CacheUnavailable(f"{self._server.shown}: {error}") from error

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                pause = self._turn()
            except FencedError as lost:
                log.warning("the lease is lost (%s): standing by", lost)
                self._lease.drop()
                pause = STANDBY_INTERVAL
            except (RedisError, OSError) as error:
                log.warning("%s: %s", self._server.shown, error)
                self._fail(CacheUnavailable(f"{self._server.shown}: {error}"))
                pause = RETRY_INTERVAL
            except _StoppedError:
                return
            except JobCacheError as error:
                log.error("%s", error)  # noqa: TRY400 - one line says it all
                self._fail(error)
                pause = RETRY_INTERVAL
            self._wake.wait(pause)
            self._wake.clear()

    def _turn(self) -> float:
        """Lead if possible, refresh what is due; returns for how many seconds nothing is."""
        if not self._lease.value:
            self._leads = False
            if not self._lease.acquire():
                self._settled.set()
                return STANDBY_INTERVAL
        if not self._leads:
            log.info("leading as %s", self._lease.value.decode())
            self._reconciler.assume()
            self._inbox.open(self._store.field("request_position"))
            self._leads = True
            self._next_relist = self._next_poll = float("-inf")
        requests = self._inbox.drain()
        scope = self._due(requests)
        if scope is None:
            return self._next_poll - self._clock.monotonic()
        self._refresh(scope, requests)
        self._settled.set()
        return max(0.0, self._next_poll - self._clock.monotonic())

    def _due(self, requests: Requests) -> Scope | None:
        now = self._clock.monotonic()
        if requests.refresh or requests.release or now >= self._next_relist:
            return Scope.RELIST
        if now >= self._next_poll:
            return Scope.POLL
        return Scope.HINTS if requests.position else None

    def _refresh(self, scope: Scope, requests: Requests) -> None:
        began = self._clock.monotonic()
        wanted = Wanted(
            hints=frozenset(requests.invalidated),
            dropped=frozenset(requests.deleted),
            release=requests.release,
            position=requests.position.decode(),
        )
        try:
            try:
                self._reconciler.refresh(scope, wanted)
            except EpochError as flushed:
                log.warning("%s: rebuilding", flushed)
                self._reconciler.rebuild()
                self._reconciler.refresh(scope, wanted)
        except BaseException:
            self._inbox.put_back(requests)
            raise
        if scope is Scope.RELIST:
            # Jittered, so that the refreshers of many namespaces do not list in step.
            self._next_relist = began + self.settings.relist_interval * random.uniform(0.85, 1)  # noqa: S311
        if scope is not Scope.HINTS:
            self._next_poll = began + self.settings.poll_interval

    def _fail(self, error: Exception) -> None:
        if not self._settled.is_set():
            self._failure = error
            self._settled.set()

    def _keep_lease(self) -> None:
        while not self._stop.wait(self.settings.lease_ttl / 3):
            try:
                if self._lease.value and not self._lease.renew():
                    log.warning("the lease was lost")
            except (RedisError, OSError) as error:
                log.warning("the lease was not renewed: %s", error)

    def _on_progress(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        if self._progress is not None:
            self._progress(done, total)
        now = self._clock.monotonic()
        if now >= self._next_report:
            self._next_report = now + 1.0
            self._store.report({"scanned": str(done), "total": str(total)})


class _StoppedError(JobCacheError):
    """The refresher was stopped in the middle of a scan."""
