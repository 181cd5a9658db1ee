"""Calls in threads: in order, bounded, and side by side only where they wait."""

from __future__ import annotations

import threading
import time

import pytest

from jobcache_refresher.workers import Workers


class TestWorkers:
    @pytest.mark.parametrize("threads", [1, 2, 7])
    def test_workers_results_come_in_order(self, threads: int) -> None:
        workers = Workers(threads, "t")
        assert list(workers.map(lambda number: number * 2, range(1000))) == list(range(0, 2000, 2))
        workers.close()

    def test_workers_calls_under_way_are_bounded(self) -> None:
        under_way, most, lock = 0, 0, threading.Lock()

        def call(number: int) -> int:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            time.sleep(0.001)
            with lock:
                under_way -= 1
            return number

        workers = Workers(3, "t")
        assert len(list(workers.map(call, range(200)))) == 200
        assert most <= 3
        workers.close()

    def test_workers_calls_that_wait_are_made_side_by_side_and_others_are_not(self) -> None:
        makers: set[int] = set()

        def wait(seconds: float) -> None:
            makers.add(threading.get_ident())
            if seconds:
                time.sleep(seconds)

        workers = Workers(3, "t")
        list(workers.map(wait, [0.0] * 1000))
        assert makers == {threading.get_ident()}
        list(workers.map(wait, [0.001] * 300))
        assert len(makers) > 1
        list(workers.map(wait, [0.0] * 5000))  # a trial is due within these
        makers.clear()
        list(workers.map(wait, [0.0] * 1000))
        assert makers == {threading.get_ident()}
        workers.close()

    def test_workers_error_reaches_whoever_asks(self) -> None:
        workers = Workers(2, "t")

        def call(number: int) -> int:
            raise ValueError(number)

        with pytest.raises(ValueError):
            list(workers.map(call, range(100)))
        assert list(workers.map(str, range(3))) == ["0", "1", "2"]
        workers.close()

    def test_workers_threads_are_daemons_and_end(self) -> None:
        workers = Workers(2, "jobcache-test-end")
        list(workers.map(lambda _: time.sleep(0.001), range(100)))
        mine = [thread for thread in threading.enumerate() if "jobcache-test-end" in thread.name]
        assert mine
        assert all(thread.daemon for thread in mine)
        workers.close()
        for thread in mine:
            thread.join(5)
            assert not thread.is_alive()
