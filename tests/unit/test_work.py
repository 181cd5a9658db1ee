"""Which scan is due when, what it is to look at, and what is left to be done after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobcache.schema import meta
from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.triggers.dirty import Dirty
from jobcache_refresher.triggers.requests import Requests
from jobcache_refresher.triggers.work import SECOND_LOOK, SECOND_LOOKS, WorkItem, WorkQueue

POLL = 10.0
RUN, OTHER, GROUP = b"p/g/n/r", b"p/g/n/other", b"p/g"
SOON = 0.1


class FakeInbox:
    """Requests that a test puts in."""

    def __init__(self) -> None:
        self.pending = Requests()
        self.is_open = True

    def drain(self) -> Requests:
        drained, self.pending = self.pending, Requests()
        return drained

    def put_back(self, requests: Requests) -> None:
        self.pending = requests

    def suspend(self) -> None:
        self.pending = Requests()


class FakeHints:
    """Events that a test puts in."""

    def __init__(self) -> None:
        self.pending = Dirty()
        self.mode, self.reason = "polling", ""
        self.is_closed = False

    def drain(self) -> Dirty:
        drained, self.pending = self.pending, Dirty()
        return drained

    def close(self) -> None:
        self.is_closed = True


class Desk:
    """A work queue, a clock that a test sets, and everything that comes in."""

    def __init__(self, mode: str = "polling") -> None:
        self.now = 0.0
        self.inbox, self.hints = FakeInbox(), FakeHints()
        self.hints.mode = mode
        self.deleter = SimpleNamespace(has_news=False)
        self.work = WorkQueue(
            POLL,
            cast(Any, self.inbox),
            cast(Any, self.hints),
            cast(Any, self.deleter),
            Clock(monotonic=lambda: self.now),
        )

    def take(self, at_least: Scope = Scope.HINTS) -> WorkItem:
        item = self.work.next(at_least)
        assert item is not None
        return item

    def finish(
        self, item: WorkItem, *, believed: bool = True, unconfirmed: Iterable[bytes] = ()
    ) -> None:
        lacking = set(unconfirmed)
        self.work.done(item, believed=believed, unconfirmed=lambda paths: lacking & set(paths))


@pytest.fixture(params=["polling", "watchdog"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """One in either mode, after its first scan."""
    desk = Desk(request.param)
    item = desk.take()
    assert item.scope is Scope.RELIST
    desk.finish(item)
    return desk


# What comes in


def nothing(desk: Desk) -> None:
    pass


def event(desk: Desk) -> None:
    desk.hints.pending = Dirty(runs={RUN}, directories={GROUP})


def lost_events(desk: Desk) -> None:
    desk.hints.pending = Dirty(resync=True)


def invalidate(desk: Desk) -> None:
    desk.inbox.pending = Requests(invalidated={OTHER}, position=b"1-1")


def unknown_request(desk: Desk) -> None:
    desk.inbox.pending = Requests(position=b"1-1")


def refresh(desk: Desk) -> None:
    desk.inbox.pending = Requests(refresh=True, position=b"1-1")


def release(desk: Desk) -> None:
    desk.inbox.pending = Requests(release=True)


def audit(desk: Desk) -> None:
    desk.inbox.pending = Requests(audit=True, position=b"1-1")


def deletion(desk: Desk) -> None:
    desk.deleter.has_news = True


def everything(desk: Desk) -> None:
    desk.work.look_at_everything()


@pytest.mark.parametrize(
    ("comes", "soon", "after_a_poll"),
    [
        (nothing, None, Scope.POLL),
        (event, Scope.HINTS, Scope.POLL),
        (lost_events, Scope.RELIST, Scope.RELIST),
        (invalidate, Scope.HINTS, Scope.POLL),
        (unknown_request, Scope.HINTS, Scope.POLL),
        (refresh, Scope.RELIST, Scope.RELIST),
        (release, Scope.RELIST, Scope.RELIST),
        (audit, Scope.POLL, Scope.POLL),
        (deletion, Scope.HINTS, Scope.POLL),
        (everything, Scope.RELIST, Scope.RELIST),
    ],
)
@pytest.mark.parametrize("waits", [SOON, POLL])
def test_next_by_what_came_and_when(
    desk: Desk,
    comes: Callable[[Desk], None],
    soon: Scope | None,
    after_a_poll: Scope,
    waits: float,
) -> None:
    desk.now += waits
    comes(desk)
    item = desk.work.next()
    expected = soon if waits == SOON else after_a_poll
    assert (item and item.scope) == expected


@pytest.mark.parametrize("at_least", [Scope.POLL, Scope.RELIST])
@pytest.mark.parametrize("comes", [nothing, event, refresh])
def test_next_with_a_larger_scope_is_always_due(
    desk: Desk, comes: Callable[[Desk], None], at_least: Scope
) -> None:
    comes(desk)
    scope = Scope.RELIST if comes is refresh else at_least
    assert desk.take(at_least).scope is scope


def test_next_gathers_requests_and_events_that_came_together(desk: Desk) -> None:
    event(desk)
    invalidate(desk)
    desk.now = 3.0
    item = desk.take()
    assert item.hints == {RUN, GROUP, OTHER}
    assert item.requests.position == b"1-1"
    assert item.dirty == Dirty(runs={RUN}, directories={GROUP})
    assert item.began == 3.0
    desk.finish(item)
    assert desk.work.next() is None


def test_polls_come_as_often_in_either_mode_counted_from_their_start(desk: Desk) -> None:
    for poll in range(1, 4):
        began = poll * POLL
        desk.now = began - SOON
        assert desk.work.next() is None
        assert desk.work.pause == pytest.approx(SOON)
        desk.now = began
        item = desk.take()
        assert item.scope is Scope.POLL
        desk.now = began + 3
        desk.finish(item)
        assert desk.work.pause == pytest.approx(POLL - 3)


def test_events_without_end_put_no_poll_off(desk: Desk) -> None:
    scopes = []
    while desk.now < 3 * POLL:
        desk.now += POLL / 4
        event(desk)
        item = desk.take()
        scopes.append(item.scope)
        desk.finish(item)
    assert scopes == 3 * [Scope.HINTS, Scope.HINTS, Scope.HINTS, Scope.POLL]


@pytest.mark.parametrize("comes", [event, lost_events, invalidate, refresh, release, audit])
def test_a_scan_that_failed_stays_to_be_done(desk: Desk, comes: Callable[[Desk], None]) -> None:
    comes(desk)
    item = desk.take()
    desk.work.failed(item)
    again = desk.take()
    assert (again.scope, again.hints) == (item.scope, item.hints)


def test_a_scan_that_failed_is_merged_with_what_comes_later(desk: Desk) -> None:
    event(desk)
    desk.work.failed(desk.take())
    desk.hints.pending = Dirty(runs={OTHER})
    assert desk.take().hints == {RUN, GROUP, OTHER}


def test_a_tree_that_cannot_be_believed_has_everything_looked_at_next(desk: Desk) -> None:
    event(desk)
    desk.finish(desk.take(), believed=False)
    item = desk.take()
    assert item.scope is Scope.RELIST
    assert item.hints == {RUN, GROUP}
    desk.finish(item)
    assert desk.work.next() is None


def test_what_events_show_to_be_missing_is_looked_for_a_few_times(desk: Desk) -> None:
    event(desk)
    item = desk.take()
    desk.finish(item, unconfirmed={RUN})
    looks = 0
    while desk.work.pause == SECOND_LOOK:
        desk.now += SECOND_LOOK
        item = desk.take()
        assert item.scope is Scope.HINTS
        assert item.hints == {RUN}
        desk.finish(item, unconfirmed={RUN})
        looks += 1
    assert looks == SECOND_LOOKS
    assert desk.work.next() is None


def test_what_was_missing_and_is_confirmed_is_looked_for_no_more(desk: Desk) -> None:
    event(desk)
    desk.finish(desk.take(), unconfirmed={RUN})
    desk.finish(desk.take())
    assert desk.work.next() is None
    assert desk.work.pause > SECOND_LOOK


@pytest.mark.parametrize("comes", [event, invalidate])
def test_forget_drops_what_came(desk: Desk, comes: Callable[[Desk], None]) -> None:
    comes(desk)
    desk.work.failed(desk.take())
    desk.work.forget()
    assert desk.work.next() is None


def test_suspend_listens_no_longer(desk: Desk) -> None:
    desk.work.suspend()
    assert desk.hints.is_closed


def test_description_is_of_the_mode_in_effect(desk: Desk) -> None:
    desk.hints.mode, desk.hints.reason = "watchdog", "because"
    assert desk.work.description == {meta.MODE: "watchdog", meta.MODE_REASON: "because"}
