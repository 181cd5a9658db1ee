"""The refreshers: two real processes, and a supervisor that starts whichever ends, as an orchestrator would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.faults.oracle import child
from tests.faults.oracle.journal import Journal
from tests.faults.oracle.timing import Timing
from tests.faults.oracle.world import World
from tests.programs import environment

EXPECTED_CODES = frozenset({0, 2, 3})
"""Stopped; the status directory is not there; Redis is not there."""
RESTART = 0.3
"""Seconds after which the supervisor starts a refresher that ended."""
LAST_LINES = 80
BUG = re.compile(r"a refresh failed|Traceback|Exception in thread")


class Refresher:
    """One of them."""

    def __init__(self, number: int, directory: Path, timing: Timing, arguments: list[str]) -> None:
        self.number = number
        self.flags = directory / f"flags{number}"
        self.flags.mkdir()
        self.log = directory / f"refresher{number}.log"
        self.is_wanted = True
        self.last_words = ""
        self.process: subprocess.Popen[bytes] | None = None
        scaled = (timing.server_deadline, timing.retry, timing.standby)
        self._command = [sys.executable, "-m", child.__name__, str(self.flags)]
        self._command += [*map(str, scaled), "run", *arguments]
        self._lock = threading.Lock()

    def start(self) -> None:
        variables = environment()
        # The producer's timestamps are of this process's zone.
        variables.pop("TZ")
        variables |= {name: os.environ[name] for name in ("TZ",) if name in os.environ}
        with self.log.open("ab") as log, self._lock:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                cwd=Path(__file__).parents[3],
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        with self._lock:
            if self.process is not None:
                self.process.send_signal(number)

    def ended(self) -> int | None:
        """The exit code, once, if it ended by itself."""
        with self._lock:
            if self.process is None or self.process.poll() is None:
                return None
            code = self.process.returncode
            self.process = None
            return code

    def kill(self) -> None:
        with self._lock:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None

    @property
    def pid(self) -> int | None:
        process = self.process
        return None if process is None else process.pid


class Fleet:
    """All of them."""

    def __init__(
        self, directory: Path, world: World, journal: Journal, arguments: list[str], size: int = 2
    ) -> None:
        self._world = world
        self._journal = journal
        self.members = [
            Refresher(number, directory, world.timing, arguments) for number in range(size)
        ]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="oracle-fleet", daemon=True)

    def start(self) -> None:
        for member in self.members:
            member.start()
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        for member in self.members:
            member.kill()
            self._look_for_bugs(member)

    def of(self, lease: bytes | None) -> Refresher | None:
        """Whoever holds the lease."""
        if lease is None:
            return None
        pid = int(lease.split(b" ")[0].split(b":")[1])
        return next((member for member in self.members if member.pid == pid), None)

    def _supervise(self) -> None:
        while not self._ended.wait(0.05):
            for member in self.members:
                code = member.ended()
                if code is not None:
                    self._revive(member, code)

    def _revive(self, member: Refresher, code: int) -> None:
        self._journal.note(f"refresher {member.number} ended with {code}")
        if code not in EXPECTED_CODES and code >= 0:
            self._journal.violate("h", f"refresher {member.number} ended with {code}")
        if not member.is_wanted:
            return
        hindrance = self._world.hinder("restart")
        if not self._ended.wait(RESTART) and member.is_wanted:
            member.start()
        hindrance.over(self._world.timing.startup + self._world.timing.takeover)

    def _look_for_bugs(self, member: Refresher) -> None:
        text = member.log.read_text(errors="replace")
        member.last_words = "\n".join(text.splitlines()[-LAST_LINES:])
        if found := BUG.search(text):
            excerpt = text[max(0, found.start() - 300) : found.end() + 1500]
            self._journal.violate("h", f"refresher {member.number} logged:\n{excerpt}")
