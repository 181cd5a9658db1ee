"""Which mode is in effect, and when a watcher is begun, tried again and given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from jobcache_refresher.clock import Clock
from jobcache_refresher.triggers.dirty import MOST_DIRTY, Dirty
from jobcache_refresher.triggers.hints import LONGEST_RETRY, RETRY, HintSource

HINT = Dirty(runs={b"p/g/n/r"})
ALL = Dirty(resync=True)


class FakeWatcher:
    """Says what it is told to."""

    def __init__(self, failure: str | None) -> None:
        self.failure = failure
        self.said = [ALL]
        self.is_stopped = False

    def drain(self) -> Dirty:
        return self.said.pop(0) if self.said else Dirty()

    def stop(self) -> None:
        self.is_stopped = True


class Host:
    """A filesystem of a type, a clock that a test sets, and what becomes of watchers that are opened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.type: str | None = "ext4"
        self.failure: str | None = None
        self.error: Exception | None = None
        self.opened: list[FakeWatcher] = []

    def source(self, asked: str) -> HintSource:
        return HintSource(
            b"/status",
            asked,
            lambda: None,
            Clock(monotonic=lambda: self.now),
            fs_type=lambda path: self.type,
            open_watcher=cast(Any, self._open),
        )

    def _open(self, root: bytes, wake: Callable[[], None]) -> FakeWatcher:
        if self.error is not None:
            raise self.error
        self.opened.append(FakeWatcher(self.failure))
        return self.opened[-1]


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize(
    ("asked", "fs_type", "mode", "reason"),
    [
        ("polling", "ext4", "polling", ""),
        ("watchdog", "ext4", "watchdog", ""),
        ("auto", "ext4", "watchdog", "inotify sees every write on ext4"),
        ("watchdog", "nfs4", "polling", "inotify may miss writes on nfs4"),
        ("auto", "fuse.juicefs", "polling", "inotify may miss writes on fuse.juicefs"),
        ("watchdog", None, "polling", "the filesystem type is unknown"),
    ],
)
def test_mode_by_what_is_asked_and_where(
    host: Host, asked: str, fs_type: str | None, mode: str, reason: str
) -> None:
    host.type = fs_type
    source = host.source(asked)
    assert source.drain() == (ALL if mode == "watchdog" else Dirty())
    assert (source.mode, source.reason) == (mode, reason)
    assert len(host.opened) == (mode == "watchdog")


def test_a_filesystem_without_events_is_asked_about_once(host: Host) -> None:
    host.type = "nfs4"
    source = host.source("watchdog")
    source.drain()
    host.type = "ext4"
    host.now = 1e6
    assert source.drain() == Dirty()
    assert source.mode == "polling"


def test_hints_are_those_of_the_watcher(host: Host) -> None:
    source = host.source("watchdog")
    source.drain()
    host.opened[0].said = [HINT]
    assert source.drain() == HINT
    assert source.drain() == Dirty()


def test_a_watcher_that_fails_is_given_up_and_everything_looked_at(host: Host) -> None:
    source = host.source("watchdog")
    source.drain()
    host.opened[0].said, host.opened[0].failure = [HINT], "watches ran out"
    assert source.drain() == ALL
    assert (source.mode, source.reason) == ("polling", "watches ran out")
    assert host.opened[0].is_stopped


@pytest.mark.parametrize("error", [None, ImportError("no watchdog"), AttributeError("renamed")])
def test_a_watcher_that_cannot_begin_leaves_polling(host: Host, error: Exception | None) -> None:
    host.failure, host.error = "watches ran out", error
    source = host.source("watchdog")
    assert source.drain() == Dirty()
    assert source.mode == "polling"
    expected = f"watchdog cannot be used: {error}" if error else "watches ran out"
    assert source.reason == expected
    assert all(one.is_stopped for one in host.opened)


def test_each_try_that_fails_doubles_the_wait_and_one_that_works_ends_that(host: Host) -> None:
    host.failure = "watches ran out"
    source = host.source("watchdog")
    source.drain()
    waits = [RETRY, 2 * RETRY, 4 * RETRY, 8 * RETRY, LONGEST_RETRY, LONGEST_RETRY]
    for tries, wait in enumerate(waits, 1):
        host.now += wait - 0.1
        source.drain()
        assert len(host.opened) == tries
        if tries == len(waits):
            host.failure = None
        host.now += 0.1
        source.drain()
        assert len(host.opened) == tries + 1
    assert source.mode == "watchdog"
    host.opened[-1].failure = "watches ran out"
    source.drain()
    host.now += RETRY
    assert source.drain() == ALL
    assert source.mode == "watchdog"


def test_closed_it_stops_the_watcher_and_begins_anew_when_drained(host: Host) -> None:
    source = host.source("watchdog")
    source.drain()
    source.close()
    assert host.opened[0].is_stopped
    assert source.drain() == ALL
    assert len(host.opened) == 2


def test_dirty_with_more_paths_than_are_kept_is_a_resync() -> None:
    dirty = Dirty(runs={b"%d" % n for n in range(MOST_DIRTY)})
    dirty.add(HINT)
    assert dirty == ALL
