"""When the next scan should be complete."""

from __future__ import annotations

import pytest

from jobcache_refresher.overdue import LAST_SCANS, LEAST_BOUND, NextScan
from tests.unit.fakes import SetClock


@pytest.mark.parametrize(
    ("poll", "durations", "bound"),
    [
        (10.0, [], 30.0),
        (10.0, [1.0], 30.0),
        (10.0, [8.0], 34.0),
        (10.0, [8.0, 1.0, 2.0], 34.0),
        (0.1, [0.01], LEAST_BOUND),
        (10.0, [50.0, *[1.0] * LAST_SCANS], 30.0),
        (10.0, [50.0, *[1.0] * (LAST_SCANS - 1)], 160.0),
    ],
)
def test_next_scan_bound_is_three_polls_or_three_times_the_slowest_of_the_last_scans(
    poll: float, durations: list[float], bound: float
) -> None:
    scan = NextScan(poll, SetClock().clock)
    for seconds in durations:
        scan.note_duration(seconds)
    assert scan.bound == bound


def test_next_scan_is_overdue_once_the_bound_has_passed_since_it_was_expected() -> None:
    time = SetClock()
    scan = NextScan(10.0, time.clock)
    told = []
    for pause in (1e9, 30.0, 0.1):
        time.now += pause
        told.append(scan.is_overdue)
        if pause == 1e9:  # before that nothing was expected
            scan.expect()
    assert told == [False, False, True]
    scan.expect()
    assert scan.is_overdue is False
