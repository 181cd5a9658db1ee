"""A scan in a thread of its own: waited for while it makes steps, given up when it hangs."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.scanner import Scan, Scanner
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.supervisor import FilesystemHungError, ScanSupervisor, StoppedError


class HangingScanner:
    """Scans when it is let."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.steps = 0
        self.given_back: list[Scan] = []

    def scan(self, scope: Scope, hints: Any, **rest: Any) -> Scan:
        self.go_on.wait(10)
        return Scan(read=[b"late"])

    def give_back(self, scan: Scan) -> None:
        self.given_back.append(scan)

    def close(self) -> None:
        pass


class TestScanSupervisor:
    def supervise(
        self, scanner: HangingScanner, stop: threading.Event, timeout: float
    ) -> ScanSupervisor:
        return ScanSupervisor(cast("Scanner", scanner), timeout, stop, Clock())

    def test_supervisor_scan_that_hangs_is_given_up_and_its_findings_are_not_lost(self) -> None:
        scanner = HangingScanner()
        supervisor = self.supervise(scanner, threading.Event(), 0.2)
        with pytest.raises(FilesystemHungError, match=r"not answered for 0\.2 s"):
            supervisor.scan(Scope.POLL, (), fresh_since=0)
        assert _is_hung(supervisor)
        with pytest.raises(FilesystemHungError, match="still"):
            supervisor.scan(Scope.POLL, (), fresh_since=0)
        scanner.go_on.set()
        ends = time.monotonic() + 5
        while _is_hung(supervisor):
            assert time.monotonic() < ends
            time.sleep(0.01)
        assert b"late" in scanner.given_back[0].read
        assert b"late" in supervisor.scan(Scope.POLL, (), fresh_since=0).read
        supervisor.close()

    def test_supervisor_slow_scan_that_makes_steps_is_waited_for(self) -> None:
        scanner = HangingScanner()
        supervisor = self.supervise(scanner, threading.Event(), 0.3)

        def step() -> None:
            for _ in range(8):
                time.sleep(0.1)
                scanner.steps += 1
            scanner.go_on.set()

        thread = threading.Thread(target=step)
        thread.start()
        assert supervisor.scan(Scope.POLL, (), fresh_since=0).read
        thread.join()
        supervisor.close()

    def test_supervisor_stop_does_not_wait_for_a_scan(self) -> None:
        scanner, stop = HangingScanner(), threading.Event()
        supervisor = self.supervise(scanner, stop, 60)
        stop.set()
        with pytest.raises(StoppedError):
            supervisor.scan(Scope.POLL, (), fresh_since=0)
        scanner.go_on.set()
        supervisor.close()


def _is_hung(supervisor: ScanSupervisor) -> bool:
    return supervisor.waits_for_hung_scan()
