"""``LocalJobCache``: refresher, embedded server and client in one object."""

from __future__ import annotations

import asyncio
import os
from enum import Enum
from typing import Any, Self

from jobcache import CacheUnavailable, JobCache
from jobcache_refresher.embedded import EmbeddedServer
from jobcache_refresher.refresher import Refresher


class Stage(Enum):
    """Where a ``LocalJobCache`` is in its life."""

    NEW = "not started: call start() or open(), or use it in a with statement"
    OPEN = "open"
    STOPPED = "stopped: make a new one"


class LocalJobCache(JobCache):
    """A drop-in for the per-process cache that dashboards use today: same constructor, same lifecycle, same queries.

    For development and single-process use. It needs no Redis: ``start()`` starts a real server on a private socket,
    which ``stop()`` ends, as does the end of this process, however it comes. Each has a server of its own, so several
    on a host, also of one status directory, know nothing of each other. Processes that are forked after ``start()``
    share it; in them, ``stop()`` closes their own connections only.

    A status directory that does not exist yet is waited for: until then there are no jobs, and the state is
    ``degraded`` with that reason.

    Raises:
        ConfigError: a setting cannot be used, or the extra ``embedded`` is not installed.
        CacheUnavailable: by every call before ``start()`` and after ``stop()``.
    """

    def __init__(
        self,
        status_dir: str | os.PathLike[str],
        mode: str = "polling",
        poll_interval: float = 10.0,
        **settings: Any,
    ) -> None:
        self._stage = Stage.NEW
        self._owner = os.getpid()
        self._embedded = EmbeddedServer()
        self._refresher = Refresher(
            status_dir,
            mode,
            poll_interval,
            url=self._embedded.url,
            may_come_later=True,
            **settings,
        )
        super().__init__(self._embedded.url, namespace=self._refresher.settings.namespace)

    def open(self) -> Self:
        """Start the server, and scan the status directory once; the rest goes on in the background."""
        if self._stage is Stage.NEW:
            self._stage = Stage.OPEN
            try:
                self._embedded.start()
                self._refresher.open()
            except BaseException:
                self.close()
                raise
        return super().open()

    def close(self) -> None:
        """Stop everything. A stopped cache cannot be started again."""
        super().close()
        if self._stage is Stage.OPEN and self._owner == os.getpid():
            self._refresher.close()
            self._embedded.stop()
        self._stage = Stage.STOPPED

    async def stop(self) -> None:
        """``close()`` for async applications."""
        await asyncio.to_thread(self.close)

    # Every call of the client is one of these.

    def _read(self, query: Any, *args: Any) -> Any:
        return self._when_open(super()._read, query, *args)

    def _write(self, query: Any) -> Any:
        return self._when_open(super()._write, query)

    def _answer(self, query: Any) -> Any:
        return self._when_open(super()._answer, query)

    def _when_open(self, perform: Any, *args: Any) -> Any:
        if self._stage is not Stage.OPEN:
            raise CacheUnavailable(f"this LocalJobCache is {self._stage.value}")
        return perform(*args)
