"""(a), (c), (f), (h): readers that poll all the while, and judge every answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from jobcache import CacheNotReady, CacheUnavailable, Freshness, JobCache, JobMetadata
from tests.faults.oracle.faults import UNNOTICED
from tests.faults.oracle.forger import FORGED
from tests.faults.oracle.place import NAMESPACE, Place
from tests.faults.oracle.server import FragileServer
from tests.faults.oracle.world import IndexedFields
from tests.trees import Names, shown_names

GRACE = 0.2
"""Seconds beyond its deadline that a read may take."""
AFTER_OUTAGE = 3.0
"""Seconds for which a reader may still meet connections that an outage broke."""

T = TypeVar("T")


Floor = tuple[int, float, int]
"""A primary, by its number; an epoch; a generation."""


class Floors:
    """The newest generation, and the newest epoch, that any read has shown of the server that is the primary.

    A replica that is promoted may lack what the last reads have shown; the generation falls once.
    """

    def __init__(self, server: FragileServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._newest: Floor = (0, 0.0, 0)

    def now(self) -> Floor:
        with self._lock:
            return max(self._newest, (self._server.promotions, 0.0, 0))

    def raise_to(self, floor: Floor, freshness: Freshness) -> Floor:
        """Take an answer to a read into account that began at a floor; returns where it stands."""
        stands = (floor[0], float(freshness.epoch), freshness.generation)
        with self._lock:
            if self._server.promotions != floor[0]:
                return floor  # nobody knows whose answer it is
            self._newest = max(self._newest, stands)
        return stands


@dataclass(frozen=True, slots=True)
class Expected:
    """What an answer to a read must and must not hold, as of when the read began."""

    due: dict[Names, IndexedFields]
    away: dict[Names, float]

    def among(self, wanted: Callable[[Names], bool]) -> Expected:
        """The same for an answer that holds only some jobs."""
        return Expected({names: one for names, one in self.due.items() if wanted(names)}, self.away)


class Reader(threading.Thread):
    """Polls, at random, with one ``JobCache``. ``outages`` are the faults that excuse it when it is refused."""

    def __init__(
        self,
        url: str,
        rng: Random,
        place: Place,
        floors: Floors,
        outages: frozenset[str],
    ) -> None:
        super().__init__(name="oracle-reader", daemon=True)
        self._place = place
        self._rng = rng
        self._floors = floors
        self._outages = outages
        self._deadline = place.world.timing.reader_deadline
        self._cache = JobCache(
            url, namespace=NAMESPACE, ready_timeout=0, deadline=self._deadline, max_connections=2
        )
        self._ended = threading.Event()
        self._queries = (
            self._list_everything,
            self._list_everything,
            self._get_one,
            self._get_one,
            self._get_dismissed,
            self._list_runs,
            self._list_running,
            self._count,
        )

    def run(self) -> None:
        while not self._ended.wait(self._rng.uniform(0.02, 0.08)):
            try:
                self._rng.choice(self._queries)()
            except Exception as bug:
                self._place.journal.violate("oracle", f"a reader failed: {bug!r}")
                return
        self._cache.close()

    def end(self) -> None:
        self._ended.set()
        self.join()

    # Queries

    def _list_everything(self) -> None:
        self._read(lambda: self._cache.list_all_jobs(limit=None), self._judge)

    def _get_one(self) -> None:
        if names := self._place.world.names():
            self._get(self._rng.choice(names))

    def _get_dismissed(self) -> None:
        away = sorted(self._place.world.must_be_away(time.time()))
        self._get(self._rng.choice([*away, FORGED]))

    def _get(self, names: Names) -> None:
        def judge(job: JobMetadata | None, expected: Expected) -> None:
            self._judge([] if job is None else [job], expected.among(lambda one: one == names))

        self._read(lambda: self._cache.get_job(*names), judge)

    def _list_runs(self) -> None:
        if not (names := self._place.world.names()):
            return
        job = self._rng.choice(names)[:3]
        self._read(
            lambda: self._cache.get_job_runs(*job),
            lambda jobs, expected: self._judge(jobs, expected.among(lambda one: one[:3] == job)),
        )

    def _list_running(self) -> None:
        self._read(
            self._cache.get_running_jobs,
            lambda jobs, expected: self._judge(jobs, expected.among(lambda one: False)),
        )

    def _count(self) -> None:
        self._read(self._cache.counts, lambda counts, expected: None)

    # Judgement

    def _read(self, query: Callable[[], T], judge: Callable[[T, Expected], None]) -> None:
        world, journal = self._place.world, self._place.journal
        floor = self._floors.now()
        began = time.time()
        expected = Expected(world.due(began), world.must_be_away(began))
        asked = time.time()
        try:
            answer = query()
        except (CacheUnavailable, CacheNotReady) as refusal:
            self._judge_time(asked, refusal)
            self._judge_refusal(began, refusal)
            return
        except Exception as escaped:
            journal.violate("h", f"a read raised {escaped!r}")
            return
        self._judge_time(asked, None)
        freshness = self._cache.last_freshness
        assert freshness is not None
        journal.count(f"reads {freshness.state.value}")
        if self._place.server.had_two_primaries(began, time.time()):
            journal.count("reads while an old primary answered")
            return
        stands = self._floors.raise_to(floor, freshness)
        if stands < floor:
            journal.violate("c", f"epoch and generation {stands[1:]} after {floor[1:]}")
        judge(answer, expected)

    def _judge_time(self, asked: float, refusal: Exception | None) -> None:
        took = time.time() - asked
        if took <= self._deadline + GRACE:
            return
        stalled = self._place.stalls.within(asked, asked + took)
        if took > self._deadline + GRACE + stalled:
            self._place.journal.violate(
                "f", f"a read took {took:.2f} s ({stalled:.2f} s of them stalled): {refusal!r}"
            )

    def _judge_refusal(self, began: float, refusal: Exception) -> None:
        journal, world = self._place.journal, self._place.world
        journal.count(f"reads {type(refusal).__name__}")
        now = time.time()
        if isinstance(refusal, CacheNotReady):
            excused = world.loss_explains(now)
        else:
            broken = world.touched_by(self._outages, began - AFTER_OUTAGE, now)
            excused = broken or world.loss_explains(now, UNNOTICED)
        if not excused:
            journal.violate("h", f"a read was refused without a reason: {refusal!r}")

    def _judge(self, jobs: Collection[JobMetadata], expected: Expected) -> None:
        world, journal = self._place.world, self._place.journal
        freshness = self._cache.last_freshness
        assert freshness is not None
        shown = {tuple(job.id) for job in jobs}
        said = f"in a {freshness.state.value} view of generation {freshness.generation}"
        if FORGED in shown:
            journal.violate("g", f"a forged job shows {said}")
        # Until an audit finds what was lost, it is missing.
        due = {} if world.loss_explains(time.time(), UNNOTICED) else expected.due
        for names, standing in due.items():
            if shown_names(names) not in shown and world.is_still_there(names, standing):
                since = max(0.0, standing.since - journal.began)
                journal.violate("a", f"{names}, on disk since {since:.3f} s, is missing {said}")
        for names, at in expected.away.items():
            if shown_names(names) in shown and world.is_still_dismissed(names, at):
                gone = at - journal.began
                journal.violate("h", f"{names}, deleted by a client at {gone:.3f} s, shows {said}")
