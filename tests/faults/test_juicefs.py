"""A refresher on a real JuiceFS mount, while producers write through another mount, and while the mounts fail."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from jobcache import CacheState, Freshness, JobCache, JobMetadata
from jobcache.schema.keys import Keys
from jobcache_refresher import Refresher
from tests.juicefs import ATTRIBUTES_LAST, JuiceFS, JuiceFSError, running_juicefs
from tests.servers import RunningServer
from tests.trees import Names, delete_run, metadata, run_dir, write_run

INTERVAL = 0.5
"""Seconds between two polls."""
RELIST = 3.0
"""Seconds within which a new run is found anywhere."""
SLACK = 1.5
"""Seconds beyond an interval by which a change shows: the attribute cache and the work of a poll."""
DELETED_WITHIN = 2 * INTERVAL + ATTRIBUTES_LAST + SLACK
SETTLED = 3.0
"""Seconds after a change when no directory or file is looked at just because it changed lately."""
LONG = 15.0
"""Seconds for what has no promised time."""
CLOSES_WITHIN = 5.0
"""Seconds that a refresher may take to stop, whatever the filesystem does."""
LOOK_EVERY = 0.02


@pytest.fixture(scope="module")
def mounts() -> Iterator[JuiceFS]:
    """A volume, mounted twice: skips where JuiceFS does not run, and fails there in CI."""
    with _juicefs_or_skip() as volume:
        yield volume


@contextmanager
def _juicefs_or_skip() -> Iterator[JuiceFS]:
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


@pytest.fixture
def volume(mounts: JuiceFS) -> Iterator[JuiceFS]:
    """The volume with both mounts up, whatever the test before did."""
    yield mounts
    mounts.thaw()
    if not mounts.refresher.is_up:
        mounts.remount(mounts.refresher)


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


@pytest.fixture
def site(volume: JuiceFS, valkey: RunningServer, namespace: str) -> Site:
    """An empty status directory of its own."""
    name = f"status-{uuid4().hex[:8]}"
    (volume.producer.path / name).mkdir()
    return Site(volume.producer.path / name, volume.refresher.path / name, valkey.url, namespace)


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


# Two healthy mounts


def test_a_heartbeat_shows_within_an_interval(site: Site) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed() as cache, ThreadPoolExecutor() as pool:
        time.sleep(SETTLED)
        shown = []
        # At every phase of the poll and of the attribute cache.
        for names in runs[:16]:
            time.sleep(0.13)
            shown.append(pool.submit(await_heartbeat, cache, names, beat(site, names)))
    latencies = sorted(future.result() for future in shown)
    assert latencies[-1] <= INTERVAL + SLACK, latencies


def test_the_end_of_a_run_shows_within_an_interval(site: Site) -> None:
    names = some_runs(1)[0]
    write_all(site, [names])
    with site.refreshed() as cache:
        beat(site, names, status="completed")
        seconds_until(
            lambda: getattr(cache.get_job(*names), "status", None) == "completed",
            within=INTERVAL + SLACK,
        )


def test_a_new_run_shows_within_a_poll_in_an_active_group(site: Site) -> None:
    live = some_runs(3)
    write_all(site, live)
    with site.refreshed(relist_interval=60.0) as cache:
        time.sleep(SETTLED)
        for names in [("p", "g", "n0", "new"), ("p", "g", "other", "new")]:
            write_run(site.producer, names)
            seconds_until(
                lambda: shows(cache, names),  # noqa: B023
                within=INTERVAL + SLACK,
                but=lambda: names,  # noqa: B023
            )


def test_a_new_run_shows_within_a_relist_anywhere(site: Site) -> None:
    ended = some_runs(5)
    write_all(site, ended, status="completed")
    news: list[Names] = [
        ("new project", "g", "n", "r"),
        ("p", "new group", "n", "r"),
        ("p", "g", "new name", "r"),
        ("p", "g", "n0", "new run"),
    ]
    with site.refreshed() as cache:
        time.sleep(SETTLED)
        for names in news:
            write_run(site.producer, names)
            seconds_until(
                lambda: shows(cache, names),  # noqa: B023
                within=RELIST + INTERVAL + SLACK,
                but=lambda: names,  # noqa: B023
            )


def test_a_deleted_run_goes_within_two_polls_and_never_before(site: Site) -> None:
    runs = some_runs(10)
    write_all(site, runs)
    one, name_of_all = runs[0], runs[1][:3]
    with site.refreshed() as cache, Watch(site) as watch:
        time.sleep(2 * INTERVAL)
        first = time.monotonic()
        delete_run(site.producer, one)
        seconds_until(lambda: not shows(cache, one), within=DELETED_WITHIN)
        second = time.monotonic()
        shutil.rmtree(run_dir(site.producer, runs[1]).parent)
        seconds_until(lambda: not cache.get_job_runs(*name_of_all), within=DELETED_WITHIN + RELIST)
        time.sleep(2 * INTERVAL)
    watch.always_showed(runs, until=first)
    watch.always_showed(runs[1:], until=second)
    watch.always_showed([names for names in runs[1:] if names[:3] != name_of_all])


def test_a_run_replaced_by_rename_is_the_new_one(site: Site) -> None:
    # The old file stays in JuiceFS's trash, where a descriptor of it shows the same time, size and link count.
    runs = some_runs(3)
    write_all(site, runs)
    with site.refreshed() as cache:
        time.sleep(SETTLED)
        for names in runs:
            now = datetime.now().isoformat()
            scratch = run_dir(site.producer, names) / "scratch"
            scratch.write_text(json.dumps(metadata(last_heartbeat=now), indent=2))
            scratch.rename(scratch.with_name("metadata.json"))
            await_heartbeat(cache, names, now, within=INTERVAL + SLACK)


def test_a_run_deleted_and_made_again_is_the_new_one(site: Site) -> None:
    runs = some_runs(2)
    write_all(site, runs)
    with site.refreshed() as cache:
        time.sleep(SETTLED)
        for names in runs:
            delete_run(site.producer, names)
            await_heartbeat(cache, names, beat(site, names), within=DELETED_WITHIN)
        time.sleep(SETTLED)
        # Descriptors of the old files must not answer for the new ones.
        for names in runs:
            await_heartbeat(cache, names, beat(site, names), within=INTERVAL + SLACK)


def test_both_of_two_runs_made_within_100_ms_are_found(site: Site) -> None:
    # JuiceFS leaves a directory's mtime alone when it changed less than 100 ms before.
    write_all(site, [("p", "g", "n", "r")])
    with site.refreshed(relist_interval=60.0, resync_interval=600.0) as cache:
        pairs = []
        for number in range(10):
            pair: list[Names] = [("p", "g", "n", f"{number}-{which}") for which in "ab"]
            write_run(site.producer, pair[0])
            # A scan begins between the two in some of the rounds, whatever its phase.
            time.sleep(0.01 * number)
            write_run(site.producer, pair[1])
            pairs += pair
            time.sleep(0.05)
        seconds_until(
            lambda: all(shows(cache, names) for names in pairs),
            within=INTERVAL + SLACK,
            but=lambda: [names for names in pairs if not shows(cache, names)],
        )


def test_a_file_that_is_made_late_within_100_ms_of_its_log_is_found(site: Site) -> None:
    # The run is listed without its file, whose making then leaves the directory's mtime alone.
    write_all(site, [("p", "g", "n", "r")])
    with site.refreshed(relist_interval=60.0, resync_interval=600.0) as cache:
        made = []
        for number in range(8):
            names: Names = ("p", "g", "n", f"late{number}")
            directory = run_dir(site.producer, names)
            directory.mkdir()
            (directory / "output.log").write_text("")
            time.sleep(0.01 * number)
            write_run(site.producer, names)
            made.append(names)
        seconds_until(
            lambda: all(shows(cache, names) for names in made),
            within=INTERVAL + SLACK,
            but=lambda: [names for names in made if not shows(cache, names)],
        )


def test_a_file_rewritten_all_the_time_is_never_blank_dropped_or_older(site: Site) -> None:
    runs = some_runs(4)
    write_all(site, runs, job_key="0")
    stop = threading.Event()
    written = dict.fromkeys(runs, 0)

    def rewrite() -> None:
        while not stop.is_set():
            for names in runs:
                written[names] += 1
                beat(site, names, job_key=str(written[names]))

    producer = threading.Thread(target=rewrite, name="producer")
    with site.refreshed(poll_interval=0.2) as cache, Watch(site) as watch:
        producer.start()
        time.sleep(4.0)
        stop.set()
        producer.join()
        seconds_until(
            lambda: all(_version(cache.get_job(*names)) == written[names] for names in runs),
            within=0.2 + SLACK,
        )
    watch.always_showed(runs)
    for names in runs:
        seen = [sample.jobs[names] for sample in watch.samples]
        assert all(job.config and job.hardware.total_chips == 8 for job in seen)
        versions = [_version(job) for job in seen]
        assert versions == sorted(versions)
        # It is read now and then, however rarely the file is whole.
        assert len(set(versions)) >= 3


def _version(job: JobMetadata | None) -> int:
    assert job is not None
    return int(job.job_key)


# A mount that fails


def test_a_dead_mount_deletes_nothing(volume: JuiceFS, site: Site) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed() as cache, Watch(site) as watch:
        volume.kill(volume.refresher)
        degraded = await_state(cache, CacheState.DEGRADED)
        assert degraded.reason
        assert "not connected" in degraded.reason
        time.sleep(3 * INTERVAL)
        meanwhile = beat(site, runs[0])
        _recovers(volume, site, cache, runs[0], meanwhile)
        assert not descriptors_on(dead=True)
    watch.always_showed(runs)


def _recovers(volume: JuiceFS, site: Site, cache: JobCache, changed: Names, heartbeat: str) -> None:
    """After a remount, what changed meanwhile shows within two polls, and what changes from then on within one."""
    volume.remount(volume.refresher)
    await_heartbeat(cache, changed, heartbeat, within=2 * INTERVAL + SLACK)
    ready = await_state(cache, CacheState.READY, within=2 * INTERVAL + SLACK)
    assert not ready.reason
    for _ in range(2):
        time.sleep(INTERVAL)
        await_heartbeat(cache, changed, beat(site, changed), within=INTERVAL + SLACK)


@pytest.mark.parametrize("at", ["the mount point", "a directory below"])
def test_a_lazily_unmounted_filesystem_deletes_nothing(
    volume: JuiceFS, valkey: RunningServer, site: Site, at: str
) -> None:
    if at == "the mount point":  # turns empty, while a directory below it vanishes
        site = Site(volume.producer.path, volume.refresher.path, valkey.url, site.namespace)
    runs = some_runs(20, project=f"lazy-{uuid4().hex[:8]}")
    write_all(site, runs)
    with site.refreshed() as cache, Watch(site) as watch:
        assert all(shows(cache, names) for names in runs)
        volume.lazy_unmount(volume.refresher)
        degraded = await_state(cache, CacheState.DEGRADED)
        assert degraded.reason
        time.sleep(3 * INTERVAL)
        meanwhile = beat(site, runs[0])
        _recovers(volume, site, cache, runs[0], meanwhile)
    watch.always_showed(runs)
    shutil.rmtree(site.producer / runs[0][0])


def test_a_remount_in_one_go_is_no_fault(volume: JuiceFS, site: Site) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed() as cache, Watch(site) as watch:
        time.sleep(2 * INTERVAL)
        meanwhile = beat(site, runs[0])
        _recovers(volume, site, cache, runs[0], meanwhile)
    watch.always_showed(runs)


def test_a_mount_that_was_replaced_is_held_no_longer(volume: JuiceFS, site: Site) -> None:
    # Descriptors of the mount before would answer for ever, and its daemon cannot end before they are closed.
    write_all(site, some_runs(5))
    with site.refreshed() as cache:
        time.sleep(2 * INTERVAL)
        device = site.refresher.stat().st_dev
        volume.remount(volume.refresher)
        assert site.refresher.stat().st_dev != device
        seconds_until(
            lambda: not descriptors_on(device), within=RELIST, but=lambda: descriptors_on(device)
        )
        await_state(cache, CacheState.READY)


def test_a_refresher_that_stopped_holds_nothing(site: Site) -> None:
    write_all(site, some_runs(5))
    device = site.refresher.stat().st_dev
    before = descriptors_on(device)
    with site.refreshed() as cache:
        time.sleep(2 * INTERVAL)
        await_state(cache, CacheState.READY)
    assert descriptors_on(device) == before


def test_another_filesystem_in_its_place_deletes_nothing(
    volume: JuiceFS, site: Site, tmp_path: Path
) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed() as cache, Watch(site) as watch:
        volume.lazy_unmount(volume.refresher)
        # What the mount covered has a status directory too, with another project in it.
        below = volume.refresher.path / site.refresher.name
        write_run(below, ("stranger", "g", "n", "r"))
        try:
            degraded = await_state(cache, CacheState.DEGRADED)
            assert degraded.reason
            time.sleep(3 * INTERVAL)
        finally:
            shutil.rmtree(below)
        meanwhile = beat(site, runs[0])
        _recovers(volume, site, cache, runs[0], meanwhile)
    watch.always_showed(runs)
    assert not any("stranger" in names for sample in watch.samples for names in sample.jobs)


def test_a_hung_filesystem_stops_neither_the_heartbeat_nor_the_answers(
    volume: JuiceFS, site: Site, valkey: RunningServer
) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed(hang_timeout=1.5, lease_ttl=2.0) as cache, Watch(site) as watch:
        time.sleep(INTERVAL)
        volume.freeze()
        try:
            # First it is only late, by the reader's own judgement.
            seconds_until(lambda: "hangs" in (cache.freshness().reason or ""), within=10)
            assert cache.freshness().state is CacheState.DEGRADED
            completed_at = cache.freshness().completed_at
            _assert_beats_or_gave_up(cache, valkey, site.namespace)
            assert all(shows(cache, names) for names in runs)
            assert cache.freshness().completed_at == completed_at
        finally:
            volume.thaw()
        await_heartbeat(cache, runs[0], beat(site, runs[0]), within=2 * INTERVAL + SLACK)
        await_state(cache, CacheState.READY)
        await_heartbeat(cache, runs[1], beat(site, runs[1]), within=INTERVAL + SLACK)
    watch.always_showed(runs)


def _assert_beats_or_gave_up(cache: JobCache, server: RunningServer, namespace: str) -> None:
    """The refresher shows that it lives, or has left the lease to one that can scan."""
    before = cache.meta().get("beat_at")
    time.sleep(1.0)
    with server.client() as client:
        gave_up = not client.exists(Keys(namespace).lease)
    assert gave_up or cache.meta().get("beat_at") != before


def test_a_refresher_stops_in_time_while_the_filesystem_hangs(volume: JuiceFS, site: Site) -> None:
    runs = some_runs(5)
    write_all(site, runs)
    try:
        with site.refreshed(hang_timeout=30.0) as cache:
            time.sleep(INTERVAL)
            volume.freeze()
            time.sleep(ATTRIBUTES_LAST + 2 * INTERVAL)
        # Its end was timed. What it published stays.
        with JobCache(site.url, namespace=site.namespace) as cache:
            assert all(shows(cache, names) for names in runs)
    finally:
        volume.thaw()


def test_a_short_hang_is_no_fault(volume: JuiceFS, site: Site) -> None:
    runs = some_runs(20)
    write_all(site, runs)
    with site.refreshed(hang_timeout=10.0) as cache, Watch(site) as watch:
        volume.freeze()
        time.sleep(2.5)
        volume.thaw()
        await_heartbeat(cache, runs[0], beat(site, runs[0]), within=INTERVAL + SLACK)
        await_state(cache, CacheState.READY)
    watch.always_showed(runs)
    # It was late, which readers see by themselves; nobody called it hung.
    reasons = {sample.freshness.reason for sample in watch.samples} - {None}
    assert not [reason for reason in reasons if not str(reason).startswith("the last scan")]


def test_a_process_ends_in_time_while_the_filesystem_hangs(volume: JuiceFS, site: Site) -> None:
    write_all(site, some_runs(5))
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(site.refresher), site.url, site.namespace],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        volume.freeze()
        time.sleep(ATTRIBUTES_LAST + 2 * INTERVAL)
        process.stdin.close()
        # The kernel keeps a process, even a killed one, until FUSE has answered each of its threads. All that the
        # process itself can do is to exit: then its first thread is a zombie.
        seconds_until(lambda: _is_zombie(process.pid), within=CLOSES_WITHIN)
    finally:
        volume.thaw()
    assert process.wait(CLOSES_WITHIN) == 0
    process.stdout.close()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"


_PROGRAM = """
import sys
from jobcache_refresher import Refresher
path, url, namespace = sys.argv[1:]
with Refresher(path, poll_interval=0.5, url=url, namespace=namespace):
    print("ready", flush=True)
    sys.stdin.read()
"""
