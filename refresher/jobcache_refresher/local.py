"""``LocalJobCache``: refresher, embedded server and client in one object."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Self

from jobcache import JobCache
from jobcache_refresher.embedded import EmbeddedServer
from jobcache_refresher.refresher import Refresher


class LocalJobCache(JobCache):
    """A drop-in for the per-process cache that dashboards use today: same constructor, same lifecycle, same queries.

    For development and single-process use. It needs no Redis: ``start()`` starts a real server on a private socket,
    which ``stop()`` ends, as does the end of this process, however it comes.

    Raises:
        ConfigError: a setting cannot be used, or the extra ``embedded`` is not installed.
    """

    def __init__(
        self,
        status_dir: str | os.PathLike[str],
        mode: str = "polling",
        poll_interval: float = 10.0,
        **settings: Any,
    ) -> None:
        self._embedded = EmbeddedServer()
        self._refresher = Refresher(
            status_dir, mode, poll_interval, url=self._embedded.url, **settings
        )
        super().__init__(self._embedded.url, namespace=self._refresher.settings.namespace)

    def open(self) -> Self:
        """Start the server, and scan the status directory once; the rest goes on in the background."""
        self._embedded.start()
        try:
            self._refresher.open()
            return super().open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop everything. A closed cache cannot be opened again."""
        super().close()
        self._refresher.close()
        self._embedded.stop()

    async def stop(self) -> None:
        """``close()`` for async applications."""
        await asyncio.to_thread(self.close)
