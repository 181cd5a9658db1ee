"""The random producer: training jobs that begin, write, write slowly, end, are moved and removed."""

from __future__ import annotations

import heapq
import json
import shutil
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import IO

from tests.faults.oracle.dashboard import Dashboard
from tests.faults.oracle.journal import Journal
from tests.faults.oracle.volume import Volume
from tests.faults.oracle.world import World
from tests.trees import STATUSES, Names, metadata, run_dir, write_raw

PROJECTS = ("alpha", "beta", "gamma\udcff")
GROUPS = ("default", "eval:x")
JOB_NAMES = ("n", "m*")
FEWEST, MOST = 36, 60
"""Between how many jobs there are."""
OPERATIONS_PER_SECOND = 9.0
LONGEST_TEAR = 1.0

WEIGHTS = {
    "create": 3,
    "create_slowly": 1,
    "rewrite": 4,
    "rewrite_slowly": 3,
    "finish": 2,
    "remove": 1,
    "dismiss": 2,
    "move": 1,
    "invalidate": 1,
    "refresh": 0.3,
}


class Producer(threading.Thread):
    """Edits the tree at random moments while it is not paused."""

    def __init__(
        self, rng: Random, volume: Volume, world: World, dashboard: Dashboard, journal: Journal
    ) -> None:
        super().__init__(name="oracle-producer", daemon=True)
        self._rng = rng
        self._volume = volume
        self._world = world
        self._dashboard = dashboard
        self._journal = journal
        self._numbers = count()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._torn: set[Names] = set()
        self._going = threading.Event()
        self._ended = threading.Event()
        self._resting = threading.Event()
        self._resting.set()

    def populate(self, jobs: int) -> None:
        """Write the first jobs. Before the thread is started."""
        for _ in range(jobs):
            self.create()

    def pause(self) -> None:
        """Finish what is being written, and rest."""
        self._going.clear()
        self._resting.wait()

    def resume(self) -> None:
        self._resting.clear()
        self._going.set()

    def end(self) -> None:
        """For good."""
        self._ended.set()
        self._going.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._ended.is_set():
                if self._going.is_set():
                    self._step()
                else:
                    self._run_later(float("inf"))
                    self._resting.set()
                    self._going.wait()
        except Exception as bug:
            self._journal.violate("oracle", f"the producer failed: {bug!r}")
        finally:
            self._run_later(float("inf"))
            self._resting.set()

    def _step(self) -> None:
        self._run_later(time.monotonic())
        with self._volume.lock:
            jobs = len(self._world.names())
            if jobs < FEWEST:
                operation = "create"
            elif jobs > MOST:
                operation = "remove"
            else:
                (operation,) = self._rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
            getattr(self, operation)()
        self._journal.count("operations")
        time.sleep(min(0.5, self._rng.expovariate(OPERATIONS_PER_SECOND)))

    def _run_later(self, until: float) -> None:
        while self._later and self._later[0][0] <= until:
            _, _, action = heapq.heappop(self._later)
            with self._volume.lock:
                action()

    # Operations

    def create(self) -> None:
        names = self._new_names()
        self._world.emerging(names)
        write_raw(run_dir(self._volume.status_dir, names), self._document())
        self._world.appeared(names)
        self._journal.note(f"create {_show(names)}")

    def create_slowly(self) -> None:
        names = self._new_names()
        self._world.emerging(names)
        self._journal.note(f"begin {_show(names)}")
        self._write_slowly(names, lambda: self._world.appeared(names))

    def rewrite(self) -> None:
        if names := self._pick():
            self._write(names, self._document("running"))

    def rewrite_slowly(self) -> None:
        if names := self._pick():
            self._world.tearing(names)
            self._journal.note(f"tear {_show(names)}")
            self._write_slowly(names, lambda: self._world.repaired(names))

    def finish(self) -> None:
        if names := self._pick():
            self._write(names, self._document(self._rng.choice(("completed", "failed"))))

    def remove(self) -> None:
        if names := self._pick():
            self._remove(names)
            self._journal.note(f"remove {_show(names)}")

    def dismiss(self) -> None:
        if names := self._pick():
            self._remove(names)
            self._journal.note(f"remove, delete_job {_show(names)}")
            self._dashboard.delete(names)

    def move(self) -> None:
        if names := self._pick():
            target = self._new_names()
            self._world.vanishing(names)
            self._world.emerging(target)
            directory = run_dir(self._volume.status_dir, target)
            directory.parent.mkdir(parents=True, exist_ok=True)
            run_dir(self._volume.status_dir, names).rename(directory)
            self._world.appeared(target)
            self._journal.note(f"move {_show(names)} to {_show(target)}")

    def invalidate(self) -> None:
        if names := self._pick():
            self._dashboard.invalidate(names)

    def refresh(self) -> None:
        self._dashboard.refresh()

    # How

    def _write(self, names: Names, raw: bytes) -> None:
        self._world.tearing(names)
        write_raw(run_dir(self._volume.status_dir, names), raw)
        self._world.repaired(names)

    def _write_slowly(self, names: Names, done: Callable[[], None]) -> None:
        raw = self._document()
        directory = run_dir(self._volume.status_dir, names)
        directory.mkdir(parents=True, exist_ok=True)
        file: IO[bytes] = (directory / "metadata.json").open("wb")
        cut = self._rng.randrange(len(raw))
        file.write(raw[:cut])
        file.flush()
        self._torn.add(names)

        def finish() -> None:
            self._world.emerging(names)
            with file:
                file.write(raw[cut:])
            self._torn.discard(names)
            done()

        at = time.monotonic() + self._rng.uniform(0.02, LONGEST_TEAR)
        heapq.heappush(self._later, (at, next(self._numbers), finish))

    def _remove(self, names: Names) -> None:
        self._world.vanishing(names)
        shutil.rmtree(run_dir(self._volume.status_dir, names))

    # What

    def _pick(self) -> Names | None:
        names = [
            one
            for one in self._world.names()
            if one not in self._torn and one[0] != self._volume.hidden_project
        ]
        return self._rng.choice(names) if names else None

    def _new_names(self) -> Names:
        taken = {*self._world.names(), *self._torn}
        while True:
            names = (
                self._rng.choice([one for one in PROJECTS if one != self._volume.hidden_project]),
                self._rng.choice(GROUPS),
                self._rng.choice(JOB_NAMES),
                f"r{self._rng.randrange(40):02}",
            )
            if names not in taken:
                return names

    def _document(self, status: str | None = None) -> bytes:
        now = datetime.now()
        age = self._rng.choice((0, 0, 0, 1000))
        return json.dumps(
            metadata(
                status=status or self._rng.choice(STATUSES),
                start_time=(now - timedelta(seconds=self._rng.randrange(90_000))).isoformat(),
                last_heartbeat=(now - timedelta(seconds=age)).isoformat(),
                hardware={"chip": "h100", "total_chips": self._rng.randrange(65), "hosts": ["a"]},
                config={"n": self._rng.random()},
            )
        ).encode()


def _show(names: Names) -> str:
    return ascii("/".join(names))
