"""The process of the refresher."""

from __future__ import annotations

from typing import Any

from jobcache_refresher import Refresher
from jobcache_refresher.limits import collect_rarely
from tests.bench.measure import take_samples
from tests.bench.roles import idle


class Role(idle.Role):
    """Refreshes one namespace from one tree.

    `settings` are the refresher's.
    """

    def __init__(self, tree: str, url: str, namespace: str, settings: dict[str, Any]) -> None:
        collect_rarely()  # as the program does
        self._refresher = Refresher(tree, url=url, namespace=namespace, **settings)

    def open(self) -> dict[str, float]:
        """Scan and publish, then go on: the seconds until the cache was ready, and those of processor time."""
        cpu = self.cpu()
        (seconds,) = take_samples(self._refresher.open)
        return {"seconds": seconds, "cpu": self.cpu() - cpu}

    def close(self) -> None:
        """Stop, and give the lease back."""
        self._refresher.close()
