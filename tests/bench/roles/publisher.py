"""Publishes made-up jobs as the refresher does, but for the filesystem: parse, encode, diff, apply, complete."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from jobcache.schema.job import CHIPS
from jobcache.schema.keys import Keys
from jobcache.transport.endpoint import Endpoint
from jobcache_refresher.clock import Clock
from jobcache_refresher.publish.diff import diff
from jobcache_refresher.publish.lease import Lease
from jobcache_refresher.publish.server import Server
from jobcache_refresher.publish.store import Store
from jobcache_refresher.records import Fields, Record, Records
from tests.bench.roles import idle
from tests.bench.synthetic import MadeUpJob, Population, busiest, made_up_jobs

STALE_AFTER = 300.0
LEASE = 3600.0
"""Seconds; longer than any run."""


class Role(idle.Role):
    """Publishes one population into one namespace. `population` holds the fields of a `Population`."""

    def __init__(self, url: str, namespace: str, population: dict[str, Any]) -> None:
        self._population = Population(**population)
        self._server = Server(Endpoint.find(url, namespace=namespace))
        keys = Keys(namespace)
        self._lease = Lease(self._server, keys, "bench:1:0", LEASE, Clock())
        self._store = Store(self._server, keys, self._lease)
        self._running: list[MadeUpJob] = []
        self._records: Records = {}
        """Of the running jobs only, so that a million jobs fit."""
        self._names = busiest(self._population)
        self._run_id = ""

    def publish(self) -> dict[str, Any]:
        """Publish everything, in a new epoch: the seconds it took, and the names with the most jobs."""
        began, cpu = time.perf_counter(), self.cpu()
        if not self._lease.acquire():
            raise RuntimeError("the lease is held")
        self._store.begin({"status_dir": "/made/up"})
        self._apply(self._found(), announce=False)
        self._complete()
        return {
            "seconds": time.perf_counter() - began,
            "cpu": self.cpu() - cpu,
            "names": [*self._names, self._run_id],
        }

    def beat(self) -> float:
        """Every running job beats; returns the seconds until that is published."""
        began = time.perf_counter()
        now = time.time()
        self._apply((one.job.path, one.fields(now)) for one in self._running)
        self._complete()
        return time.perf_counter() - began

    def clear(self) -> float:
        """Begin a new epoch, which drops all that there was, and give the lease back; returns the seconds."""
        began = time.perf_counter()
        self._store.begin({"status_dir": "/made/up"})
        self._lease.release()
        self._store.close()
        self._server.close()
        return time.perf_counter() - began

    def _found(self) -> Iterator[tuple[bytes, Fields]]:
        for one in made_up_jobs(self._population):
            if one.is_running:
                self._running.append(one)
            if one.job[:3] == self._names:
                self._run_id = one.job.run_id
            yield one.job.path, one.fields()

    def _apply(self, found: Iterable[tuple[bytes, Fields]], *, announce: bool = True) -> None:
        place = self._store.start_scan()
        for outcome in self._store.apply(diff(self._records, found, ()), place, announce=announce):
            operation = outcome.operation
            if outcome.verdict != "ok":
                raise RuntimeError(f"{operation.path!r}: {outcome.verdict}")
            if CHIPS in operation.fields:
                self._records[operation.path] = Record(operation.fields, outcome.revision)

    def _complete(self) -> None:
        fields = {"state": "ready", "reason": "", "errors": "0", "held": "0"}
        self._store.complete(self._store.start_scan(), STALE_AFTER, fields)
