"""When to look where."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.scanner import Scan, Scanner
from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.supervisor import FilesystemHungError, ScanSupervisor, StoppedError
from jobcache_refresher.workers import Workers


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

    def test_old_runs_fall_due_with_their_directory(self, path: bytes) -> None:
        schedule = self.schedule()
        assert schedule.quiet_interval(1e9, path) == schedule.listing_interval(3, path)


class TestWorkers:
    @pytest.mark.parametrize("threads", [1, 2, 7])
    def test_results_in_order(self, threads: int) -> None:
        workers = Workers(threads, "t")
        assert list(workers.map(lambda number: number * 2, range(1000))) == list(range(0, 2000, 2))
        workers.close()

    def test_bounded(self) -> None:
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

    def test_calls_that_wait_are_made_side_by_side_and_others_are_not(self) -> None:
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

    def test_an_error_reaches_whoever_asks(self) -> None:
        workers = Workers(2, "t")

        def call(number: int) -> int:
            raise ValueError(number)

        with pytest.raises(ValueError):
            list(workers.map(call, range(100)))
        assert list(workers.map(str, range(3))) == ["0", "1", "2"]
        workers.close()

    def test_threads_are_daemons_and_end(self) -> None:
        workers = Workers(2, "jobcache-test-end")
        list(workers.map(lambda _: time.sleep(0.001), range(100)))
        mine = [thread for thread in threading.enumerate() if "jobcache-test-end" in thread.name]
        assert mine
        assert all(thread.daemon for thread in mine)
        workers.close()
        for thread in mine:
            thread.join(5)
            assert not thread.is_alive()


class HangingScanner:
    """Scans when it is let."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.steps = 0
        self.given_back: list[Scan] = []

    def scan(self, scope: Scope, hints: Any, *, fresh_since: float, give: Any) -> Scan:
        self.go_on.wait(10)
        return Scan(read=[b"late"])

    def give_back(self, scan: Scan) -> None:
        self.given_back.append(scan)

    def close(self) -> None:
        pass


class TestPatience:
    def patient(
        self, scanner: HangingScanner, stop: threading.Event, timeout: float
    ) -> ScanSupervisor:
        return ScanSupervisor(cast("Scanner", scanner), timeout, stop, Clock())

    def test_a_scan_that_hangs_is_given_up_and_its_findings_are_not_lost(self) -> None:
        scanner = HangingScanner()
        patient = self.patient(scanner, threading.Event(), 0.2)
        with pytest.raises(FilesystemHungError, match=r"not answered for 0\.2 s"):
            patient.scan(Scope.POLL, (), fresh_since=0)
        assert _is_hung(patient)
        with pytest.raises(FilesystemHungError, match="still"):
            patient.scan(Scope.POLL, (), fresh_since=0)
        scanner.go_on.set()
        ends = time.monotonic() + 5
        while _is_hung(patient):
            assert time.monotonic() < ends
            time.sleep(0.01)
        assert b"late" in scanner.given_back[0].read
        assert b"late" in patient.scan(Scope.POLL, (), fresh_since=0).read
        patient.close()

    def test_a_slow_scan_that_makes_steps_is_waited_for(self) -> None:
        scanner = HangingScanner()
        patient = self.patient(scanner, threading.Event(), 0.3)

        def step() -> None:
            for _ in range(8):
                time.sleep(0.1)
                scanner.steps += 1
            scanner.go_on.set()

        thread = threading.Thread(target=step)
        thread.start()
        assert patient.scan(Scope.POLL, (), fresh_since=0).read
        thread.join()
        patient.close()

    def test_a_stop_does_not_wait(self) -> None:
        scanner, stop = HangingScanner(), threading.Event()
        patient = self.patient(scanner, stop, 60)
        stop.set()
        with pytest.raises(StoppedError):
            patient.scan(Scope.POLL, (), fresh_since=0)
        scanner.go_on.set()
        patient.close()


def _is_hung(patient: ScanSupervisor) -> bool:
    return patient.waits_for_hung_scan()
