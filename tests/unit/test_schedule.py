"""How soon a run or a directory is looked at again."""

from __future__ import annotations

import pytest

from jobcache_refresher.scan.schedule import Schedule


@pytest.mark.parametrize("path", [b"a", b"b/c", b"\xff"])
class TestSchedule:
    def schedule(self) -> Schedule:
        return Schedule(poll=10, relist=60, resync=900)

    def test_what_changed_lately_is_looked_at_every_poll(self, path: bytes) -> None:
        assert self.schedule().quiet_interval(5, path) <= 10

    def test_what_is_quiet_ever_more_rarely_but_at_least_once_in_a_resync(
        self, path: bytes
    ) -> None:
        schedule = self.schedule()
        intervals = [schedule.quiet_interval(age, path) for age in (0, 60, 600, 3600, 86400, 1e9)]
        assert intervals == sorted(intervals)
        assert 0.75 * 890 <= intervals[-1] <= 890

    def test_a_new_run_is_found_anywhere_within_a_relist(self, path: bytes) -> None:
        schedule = self.schedule()
        assert schedule.listing_interval(1, path) + schedule.poll <= 60
        assert schedule.listing_interval(2, path) + schedule.poll <= 60
        assert schedule.listing_interval(3, path) + schedule.poll <= 900

    def test_names_are_listed_within_a_relist_where_times_prove_nothing(self, path: bytes) -> None:
        schedule = self.schedule()
        assert schedule.listing_interval(3, path, times_prove=False) + schedule.poll <= 60

    @pytest.mark.parametrize("waited_for", [0.0, 60.0, 3600.0, 86400.0, 1e9])
    def test_the_newest_that_are_waited_for_are_looked_at_within_a_relist(
        self, path: bytes, waited_for: float
    ) -> None:
        schedule = self.schedule()
        newest = schedule.waiting_interval(waited_for, path, newest=True)
        assert newest + schedule.poll <= 60
        assert newest <= schedule.quiet_interval(waited_for, path)

    @pytest.mark.parametrize("waited_for", [0.0, 60.0, 3600.0, 86400.0, 1e9])
    def test_the_others_no_sooner_than_in_a_relist_nor_than_what_is_quiet(
        self, path: bytes, waited_for: float
    ) -> None:
        schedule = self.schedule()
        others = schedule.waiting_interval(waited_for, path, newest=False)
        assert others >= 0.75 * 50
        assert others >= schedule.quiet_interval(waited_for, path)

    def test_old_runs_fall_due_with_their_directory(self, path: bytes) -> None:
        schedule = self.schedule()
        assert schedule.quiet_interval(1e9, path) == schedule.listing_interval(3, path)
