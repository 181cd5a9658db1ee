"""The progress of a scan: what is shown, and when."""

from __future__ import annotations

import logging
import os
import pty
import threading
from io import StringIO

import pytest

from jobcache_refresher.cli.progress import Bar, LogLines, ScanProgress, display_on


class Recorder:
    """A display that keeps what it was told."""

    interval = 0.005

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []
        self.closed = False
        self.told = threading.Event()

    def show(self, done: int, total: int) -> None:
        self.shown.append((done, total))
        if total:
            self.told.set()

    def close(self) -> None:
        self.closed = True


def test_progress_of_a_scan_is_shown_until_it_is_over() -> None:
    recorder = Recorder()
    with ScanProgress("scan", lambda _: recorder) as progress:
        progress(3, 10)
        assert recorder.told.wait(5)
        closed_meanwhile = recorder.closed
    assert (closed_meanwhile, recorder.closed) == (False, True)
    assert recorder.shown[-1] == (3, 10)
    assert progress.seconds > 0
    progress(1, 2)
    assert recorder.shown[-1] == (3, 10)


def test_progress_display_does_not_hold_up_the_scan() -> None:
    recorder = Recorder()
    with ScanProgress("scan", lambda _: recorder) as progress:
        for done in range(100_000):
            progress(done, 100_000)
    assert len(recorder.shown) < 1000


def test_progress_of_a_failing_scan_is_taken_away() -> None:
    recorder = Recorder()
    with pytest.raises(OSError), ScanProgress("scan", lambda _: recorder):
        raise OSError
    assert recorder.closed


def test_progress_log_lines_tell_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = LogLines("first scan")
    lines.show(0, 0)
    lines.show(250, 1000)
    lines.close()
    assert caplog.messages == [
        "first scan: listing directories",
        "first scan: 250 of 1000 runs, 25%",
    ]


def test_progress_bar_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(display_on(StringIO(), "scan"), LogLines)
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        display = display_on(terminal, "scan")
        assert isinstance(display, Bar)
        display.show(0, 0)
        display.show(5, 10)
        display.close()
        written = ""
        while "5/10" not in written:  # as the terminal gets it, piece by piece
            written += os.read(master, 65536).decode()
        assert "scan: listing directories" in written
        monkeypatch.setenv("TERM", "dumb")
        assert isinstance(display_on(terminal, "scan"), LogLines)
    os.close(master)
