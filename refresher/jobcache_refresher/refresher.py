"""``Refresher``: the lifecycle around the refreshes. Who leads, what happens when one fails, and how it all ends."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from jobcache.errors import CacheUnavailable, JobCacheError
from jobcache.ids import decode_name
from jobcache.schema import meta
from jobcache_refresher.clock import Clock
from jobcache_refresher.engine import Engine
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import APART
from jobcache_refresher.scan.supervisor import FilesystemHungError, StoppedError
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status
from jobcache_refresher.triggers.work import WorkItem
from jobcache_refresher.workers import Workers, forget_frames

log = logging.getLogger(__name__)

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
        mode: how changes are noticed: ``polling``, ``watchdog`` (events besides, on local disks) or ``auto``.
        poll_interval: seconds between two looks at what is active.
        url: Redis URL; by default ``JOBCACHE_REDIS_URL``, then ``REDIS_URL``.
        namespace: which of the caches in one Redis; by default ``JOBCACHE_NAMESPACE``, then ``default``.
        progress: told how many of how many runs a scan has examined.
        may_come_later: whether a status directory that does not exist yet is waited for; the cache is empty, and
            ``degraded``, until then.
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
        namespace: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        may_come_later: bool = False,
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
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._started = threading.Event()
        self._failure: Exception | None = None
        """Why it did not start."""
        self._check_status_dir = partial(self.settings.check_status_dir, may_come_later)
        self._engine = Engine(
            self.settings,
            f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
            clock,
            stop=self._stop,
            wake=self._wake.set,
            on_progress=self._on_progress,
            may_come_later=may_come_later,
        )
        self._threads: list[threading.Thread] = []
        self._end_metrics: Callable[[], None] = _nothing

    @classmethod
    def of(
        cls, settings: Settings, *, progress: Callable[[int, int], None] | None = None
    ) -> Refresher:
        """A refresher with these settings."""
        return cls(progress=progress, **settings.model_dump())

    @property
    def status(self) -> Status:
        """How it is doing, as of now."""
        overdue = self.leads and self._engine.next_scan.is_overdue
        return replace(self._engine.status, leads=self.leads, overdue=overdue)

    @property
    def jobs(self) -> int:
        """How many jobs it has published."""
        return len(self._engine.ledger.records)

    @property
    def leads(self) -> bool:
        """Whether it holds the lease, or stands by."""
        return bool(self._engine.lease.value)

    # Lifecycle

    def open(self) -> Self:
        """Do the first full scan (or stand by, if another refresher leads), then go on in the background.

        Raises:
            ConfigError: the status directory cannot be read.
            CacheUnavailable: Redis cannot be reached.
            SchemaMismatch: a newer version of jobcache wrote to the namespace.
        """
        self._check()
        if self.settings.metrics_port:
            self._end_metrics = self._serve_metrics()
        for target in (self._loop, self._keep_lease):
            self._start_thread(target)
        self._started.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            self.close()
            try:
                raise failure
            finally:
                del failure
        return self

    def close(self) -> bool:
        """Stop, and give the lease back. Returns whether every thread ended in time."""
        self._stop.set()
        self._wake.set()
        self._started.set()
        self._engine.work.stop()
        for thread in self._threads:
            thread.join(CLOSING_TIME)
        self._end_metrics()
        self._end_metrics = _nothing
        self._give_up_lease()
        self._engine.close()
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
            ConfigError: the status directory cannot be read.
            CacheUnavailable: Redis cannot be reached, or another refresher holds the lease.
            SchemaMismatch: a newer version of jobcache wrote to the namespace.
            JobCacheError: what the status directory shows cannot be believed.
        """
        self._check()
        try:
            if not self._engine.lease.acquire():
                holder = self._engine.server.ask(b"GET", self._engine.keys.lease)
                raise CacheUnavailable(
                    f"another refresher holds the lease: {(holder or b'').decode()}"
                )
            self._start_thread(self._keep_lease)
            self._engine.leadership.adopt()
            # Twice, since an absence counts when it was observed twice.
            for scope in (Scope.RELIST, Scope.POLL):
                self._stop.wait(APART * 2 if scope is Scope.POLL else 0)
                if not self._engine.leadership.step(WorkItem(scope)):
                    raise JobCacheError(decode_name(self._engine.store.field(meta.REASON) or b""))
            return self.jobs
        except FilesystemHungError as hung:
            raise self._hangs(hung) from None
        except (RedisError, OSError) as error:
            raise CacheUnavailable(f"{self._engine.server.shown}: {error}") from error
        except (FencedError, EpochError) as error:
            raise CacheUnavailable(
                f"{self._engine.server.shown}: the scan was cut off: {error}"
            ) from error
        finally:
            self.close()

    # The loop

    def _serve_metrics(self) -> Callable[[], None]:
        # Imported only where it is asked for, as whoever embeds a refresher may lack it.
        from jobcache_refresher.metrics import serve_metrics

        return serve_metrics(
            lambda: self.status, self.settings.namespace, self.settings.metrics_port
        )

    def _start_thread(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"jobcache{target.__name__}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _check(self) -> None:
        checker = Workers(1, "jobcache-check")
        checked = checker.submit(self._check_status_dir)
        checker.close()
        if not checked.wait(self.settings.hang_timeout):
            raise self._hangs(f"it has not answered for {self.settings.hang_timeout:g} s")
        checked.result()
        try:
            self._engine.server.ask(b"PING")
        except (RedisError, OSError) as error:
            raise CacheUnavailable(f"{self._engine.server.shown}: {error}") from error

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                pause = self._turn()
                if pause > 0:  # else there is more to do before it counts as started
                    self._started.set()
            except FilesystemHungError as hung:
                self._fail(self._hangs(hung))
                pause = RETRY_INTERVAL
            except (RedisError, OSError) as error:
                log.warning("%s: %s", self._engine.server.shown, str(error))
                self._fail(CacheUnavailable(f"{self._engine.server.shown}: {error}"))
                pause = RETRY_INTERVAL
            except StoppedError:
                return
            except JobCacheError as error:
                log.error("%s", str(error))  # noqa: TRY400 - one line says it all
                self._fail(error)
                pause = RETRY_INTERVAL
            except Exception as bug:
                log.exception("a refresh failed")
                self._fail(JobCacheError(f"a refresh failed: {bug!r}"))
                pause = RETRY_INTERVAL
            self._wake.wait(pause)
            self._wake.clear()

    def _turn(self) -> float:
        """A turn of which nothing stays in memory when it fails."""
        try:
            return self._engine.leadership.turn()
        except BaseException as error:
            forget_frames(error)
            raise

    def _hangs(self, why: object) -> JobCacheError:
        return JobCacheError(f"status_dir={self.settings.status_dir!r} hangs: {why}")

    def _give_up_lease(self) -> None:
        try:
            self._engine.lease.release()
        except (RedisError, OSError) as error:
            log.warning("the lease was not given back, it ends by itself: %s", error)

    def _fail(self, error: Exception) -> None:
        if not self._started.is_set():
            self._failure = error
            self._started.set()

    def _keep_lease(self) -> None:
        while not self._stop.wait(self.settings.lease_ttl / 3):
            try:
                if self._engine.lease.value and not self._engine.lease.renew():
                    log.warning("the lease was lost")
            except (RedisError, OSError) as error:
                log.warning("the lease was not renewed: %s", error)

    def _on_progress(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise StoppedError("stopped in the middle of a scan")
        if self._progress is not None:
            self._progress(done, total)


def _nothing() -> None:
    pass
