"""``Refresher``: the lifecycle around the refreshes. Who leads, what happens when one fails, and how it all ends."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from jobcache.errors import CacheUnavailable, JobCacheError
from jobcache.ids import decode_name
from jobcache.keys import Keys
from jobcache_refresher.agenda import Agenda, Errand
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.server import EpochError, FencedError, Server
from jobcache_refresher.publish.store import Store
from jobcache_refresher.reconcile import Reconciler
from jobcache_refresher.scan.patience import FilesystemHungError, PatientScanner, StoppedError
from jobcache_refresher.scan.scanner import Scanner
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.snapshot import APART
from jobcache_refresher.scan.tree import Tree
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status
from jobcache_refresher.watching.mounts import fs_type_of
from jobcache_refresher.workers import Workers

log = logging.getLogger(__name__)

STANDBY_INTERVAL = 0.5
"""Seconds between two attempts of a standby to take the lease."""
RETRY_INTERVAL = 1.0
"""Seconds to wait after Redis failed."""
REPORT_INTERVAL = 1.0
"""Seconds between two reports of how far a scan of everything is."""
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
        self._store = Store(self._server, self._keys, self._lease, clock)
        tree = Tree(self.settings.status_dir)
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._scanner = Scanner(
            tree,
            self.settings,
            clock,
            self._on_progress,
            lambda: fs_type_of(self.settings.status_dir),
        )
        self._patient = PatientScanner(self._scanner, self.settings.hang_timeout, self._stop, clock)
        self._reconciler = Reconciler(
            self.settings, self._store, self._scanner, self._patient, self._holder, clock
        )
        self._settled = threading.Event()
        self._failure: Exception | None = None
        self._leads = False
        self._agenda = Agenda(self.settings, self._server, self._keys, self._wake.set, clock)
        self._threads: list[threading.Thread] = []
        self._end_metrics: Callable[[], None] = _nothing
        self._next_report = float("inf")

    @classmethod
    def of(
        cls, settings: Settings, *, progress: Callable[[int, int], None] | None = None
    ) -> Refresher:
        """A refresher with these settings."""
        return cls(progress=progress, **settings.model_dump())

    @property
    def status(self) -> Status:
        """How it is doing."""
        self._reconciler.status.leads = self.leads
        return self._reconciler.status

    @property
    def jobs(self) -> int:
        """How many jobs it has published."""
        return len(self._reconciler.records)

    @property
    def leads(self) -> bool:
        """Whether it holds the lease, or stands by."""
        return bool(self._lease.value)

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
        self._agenda.stop()
        for thread in self._threads:
            thread.join(CLOSING_TIME)
        self._end_metrics()
        self._end_metrics = _nothing
        self._patient.close()
        self._give_up_lease()
        self._agenda.join()
        self._store.close()
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
            ConfigError: the status directory cannot be read.
            CacheUnavailable: Redis cannot be reached, or another refresher holds the lease.
            SchemaMismatch: a newer version of jobcache wrote to the namespace.
            JobCacheError: what the status directory shows cannot be believed.
        """
        self._check()
        try:
            if not self._lease.acquire():
                holder = self._server.ask(b"GET", self._keys.lease)
                raise CacheUnavailable(
                    f"another refresher holds the lease: {(holder or b'').decode()}"
                )
            self._start_thread(self._keep_lease)
            self._reconciler.assume()
            # Twice, since an absence counts when it was observed twice.
            for scope in (Scope.RELIST, Scope.POLL):
                self._stop.wait(APART * 2 if scope is Scope.POLL else 0)
                if not self._reconciler.refresh(scope):
                    raise JobCacheError(decode_name(self._store.field("reason") or b""))
            return self.jobs
        except FilesystemHungError as hung:
            raise self._hangs(hung) from None
        except (RedisError, OSError) as error:
            raise CacheUnavailable(f"{self._server.shown}: {error}") from error
        except (FencedError, EpochError) as error:
            raise CacheUnavailable(
                f"{self._server.shown}: the scan was cut off: {error}"
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
        checked = checker.submit(self.settings.check_status_dir)
        checker.close()
        if not checked.wait(self.settings.hang_timeout):
            raise self._hangs(f"it has not answered for {self.settings.hang_timeout:g} s")
        checked.result()
        try:
            self._server.ask(b"PING")
        except (RedisError, OSError) as error:
            raise CacheUnavailable(f"{self._server.shown}: {error}") from error

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                pause = self._turn()
            except FencedError as lost:
                self._stand_down(str(lost))
                self._lease.drop(with_the_cache=lost.with_the_cache)
                pause = STANDBY_INTERVAL
            except EpochError as lost:
                log.warning("%s: trying again", lost)
                pause = RETRY_INTERVAL
            except FilesystemHungError as hung:
                self._stand_down(f"the filesystem hangs ({hung})")
                self._fail(self._hangs(hung))
                self._give_up_lease()
                pause = STANDBY_INTERVAL
            except (RedisError, OSError) as error:
                log.warning("%s: %s", self._server.shown, error)
                self._fail(CacheUnavailable(f"{self._server.shown}: {error}"))
                pause = RETRY_INTERVAL
            except StoppedError:
                return
            except JobCacheError as error:
                log.error("%s", error)  # noqa: TRY400 - one line says it all
                self._fail(error)
                pause = RETRY_INTERVAL
            except Exception as bug:
                log.exception("a refresh failed")
                self._fail(JobCacheError(f"a refresh failed: {bug!r}"))
                pause = RETRY_INTERVAL
            self._wake.wait(pause)
            self._wake.clear()

    def _turn(self) -> float:
        """Lead if possible, refresh what is due; returns for how many seconds nothing is."""
        if not self._lease.value:
            self._stand_down(self._lease.loss)
            self._agenda.suspend()
            # Whoever cannot scan leaves the lease to those who can.
            lapsed = self._lease.has_lapsed
            is_hung = self._patient.is_hung
            if is_hung or not self._lease.acquire():
                self._doubt_memory()
                self._settled.set()
                if not is_hung:  # a scan under way must be let alone
                    self._reconciler.follow()
                return STANDBY_INTERVAL
            if lapsed:
                self._doubt_memory()
        if not self._leads:
            log.info("leading as %s", self._lease.value.decode())
            self._reconciler.assume()
            self._agenda.begin(self._store.request_position() or None)
            self._leads = True
        errand = self._agenda.next()
        if errand is not None:
            self._refresh(errand)
            self._settled.set()
        return self._agenda.pause

    def _refresh(self, errand: Errand) -> None:
        self._reconciler.describe(**self._agenda.description)
        # Only a scan of everything takes long enough for anybody to ask how far it is.
        self._next_report = errand.began if errand.scope is Scope.RELIST else float("inf")
        try:
            believed = self._reconciler.refresh(errand.scope, errand.wanted)
        except BaseException:
            self._agenda.failed(errand)
            raise
        self._agenda.done(errand, believed=believed, in_doubt=self._scanner.in_doubt)

    def _hangs(self, why: object) -> JobCacheError:
        return JobCacheError(f"status_dir={self.settings.status_dir!r} hangs: {why}")

    def _doubt_memory(self) -> None:
        """Another refresher leads, or may have led: what this one remembers and was asked for is of the past."""
        self._reconciler.doubt_memory()
        self._agenda.forget()

    def _stand_down(self, why: str) -> None:
        if self._leads:
            self._leads = False
            self._reconciler.status.leadership_lost += 1
            log.warning("leading no more, and writing nothing: %s", why)

    def _give_up_lease(self) -> None:
        try:
            self._lease.release()
        except (RedisError, OSError) as error:
            log.warning("the lease was not given back, it ends by itself: %s", error)

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
            raise StoppedError("stopped in the middle of a scan")
        if self._progress is not None:
            self._progress(done, total)
        now = self._clock.monotonic()
        if now >= self._next_report:
            self._next_report = now + REPORT_INTERVAL
            try:
                self._store.report({"scanned": str(done), "total": str(total)})
            except (RedisError, OSError, FencedError, EpochError) as error:
                log.debug("progress was not reported: %s", error)


def _nothing() -> None:
    pass
