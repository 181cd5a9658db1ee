"""The watcher alone, on a real local directory: what it calls dirty, and how it fails."""

from __future__ import annotations

import ctypes
import errno
import os
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

from jobcache_refresher.triggers import dirty as dirty_module
from jobcache_refresher.triggers import hints as hints_module
from jobcache_refresher.triggers import inotify, kernel
from jobcache_refresher.triggers.dirty import Dirty
from jobcache_refresher.triggers.hints import HintSource
from jobcache_refresher.triggers.inotify import Watcher
from jobcache_refresher.triggers.mounts import events_are_complete, fs_type_of
from tests.trees import write_raw, write_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")

NAMES = ("p", "g", "n", "r")
RUN = b"p/g/n/r"
SYSCTLS = Path("/proc/sys/fs/inotify")


class Watched:
    """A watcher and what it has said."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.woken = threading.Event()
        self.watcher = Watcher(os.fsencode(root), self.woken.set)
        self.said = Dirty()
        self.wakes = 0

    def start(self) -> None:
        self.watcher.start()
        assert self.watcher.failure is None, self.watcher.failure
        assert self.watcher.drain() == Dirty(resync=True)

    def wait(self, timeout: float = 5) -> Dirty:
        """What it said since, once it said something and then nothing for a while."""
        assert self.woken.wait(timeout), "nothing was noticed"
        said = Dirty()
        while self.woken.wait(0.15):
            self.woken.clear()
            self.wakes += 1
            said.add(self.watcher.drain())
        return said

    def wait_for_failure(self, timeout: float = 5) -> str:
        ends = time.monotonic() + timeout
        while self.watcher.failure is None:
            assert time.monotonic() < ends, "no failure"
            self.watcher.drain()
            time.sleep(0.01)
        return self.watcher.failure

    def is_silent(self) -> bool:
        return not self.woken.wait(0.2)


@pytest.fixture
def watched(status_dir: Path) -> Iterator[Watched]:
    """A watcher, not yet started; afterwards no thread of it and no descriptor is left."""
    descriptors = len(os.listdir("/proc/self/fd"))
    one = Watched(status_dir)
    yield one
    one.watcher.stop()
    assert not [t.name for t in threading.enumerate() if t.name in THREADS]
    assert len(os.listdir("/proc/self/fd")) == descriptors


THREADS = {"jobcache-watch", "jobcache-inotify"}


@contextmanager
def sysctl(name: str, value: int) -> Iterator[None]:
    """A limit of inotify lowered."""
    file = SYSCTLS / name
    before = file.read_text()
    try:
        file.write_text(str(value))
    except OSError:
        pytest.skip(f"no right to set fs.inotify.{name}")
    try:
        yield
    finally:
        file.write_text(before)


# What is noticed


def test_a_new_run_and_every_directory_above_it(watched: Watched, status_dir: Path) -> None:
    watched.start()
    write_run(status_dir, NAMES)
    said = watched.wait()
    assert said == Dirty(runs={RUN}, directories={b"", b"p", b"p/g", b"p/g/n"})


def test_a_rewrite_is_one_hint(watched: Watched, status_dir: Path) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    for _ in range(3):
        with (directory / "metadata.json").open("w") as file:
            for _ in range(50):
                file.write("x" * 100)
                file.flush()
    assert watched.wait() == Dirty(runs={RUN})
    assert watched.wakes <= 2


def test_replaced_by_a_rename_and_removed(watched: Watched, status_dir: Path) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    (directory / "new").write_text("{}")
    (directory / "new").rename(directory / "metadata.json")
    assert watched.wait() == Dirty(runs={RUN})
    (directory / "metadata.json").unlink()
    assert watched.wait() == Dirty(runs={RUN})


def test_other_files_and_deeper_directories_are_not_heard(
    watched: Watched, status_dir: Path
) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    before = watched.watcher.watched
    (directory / "output.log").write_text("line\n" * 1000)
    (directory / "wandb/deep/deeper").mkdir(parents=True)
    (directory / "wandb/metadata.json").write_text("{}")
    (status_dir / "p/metadata.json").write_text("{}")
    (status_dir / "note").write_text("a file among the projects")
    (status_dir / "note").unlink()
    assert watched.is_silent()
    assert watched.watcher.watched == before == 5


def test_links_are_not_followed(watched: Watched, status_dir: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "elsewhere", NAMES)
    (status_dir / "link").symlink_to(tmp_path / "elsewhere/p")
    watched.start()
    (status_dir / "later").symlink_to(tmp_path / "elsewhere/p")
    write_run(tmp_path / "elsewhere", NAMES)
    assert watched.is_silent()
    assert watched.watcher.watched == 1


def test_the_root_may_be_reached_through_a_link(status_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(status_dir)
    through = Watched(tmp_path / "link")
    try:
        through.start()
        write_run(status_dir, NAMES)
        assert through.wait().runs == {RUN}
    finally:
        through.watcher.stop()


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_removed_at_every_level(watched: Watched, status_dir: Path, level: int) -> None:
    write_run(status_dir, NAMES)
    watched.start()
    shutil.rmtree(status_dir.joinpath(*NAMES[:level]))
    said = watched.wait()
    assert "/".join(NAMES[: level - 1]).encode() in said.directories
    assert not said.resync
    assert watched.watcher.watched == level
    write_run(status_dir, NAMES)
    assert RUN in watched.wait().runs
    assert watched.watcher.watched == 5


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_moved_within_the_tree(watched: Watched, status_dir: Path, level: int) -> None:
    write_run(status_dir, NAMES)
    watched.start()
    old = NAMES[: level - 1]
    status_dir.joinpath(*NAMES[:level]).rename(status_dir.joinpath(*old, "new"))
    there: Any = (*old, "new", *NAMES[level:])
    said = watched.wait()
    assert said.runs == {"/".join(there).encode()}
    assert "/".join(old).encode() in said.directories
    write_run(status_dir, there)
    assert watched.wait() == Dirty(runs={"/".join(there).encode()})
    assert watched.watcher.watched == 5


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_moved_out_and_in_again(
    watched: Watched, status_dir: Path, tmp_path: Path, level: int
) -> None:
    write_run(status_dir, NAMES)
    watched.start()
    inside, outside = status_dir.joinpath(*NAMES[:level]), tmp_path / "outside"
    inside.rename(outside)
    assert watched.wait() == Dirty(directories={"/".join(NAMES[: level - 1]).encode()})
    assert watched.watcher.watched == level
    write_raw(outside.joinpath(*NAMES[level:]), b"{}")
    assert watched.is_silent()
    outside.rename(inside)
    assert watched.wait().runs == {RUN}
    write_run(status_dir, NAMES)
    assert watched.wait() == Dirty(runs={RUN})


def test_moved_up_and_down_the_levels(watched: Watched, status_dir: Path) -> None:
    write_run(status_dir, NAMES)
    write_run(status_dir, ("p", "g", "other", "r"))
    watched.start()
    (status_dir / "p/g/n").rename(status_dir / "p/g/other/n")  # now it is where a run would be
    assert b"p/g/other/n" in watched.wait().runs
    write_run(status_dir, ("p", "g", "other", "n"))
    assert watched.wait() == Dirty(runs={b"p/g/other/n"})
    (status_dir / "p/g/other/n").rename(status_dir / "q")
    assert {b"q", b"p/g/other"} <= watched.wait().directories
    write_run(status_dir, ("q", "r", "n", "r2"))
    assert watched.wait().runs == {b"q/r/n/r2"}


def test_a_large_tree_moved_in_is_dirty_to_the_last_run(
    watched: Watched, status_dir: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for n in range(300):
        write_raw(source / f"g{n % 3}/n{n % 30}/r{n}", b"{}")
    watched.start()
    source.rename(status_dir / "p")
    said = watched.wait()
    assert said.runs == {f"p/g{n % 3}/n{n % 30}/r{n}".encode() for n in range(300)}
    assert len(said.directories) == 1 + 1 + 3 + 30


def test_directories_made_faster_than_they_are_watched(watched: Watched, status_dir: Path) -> None:
    watched.start()
    for n in range(500):
        write_raw(status_dir / f"p{n % 7}/g{n % 11}/n{n}/r", b"{}")
    assert watched.wait().runs == {f"p{n % 7}/g{n % 11}/n{n}/r".encode() for n in range(500)}


@pytest.mark.parametrize(
    "name", [b"caf\xe9\xff", b"new\nline", b"-dash", "日本".encode(), b"x" * 255, b"\\", b"a b\t"]
)
def test_odd_names(watched: Watched, status_dir: Path, name: bytes) -> None:
    watched.start()
    directory = os.path.join(os.fsencode(status_dir), name, b"g", b"n", name)
    os.makedirs(directory)
    with open(directory + b"/metadata.json", "wb") as file:
        file.write(b"{}")
    assert watched.wait().runs == {name + b"/g/n/" + name}
    with open(directory + b"/metadata.json", "wb") as file:
        file.write(b"{}")
    assert watched.wait() == Dirty(runs={name + b"/g/n/" + name})


def test_hints_come_soon(watched: Watched, status_dir: Path) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    delays = []
    for _ in range(100):
        began = time.monotonic()
        write_raw(directory, b"{}")
        assert watched.woken.wait(2)
        delays.append(time.monotonic() - began)
        watched.woken.clear()
        assert watched.watcher.drain() == Dirty(runs={RUN})
    delays.sort()
    assert delays[98] < 0.08, f"p99 {delays[98] * 1e3:.1f} ms"


def test_a_steady_stream_is_handed_over_while_it_goes_on(
    watched: Watched, status_dir: Path
) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    ends = time.monotonic() + 0.5
    while time.monotonic() < ends:
        write_raw(directory, b"{}")
        time.sleep(inotify.QUIET / 4)
        if watched.woken.is_set():
            watched.woken.clear()
            watched.wakes += 1
    assert watched.wakes >= 3


# What goes wrong


def test_a_queue_that_overflows_asks_for_a_resync_and_goes_on(
    watched: Watched, status_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(status_dir, NAMES)
    write_run(status_dir, ("p", "g", "n", "other"))
    watched.start()
    inotify = watched.watcher._inotify
    assert inotify is not None
    receive, reads = inotify._receive, threading.Event()

    def receive_late(event: Any) -> None:
        reads.wait()
        receive(event)

    monkeypatch.setattr(inotify, "_receive", receive_late)
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


def test_a_short_queue_that_overflows_again_and_again(
    watched: Watched, status_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sysctl("max_queued_events", 16):
        watched.start()
        inotify = watched.watcher._inotify
        assert inotify is not None
        receive = inotify._receive

        def receive_slowly(event: Any) -> None:
            time.sleep(0.0005)
            receive(event)

        monkeypatch.setattr(inotify, "_receive", receive_slowly)
        for n in range(1000):
            write_raw(status_dir / f"p/g{n % 5}/n{n}/r", b"{}")
        assert watched.wait().resync
    assert watched.watcher.failure is None
    assert watched.watcher.watched == 1 + 1 + 5 + 2 * 1000


def test_after_an_overflow_what_was_moved_is_watched_where_it_is(
    watched: Watched, status_dir: Path, tmp_path: Path
) -> None:
    write_run(status_dir, NAMES)
    write_run(status_dir, ("p", "g", "leaves", "r"))
    watched.start()
    watched.watcher._lost = True
    receive = watched.watcher._receive
    inotify = watched.watcher._inotify
    assert inotify is not None
    inotify._receive = lambda event: None  # these two events are lost
    (status_dir / "p/g/n").rename(status_dir / "p/g/moved")
    (status_dir / "p/g/leaves").rename(tmp_path / "left")
    time.sleep(0.1)
    inotify._receive = receive
    (status_dir / "q").mkdir()
    assert watched.wait() == Dirty(resync=True)
    assert watched.watcher.watched == 1 + 1 + 1 + 2 + 1
    write_run(status_dir, ("p", "g", "moved", "r"))
    assert watched.wait() == Dirty(runs={b"p/g/moved/r"})
    write_raw(tmp_path / "left/r", b"{}")
    assert watched.is_silent()


def test_more_events_than_are_kept_waiting(
    watched: Watched, status_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.start()
    monkeypatch.setattr(inotify, "MOST_WAITING", 0)
    for n in range(200):
        write_raw(status_dir / f"p/g/n{n}/r", b"{}")
    said = watched.wait()
    assert said.resync
    assert watched.watcher.watched == 3 + 2 * 200


def test_more_paths_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty_module, "MOST_DIRTY", 10)
    dirty = Dirty(runs={b"a"})
    dirty.add(Dirty(runs={b"%d" % n for n in range(10)}))
    assert dirty == Dirty(resync=True)


@contextmanager
def few_watches(beyond: int) -> Iterator[None]:
    """So many more watches may this user have."""
    taken = sum(
        entry.read_bytes().count(b"inotify wd:")
        for entry in Path("/proc").glob("[0-9]*/fdinfo/*")
        if _is_readable(entry)
    )
    with sysctl("max_user_watches", taken + beyond):
        yield


def _is_readable(file: Path) -> bool:
    try:
        return bool(file.read_bytes())
    except OSError:
        return False


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


def test_the_thread_that_reads_ends(watched: Watched) -> None:
    watched.start()
    assert watched.watcher._inotify is not None
    watched.watcher._inotify.stop()
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


# The hint_source


def local(path: Path) -> None:
    if not events_are_complete(fs_type_of(str(path))):
        pytest.skip(f"{path} is on {fs_type_of(str(path))}")


def test_polling_watches_nothing(status_dir: Path) -> None:
    hint_source = HintSource(str(status_dir), "polling", lambda: None)
    assert hint_source.drain() == Dirty()
    assert (hint_source.mode, hint_source.reason) == ("polling", "")
    assert not [t.name for t in threading.enumerate() if t.name in THREADS]


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


@pytest.mark.parametrize("asked", ["watchdog", "auto"])
@pytest.mark.parametrize("fs_type", ["fuse.juicefs", "nfs4", None])
def test_polling_where_events_are_not_complete(
    status_dir: Path, asked: str, fs_type: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints_module, "fs_type_of", lambda path: fs_type)
    hint_source = HintSource(str(status_dir), asked, lambda: None)
    assert hint_source.drain() == Dirty()
    assert hint_source.mode == "polling"
    assert hint_source.reason


def test_falls_back_when_the_root_is_lost_and_watches_again_when_it_is_back(
    status_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local(status_dir)
    monkeypatch.setattr(hints_module, "RETRY", 0.05)
    hint_source = HintSource(str(status_dir), "watchdog", lambda: None)
    try:
        assert hint_source.drain().resync
        status_dir.rmdir()
        assert hint_source.drain() == Dirty(resync=True)
        assert hint_source.mode == "polling"
        assert "status_dir=" in hint_source.reason
        time.sleep(0.06)
        assert hint_source.drain() == Dirty()
        assert "No such file" in hint_source.reason
        status_dir.mkdir()
        time.sleep(0.06)
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
