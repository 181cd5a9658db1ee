"""A status directory on two mounts of one volume, as two hosts see it, and how tests watch it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jobcache import CacheState, Freshness, JobCache, JobMetadata
from jobcache_refresher import Refresher
from tests.juicefs import ATTRIBUTES_LAST, JuiceFS, JuiceFSError, running_juicefs
from tests.trees import Names, write_run

INTERVAL = 0.5
"""Seconds between two polls."""


RELIST = 3.0
"""Seconds within which a new run is found anywhere."""


SLACK = 1.5
"""Seconds beyond an interval by which a change shows: the attribute cache and the work of a poll."""


DELETED_WITHIN = 2 * INTERVAL + ATTRIBUTES_LAST + SLACK


QUIET_AFTER = 3.0
"""Seconds after a change when no directory or file is looked at just because it changed lately."""


LONG = 15.0
"""Seconds for what has no promised time."""


CLOSES_WITHIN = 5.0
"""Seconds that a refresher may take to stop, whatever the filesystem does."""


LOOK_EVERY = 0.02


@contextmanager
def juicefs_or_skip() -> Iterator[JuiceFS]:
    running = running_juicefs()
    try:
        volume = running.__enter__()
    except JuiceFSError as error:
        if os.environ.get("CI"):
            pytest.fail(f"JuiceFS does not run here: {error}")
        pytest.skip(f"JuiceFS does not run here: {error}")
    try:
        yield volume
    finally:
        running.__exit__(None, None, None)


@dataclass(frozen=True, slots=True)
class Site:
    """One status directory, as the two hosts see it, and the namespace that it is cached in."""

    producer: Path
    refresher: Path
    url: str
    namespace: str

    @contextmanager
    def refreshed(self, **settings: Any) -> Iterator[JobCache]:
        """Run a refresher on it, and give a client. Ends within `CLOSES_WITHIN`, or fails."""
        options = {"poll_interval": INTERVAL, "relist_interval": RELIST, **settings}
        refresher = Refresher(
            self.refresher, url=self.url, namespace=self.namespace, **options
        ).open()
        try:
            with JobCache(self.url, namespace=self.namespace) as cache:
                yield cache
        finally:
            began = time.monotonic()
            refresher.close()
            took = time.monotonic() - began
        assert took < CLOSES_WITHIN


@dataclass(frozen=True, slots=True)
class Sample:
    """What a client was told at one moment."""

    at: float
    """Monotonic time from before the question."""
    jobs: dict[Names, JobMetadata]
    freshness: Freshness


class Watch:
    """Asks for every job all the while, as a worker of its own would, and keeps the answers."""

    def __init__(self, site: Site) -> None:
        self.samples: list[Sample] = []
        self._site = site
        self._stop = threading.Event()
        self._failures: list[Exception] = []
        self._thread = threading.Thread(target=self._work, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()
        if not failure[0]:
            assert not self._failures, self._failures
            assert self.samples

    def always_showed(self, expected: Sequence[Names], *, until: float = float("inf")) -> None:
        """No job was ever missing from an answer to a question asked before `until` (monotonic time)."""
        for sample in self.samples:
            if sample.at < until:
                missing = [names for names in expected if names not in sample.jobs]
                assert not missing, (len(self.samples), sample.freshness, missing)

    def _work(self) -> None:
        with JobCache(self._site.url, namespace=self._site.namespace) as cache:
            while not self._stop.is_set():
                at = time.monotonic()
                try:
                    jobs = _by_names(cache.list_all_jobs(limit=None))
                    self.samples.append(Sample(at, jobs, cache.freshness()))
                except Exception as error:
                    self._failures.append(error)
                    return
                self._stop.wait(LOOK_EVERY)


def _by_names(jobs: Sequence[JobMetadata]) -> dict[Names, JobMetadata]:
    return {(job.project, job.group, job.name, job.run_id): job for job in jobs}


def descriptors_on(device: int | None = None, *, dead: bool = False) -> list[str]:
    """What this process holds open on a device, or on mounts whose daemon is dead."""
    held = []
    for entry in os.scandir("/proc/self/fd"):
        try:
            on_it = os.fstat(int(entry.name)).st_dev == device
        except OSError as error:
            on_it = dead and error.errno == errno.ENOTCONN
        if on_it:
            held.append(os.readlink(entry.path))
    return held


def seconds_until(
    condition: Callable[[], bool], *, within: float, but: Callable[[], object] = lambda: None
) -> float:
    """How long it took for a condition to hold; fails with what `but` says if it took too long."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, but()
        time.sleep(LOOK_EVERY)
    return time.monotonic() - began


def await_state(cache: JobCache, state: CacheState, *, within: float = LONG) -> Freshness:
    seconds_until(lambda: cache.freshness().state is state, within=within, but=cache.freshness)
    return cache.freshness()


def some_runs(count: int, project: str = "p") -> list[Names]:
    return [(project, "g", f"n{number % 5}", f"r{number:03d}") for number in range(count)]


def write_all(site: Site, runs: Sequence[Names], **changes: Any) -> None:
    for names in runs:
        write_run(site.producer, names, **changes)


def await_heartbeat(
    cache: JobCache, names: Names, heartbeat: str, *, within: float = LONG
) -> float:
    """How long it took for a job to show a heartbeat."""
    return seconds_until(
        lambda: _heartbeat(cache, names) == heartbeat,
        within=within,
        but=lambda: (names, cache.meta()),
    )


def _heartbeat(cache: JobCache, names: Names) -> str | None:
    job = cache.get_job(*names)
    return job.last_heartbeat if job else None


def beat(site: Site, names: Names, **changes: Any) -> str:
    """Write a run anew; returns the heartbeat that it has now."""
    now = datetime.now().isoformat()
    write_run(site.producer, names, last_heartbeat=now, **changes)
    return now


def shows(cache: JobCache, names: Names) -> bool:
    return cache.get_job(*names) is not None
