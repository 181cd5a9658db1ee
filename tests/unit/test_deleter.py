"""Which requests to delete are applied, and what the thread that scans is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobcache_refresher.publish.deleter import Deleter
from jobcache_refresher.publish.store import Store

ONE, OTHER = b"p/g/n/one", b"p/g/n/other"


class Deletions:
    """A store that notes what is deleted, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.done: list[tuple[bytes, bytes]] = []
        self.failures = 0

    def delete(self, path: bytes, position: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise RedisConnectionError("away")
        self.done.append((path, position))


class Woken:
    """Counts what wakes the thread that scans."""

    def __init__(self) -> None:
        self._count = threading.Semaphore(0)

    def __call__(self) -> None:
        self._count.release()

    def wait(self) -> None:
        assert self._count.acquire(timeout=10)


@pytest.fixture
def store() -> Deletions:
    return Deletions()


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def deleter(store: Deletions, woken: Woken) -> Iterator[Deleter]:
    made = Deleter(cast(Store, cast(Any, store)), woken, retry=0.01)
    yield made
    made.close()


def test_deleter_request_that_was_applied_before_is_passed_over(
    deleter: Deleter, store: Deletions, woken: Woken
) -> None:
    """The stream is read again from the last completed scan; a job that came back since must stay."""
    deleter.open(b"5-1")
    for position in (b"4-9", b"5-0", b"5-1", b"5-2"):
        deleter.ask(position, ONE)
    woken.wait()
    deleter.ask(b"10-0", OTHER)
    woken.wait()
    assert store.done == [(ONE, b"5-2"), (OTHER, b"10-0")]
    assert deleter.position == b"10-0"


def test_deleter_deletion_that_redis_does_not_take_is_tried_again(
    deleter: Deleter, store: Deletions, woken: Woken
) -> None:
    store.failures = 3
    deleter.open(b"")
    deleter.ask(b"1-0", ONE)
    woken.wait()
    assert store.done == [(ONE, b"1-0")]


def test_deleter_deletion_is_told_once(deleter: Deleter, woken: Woken) -> None:
    deleter.open(b"")
    deleter.ask(b"1-0", ONE)
    woken.wait()
    told = [(deleter.has_news, deleter.take()) for _ in range(2)]
    assert told == [(True, {ONE}), (False, frozenset())]


def test_deleter_deletion_before_a_close_is_forgotten(
    deleter: Deleter, store: Deletions, woken: Woken
) -> None:
    """Another refresher led since: what it published counts."""
    deleter.open(b"")
    deleter.ask(b"1-0", ONE)
    woken.wait()
    deleter.close()
    assert (deleter.has_news, deleter.take()) == (False, frozenset())


def test_deleter_after_a_close_applies_nothing_until_it_is_opened_again(
    deleter: Deleter, store: Deletions, woken: Woken
) -> None:
    store.failures = 1 << 30
    deleter.open(b"")
    deleter.ask(b"1-0", ONE)
    deleter.close()
    store.failures = 0
    deleter.open(b"1-0")
    deleter.ask(b"2-0", OTHER)
    woken.wait()
    assert store.done == [(OTHER, b"2-0")]
    assert deleter.take() == {OTHER}
