"""The watcher alone, on a real local directory: how it fails, and what is done about it."""

from __future__ import annotations

import ctypes
import errno
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.inotify_c import InotifyEvent, WatchDescriptor

from jobcache_refresher.triggers import kernel
from jobcache_refresher.triggers.dirty import Dirty
from jobcache_refresher.triggers.hints import RETRY, HintSource
from jobcache_refresher.triggers.kernel import Inotify
from jobcache_refresher.triggers.mounts import events_are_complete, fs_type_of
from tests.harness import SteppedClock
from tests.trees import write_raw, write_run
from tests.watching import NAMES, RUN, SYSCTLS, Watched, sysctl, watching

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def watched(status_dir: Path) -> Iterator[Watched]:
    """A watcher of the status directory, not yet started."""
    with watching(status_dir) as one:
        yield one


class Gated(Inotify):
    """Hands nothing over until it is let."""

    gate: threading.Event

    def handle_event(self, event: InotifyEvent) -> None:
        self.gate.wait()
        super().handle_event(event)


class Slow(Inotify):
    """Takes half a millisecond for each event."""

    def handle_event(self, event: InotifyEvent) -> None:
        time.sleep(0.0005)
        super().handle_event(event)


class Losing(Inotify):
    """Loses what comes while it is told to, and says so with the next event, as the kernel does."""

    loses = False
    lost = 0

    def handle_event(self, event: InotifyEvent) -> None:
        if self.loses:
            self.lost += 1
            return
        if self.lost:
            self.lost = 0
            super().handle_event(InotifyEvent(WatchDescriptor(-1), kernel.EVENTS_LOST, 0, b""))
        super().handle_event(event)


