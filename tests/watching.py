"""A watcher of a real local directory, and what it has said."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobcache_refresher.triggers.dirty import Dirty
from jobcache_refresher.triggers.inotify import Watcher

NAMES = ("p", "g", "n", "r")
RUN = b"p/g/n/r"
SYSCTLS = Path("/proc/sys/fs/inotify")
THREADS = {"jobcache-watch", "jobcache-inotify"}


class Watched:
    """A watcher, not yet started, and what it has said. ``options`` are the watcher's."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self.woken = threading.Event()
        self.watcher = Watcher(os.fsencode(root), self.woken.set, **options)
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


@contextmanager
def watching(root: Path, **options: Any) -> Iterator[Watched]:
    """A watcher, not yet started; afterwards no thread of it and no descriptor is left."""
    gc.collect()  # else what an earlier test left may be closed meanwhile
    descriptors = len(os.listdir("/proc/self/fd"))
    one = Watched(root, **options)
    try:
        yield one
    finally:
        one.watcher.stop()
    assert not [t.name for t in threading.enumerate() if t.name in THREADS]
    assert len(os.listdir("/proc/self/fd")) == descriptors


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


def exchange(one: Path, other: Path) -> None:
    """Have two names lead to each other's directory, in one step."""
    here, at_once = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    if renameat2(here, os.fsencode(one), here, os.fsencode(other), at_once) != 0:
        pytest.skip(os.strerror(ctypes.get_errno()))
