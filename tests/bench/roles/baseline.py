"""A web worker with the in-process cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.bench.baseline import InProcessJobCache
from tests.bench.measure import take_samples
from tests.bench.roles import idle


class Role(idle.Role):
    """Scans, and answers queries, when it is told to."""

    def __init__(self, tree: str) -> None:
        self._cache = InProcessJobCache(tree)

    def scan(self, kind: str) -> dict[str, float]:
        """Do a scan, `full` or `incremental`: the seconds it took, and those of processor time."""
        scan = self._cache.full_scan if kind == "full" else self._cache.incremental_scan
        cpu = self.cpu()
        (seconds,) = take_samples(scan)
        return {"seconds": seconds, "cpu": self.cpu() - cpu}

    def time(self, method: str, arguments: dict[str, Any], repeat: int, number: int) -> list[float]:
        """Samples of a query, in seconds a call."""
        return take_samples(self._call(method, arguments), repeat=repeat, number=number)

    def size(self, method: str, arguments: dict[str, Any]) -> int:
        """How many jobs or projects a query answers with."""
        answer = self._call(method, arguments)()
        return len(answer) if isinstance(answer, list) else 1

    def _call(self, method: str, arguments: dict[str, Any]) -> Callable[[], Any]:
        return partial(getattr(self._cache, method), **arguments)
