"""How a refresher is doing, as it tells and logs it."""

from __future__ import annotations

import logging

import pytest

from jobcache_refresher.status import Status


def test_status_say_logs_changes_only(caplog: pytest.LogCaptureFixture) -> None:
    status = Status()
    with caplog.at_level(logging.INFO):
        for reason in ("", "a", "a", "b", "", ""):
            status.say(reason)
            assert status.degraded == reason
    assert [record.getMessage() for record in caplog.records] == [
        "degraded: a",
        "degraded: b",
        "no longer degraded",
    ]


def test_status_forget_scan_leaves_the_counts_of_the_process() -> None:
    status = Status(
        jobs=3, errors=1, held=2, scan_seconds=0.5, completed_at=9.0, scans=4, repairs=5, rebuilds=1
    )
    status.forget_scan()
    assert (status.jobs, status.errors, status.held) == (0, 0, 0)
    assert (status.scan_seconds, status.completed_at) == (0.0, 0.0)
    assert (status.scans, status.repairs, status.rebuilds) == (4, 5, 1)
