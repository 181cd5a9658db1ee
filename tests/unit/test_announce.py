"""What readers are told of a refresher, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobcache.schema import meta
from jobcache_refresher.announce import REPORT_INTERVAL, Announcer
from jobcache_refresher.overdue import NextScan
from jobcache_refresher.publish.problems import PublishedProblems
from jobcache_refresher.publish.server import EpochError, FencedError
from jobcache_refresher.publish.store import ScanStart, Store
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.settings import Settings
from jobcache_refresher.status import Status
from tests.unit.fakes import SetClock

START = ScanStart(40, 5.0)


class NotedStore:
    def __init__(self) -> None:
        self.begun: list[dict[str, str]] = []
        self.reported: list[dict[str, str]] = []
        self.completed: list[dict[str, str]] = []
        self.error: Exception | None = None

    def begin(self, fields: dict[str, str]) -> None:
        self.begun.append(fields)

    def report(self, fields: dict[str, str]) -> None:
        if self.error is not None:
            raise self.error
        self.reported.append(dict(fields))

    def complete(self, start: ScanStart, stale_after: float, fields: dict[str, str]) -> float:
        assert (start, stale_after) == (START, 120.0)
        self.completed.append(fields)
        return 9.5


class NoProblems:
    """What Redis holds of problems: nothing."""

    def write(self, wanted: Mapping[bytes, bytes]) -> None:
        assert not wanted


class Announced:
    """An announcer, and what it told."""

    def __init__(self, poll_interval: float = 10.0) -> None:
        settings = Settings.create(
            status_dir="/s", url="redis://h", poll_interval=poll_interval, stale_after=120.0
        )
        self.time = SetClock()
        self.store, self.status = NotedStore(), Status()
        self.next_scan = NextScan(poll_interval, self.time.clock)
        self.announcer = Announcer(
            settings,
            cast(Store, cast(Any, self.store)),
            cast(PublishedProblems, NoProblems()),
            self.status,
            self.next_scan,
            "host:1:0",
            self.time.clock,
        )


@pytest.fixture
def told() -> Announced:
    return Announced()


def test_begin_epoch_tells_how_the_refresher_is_set_up(told: Announced) -> None:
    told.announcer.describe(
        {meta.MODE: "watchdog", meta.MODE_REASON: "local", meta.POLL_INTERVAL: "30"}
    )
    told.announcer.begin_epoch({"x": "y"})
    assert told.store.begun == [
        {
            meta.STATUS_DIR: "/s",
            meta.MODE: "watchdog",
            meta.MODE_REASON: "local",
            meta.POLL_INTERVAL: "30",
            meta.RELIST_INTERVAL: "60",
            meta.REFRESHER: "host:1:0",
            meta.STALE_AFTER: "120.0",
            "x": "y",
        }
    ]


@pytest.mark.parametrize(("is_building", "state"), [(True, None), (False, "degraded")])
def test_degrade_does_not_call_a_cache_degraded_that_is_building(
    told: Announced, is_building: bool, state: str | None
) -> None:
    told.announcer.degrade("why", is_building=is_building)
    (fields,) = told.store.reported
    assert (fields.get(meta.STATE), fields[meta.REASON]) == (state, "why")
    assert told.status.degraded == "why"


@pytest.mark.parametrize(("reason", "state"), [("", "ready"), ("why", "degraded")])
def test_complete_tells_the_state_and_expects_the_next_scan(
    told: Announced, reason: str, state: str
) -> None:
    told.status.say(reason)
    assert told.announcer.complete(START, {meta.JOBS: "3"}) == 9.5
    (fields,) = told.store.completed
    assert (fields[meta.STATE], fields[meta.REASON], fields[meta.JOBS]) == (state, reason, "3")
    assert fields[meta.OVERDUE_AFTER] == "30.000"
    told.time.now += 31
    assert told.next_scan.is_overdue


@pytest.mark.parametrize(
    ("scope", "counts", "fields"),
    [
        (Scope.RELIST, [1, 1, 2, 2, 3], {meta.SCANNED: "5", meta.TOTAL: "9"}),
        (Scope.POLL, [0, 0, 1, 1, 2], {}),
        (Scope.HINTS, [0, 0, 1, 1, 2], {}),
    ],
)
def test_report_progress_comes_now_and_then_and_tells_how_far_a_relist_is(
    told: Announced, scope: Scope, counts: list[int], fields: dict[str, str]
) -> None:
    told.announcer.begin_scan(scope)
    told.announcer.note_progress(5, 9)
    reports = []
    for pause in (0.0, REPORT_INTERVAL - 0.1, 0.1, REPORT_INTERVAL - 0.1, 0.1):
        told.time.now += pause
        told.announcer.report_progress()
        reports.append(len(told.store.reported))
    assert reports == counts
    assert told.store.reported[0] == fields


def test_report_progress_before_any_scan_tells_nothing(told: Announced) -> None:
    told.announcer.report_progress()
    assert told.store.reported == []


def test_report_progress_is_more_frequent_where_a_scan_is_soon_overdue() -> None:
    told = Announced(poll_interval=0.1)
    told.announcer.begin_scan(Scope.POLL)
    told.time.now += 0.34  # a third of the bound, which is 1 s at least
    told.announcer.report_progress()
    assert len(told.store.reported) == 1


@pytest.mark.parametrize(("silent_for", "is_overdue"), [(29.0, False), (31.0, True)])
def test_report_progress_puts_off_being_overdue_but_does_not_end_it(
    told: Announced, silent_for: float, is_overdue: bool
) -> None:
    told.next_scan.expect()
    told.announcer.begin_scan(Scope.RELIST)
    told.time.now += silent_for
    told.announcer.report_progress()
    told.time.now += 2
    assert told.next_scan.is_overdue is is_overdue


@pytest.mark.parametrize(
    "error", [RedisConnectionError("away"), FencedError("lost"), EpochError("lost"), OSError()]
)
def test_report_progress_that_fails_does_not_end_the_scan(
    told: Announced, error: Exception
) -> None:
    told.store.error = error
    told.announcer.begin_scan(Scope.RELIST)
    told.announcer.report_progress()
    told.store.error = None
    told.announcer.report_progress()
    assert told.store.reported == [], "it is tried again in a while"
