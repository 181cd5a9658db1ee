"""How soon a run or a directory is looked at again."""

from __future__ import annotations

import pytest

from jobcache_refresher.scan.schedule import Schedule


@pytest.mark.parametrize("path", [b"a", b"b/c", b"\xff"])
class TestSchedule:
    def schedule(self) -> Schedule:
        return Schedule(poll=10, relist=60, resync=900)

    def test_schedule_of_what_changed_lately_is_every_poll(self, path: bytes) -> None:
        assert self.schedule().quiet_interval(5, path) <= 10

    def test_schedule_of_what_is_quiet_grows_up_to_a_resync(self, path: bytes) -> None:
        schedule = self.schedule()
        intervals = [schedule.quiet_interval(age, path) for age in (0, 60, 600, 3600, 86400, 1e9)]
        assert intervals == sorted(intervals)
        assert 0.75 * 890 <= intervals[-1] <= 890

    def test_schedule_of_listings_finds_a_new_run_within_a_relist(self, path: bytes) -> None:
        schedule = self.schedule()
        assert schedule.listing_interval(1, path) + schedule.poll <= 60
        assert schedule.listing_interval(2, path) + schedule.poll <= 60
        assert schedule.listing_interval(3, path) + schedule.poll <= 900

    def test_schedule_of_old_runs_is_that_of_their_directory(self, path: bytes) -> None:
        schedule = self.schedule()
        assert schedule.quiet_interval(1e9, path) == schedule.listing_interval(3, path)