def test_a_queue_that_overflows_asks_for_a_resync_and_goes_on(status_dir: Path) -> None:
    write_run(status_dir, NAMES)
    write_run(status_dir, ("p", "g", "n", "other"))
    reads = threading.Event()

    def gated(receive: Any) -> Gated:
        made = Gated(receive)
        made.gate = reads
        return made

    with watching(status_dir, open_inotify=gated) as watched:
        watched.start()
        here, there = status_dir / "p/g/n/r/metadata.json", status_dir / "p/g/n/other/metadata.json"
        for _ in range(int((SYSCTLS / "max_queued_events").read_text()) // 4 + 1000):
            here.rename(there)  # two events, and two more on the way back
            there.rename(here)
        for n in range(100):
            write_raw(status_dir / f"p/g/unheard{n}/r", b"{}")
        reads.set()
        said = watched.wait()
        while not said.resync:  # what the kernel kept before its queue was full may come first
            assert said.runs <= {RUN, b"p/g/n/other"}
            said = watched.wait()
        assert watched.watcher.failure is None
        assert watched.watcher.watched == 6 + 2 * 100
        write_raw(status_dir / "p/g/unheard7/r", b"{}")
        assert watched.wait() == Dirty(runs={b"p/g/unheard7/r"})


def test_a_short_queue_that_overflows_again_and_again(status_dir: Path) -> None:
    with (
        watching(status_dir, open_inotify=Slow) as watched,
        sysctl("max_queued_events", 16),
    ):
        watched.start()
        for n in range(1000):
            write_raw(status_dir / f"p/g{n % 5}/n{n}/r", b"{}")
        assert watched.wait().resync
        assert watched.watcher.failure is None
        assert watched.watcher.watched == 1 + 1 + 5 + 2 * 1000


def test_after_an_overflow_what_was_moved_is_watched_where_it_is(
    status_dir: Path, tmp_path: Path
) -> None:
    made: list[Losing] = []

    def losing(receive: Any) -> Losing:
        made.append(Losing(receive))
        return made[0]

    write_run(status_dir, NAMES)
    write_run(status_dir, ("p", "g", "leaves", "r"))
    with watching(status_dir, open_inotify=losing) as watched:
        watched.start()
        made[0].loses = True
        (status_dir / "p/g/n").rename(status_dir / "p/g/moved")
        (status_dir / "p/g/leaves").rename(tmp_path / "left")
        ends = time.monotonic() + 5
        while made[0].lost < 3:
            assert time.monotonic() < ends, "these events do not come"
            time.sleep(0.01)
        made[0].loses = False
        (status_dir / "q").mkdir()
        assert watched.wait() == Dirty(resync=True)
        assert watched.watcher.watched == 1 + 1 + 1 + 2 + 1
        write_run(status_dir, ("p", "g", "moved", "r"))
        assert watched.wait() == Dirty(runs={b"p/g/moved/r"})
        write_raw(tmp_path / "left/r", b"{}")
        assert watched.is_silent()


def test_more_events_than_are_kept_waiting(status_dir: Path) -> None:
    with watching(status_dir, most_waiting=0) as watched:
        watched.start()
        for n in range(200):
            write_raw(status_dir / f"p/g/n{n}/r", b"{}")
        assert watched.wait().resync
        assert watched.watcher.watched == 3 + 2 * 200


@contextmanager
def few_watches(beyond: int) -> Iterator[None]:
    """So many more watches may this user have."""
    taken = sum(map(_watches_in, Path("/proc").glob("[0-9]*/fdinfo/*")))
    with sysctl("max_user_watches", taken + beyond):
        yield


def _watches_in(file: Path) -> int:
    try:
        return file.read_bytes().count(b"inotify wd:")
    except OSError:
        return 0  # closed meanwhile


def test_too_few_watches_at_the_start(watched: Watched, status_dir: Path) -> None:
    for n in range(100):
        write_run(status_dir, ("p", "g", "n", f"r{n}"))
    with few_watches(20):
        watched.watcher.start()
    assert watched.watcher.failure is not None
    assert "fs.inotify.max_user_watches (now" in watched.watcher.failure


def test_too_few_watches_as_the_kernel_would_say(
    watched: Watched, status_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.start()
    monkeypatch.setattr(kernel, "inotify_add_watch", no_more_watches)
    (status_dir / "p").mkdir()
    assert "inotify watches ran out after 1 directories" in watched.wait_for_failure()


def no_more_watches(*arguments: object) -> int:
    ctypes.set_errno(errno.ENOSPC)
    return -1


def test_too_few_watches_later(watched: Watched, status_dir: Path) -> None:
    with few_watches(50):
        watched.start()
        for n in range(100):
            write_run(status_dir, ("p", "g", "n", f"r{n}"))
        assert "raise fs.inotify.max_user_watches" in watched.wait_for_failure()
    assert watched.woken.is_set()


def test_too_few_instances(watched: Watched) -> None:
    with sysctl("max_user_instances", 0):
        watched.watcher.start()
    assert watched.watcher.failure is not None
    assert "raise fs.inotify.max_user_instances (now 0)" in watched.watcher.failure


def test_too_few_descriptors(watched: Watched) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        watched.watcher.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert watched.watcher.failure is not None
    assert "ulimit -n" in watched.watcher.failure


def removed(root: Path) -> None:
    shutil.rmtree(root)


def moved(root: Path) -> None:
    root.rename(root.parent / "moved")


def replaced(root: Path) -> None:
    root.rename(root.parent / "moved")
    root.mkdir()


@pytest.mark.parametrize("lose", [removed, moved, replaced])
def test_the_root_is_lost(watched: Watched, status_dir: Path, lose: Callable[[Path], None]) -> None:
    write_run(status_dir, NAMES)
    watched.start()
    lose(status_dir)
    assert f"status_dir={str(status_dir)!r}: " in watched.wait_for_failure()
    assert watched.woken.is_set()


def test_a_directory_above_the_root_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "above/status"
    root.mkdir(parents=True)
    one = Watched(root)
    try:
        one.start()
        (tmp_path / "above").rename(tmp_path / "moved")
        root.mkdir(parents=True)
        assert "is another directory" in one.wait_for_failure()
    finally:
        one.watcher.stop()


def test_no_root_at_the_start(watched: Watched, status_dir: Path) -> None:
    status_dir.rmdir()
    watched.watcher.start()
    assert watched.watcher.failure == f"status_dir={str(status_dir)!r}: No such file or directory"


def test_the_thread_that_reads_ends(status_dir: Path) -> None:
    made: list[Inotify] = []

    def kept(receive: Any) -> Inotify:
        made.append(Inotify(receive))
        return made[0]

    with watching(status_dir, open_inotify=kept) as watched:
        watched.start()
        made[0].stop()
        assert watched.wait_for_failure() == "inotify is no longer read"


def test_stopped_in_the_middle_of_a_storm(watched: Watched, status_dir: Path) -> None:
    watched.start()
    stop = threading.Event()

    def storm() -> None:
        for n in range(100_000):
            if stop.is_set():
                return
            write_raw(status_dir / f"p/g/n{n}/r", b"{}")

    writer = threading.Thread(target=storm)
    writer.start()
    time.sleep(0.3)
    began = time.monotonic()
    watched.watcher.stop()
    took = time.monotonic() - began
    stop.set()
    writer.join()
    assert took < 2


# The hint source


def local(path: Path) -> None:
    if not events_are_complete(fs_type_of(str(path))):
        pytest.skip(f"{path} is on {fs_type_of(str(path))}")


@pytest.mark.parametrize("asked", ["watchdog", "auto"])
def test_events_on_a_local_disk(status_dir: Path, asked: str) -> None:
    local(status_dir)
    woken = threading.Event()
    hint_source = HintSource(str(status_dir), asked, woken.set)
    try:
        assert hint_source.drain() == Dirty(resync=True)
        assert hint_source.mode == "watchdog"
        write_run(status_dir, NAMES)
        assert woken.wait(2)
        assert hint_source.drain()
    finally:
        hint_source.close()


def test_falls_back_when_the_root_is_lost_and_watches_again_when_it_is_back(
    status_dir: Path,
) -> None:
    local(status_dir)
    time = SteppedClock()
    hint_source = HintSource(str(status_dir), "watchdog", lambda: None, time.clock)
    try:
        assert hint_source.drain().resync
        status_dir.rmdir()
        assert hint_source.drain() == Dirty(resync=True)
        assert hint_source.mode == "polling"
        assert "status_dir=" in hint_source.reason
        time.advance(RETRY)
        assert hint_source.drain() == Dirty()
        assert "No such file" in hint_source.reason
        status_dir.mkdir()
        time.advance(2 * RETRY)
        assert hint_source.drain() == Dirty(resync=True)
        assert (hint_source.mode, hint_source.reason) == ("watchdog", "")
    finally:
        hint_source.close()


def test_says_so_without_watchdog(status_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local(status_dir)
    for module in ("inotify", "kernel"):
        monkeypatch.delitem(sys.modules, f"jobcache_refresher.triggers.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "watchdog.observers.inotify_c", None)
    hint_source = HintSource(str(status_dir), "watchdog", lambda: None)
    assert hint_source.drain() == Dirty()
    assert hint_source.reason.startswith("watchdog cannot be used: ")
