"""One seed, from an empty server to a verdict."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from redis.exceptions import RedisError

from jobcache import JobCache
from jobcache.schema.keys import Keys
from jobcache.transport.endpoint import Endpoint
from jobcache_refresher.publish.server import Server
from jobcache_refresher.triggers.requests import post_release
from tests.faults.oracle.agreement import disagreements
from tests.faults.oracle.auditor import Auditor
from tests.faults.oracle.dashboard import Dashboard
from tests.faults.oracle.faults import OUTAGES, READER_FAULTS, Round, plan_round
from tests.faults.oracle.feed import Feed
from tests.faults.oracle.fleet import Fleet
from tests.faults.oracle.forger import Forger
from tests.faults.oracle.indexes import index_faults
from tests.faults.oracle.injector import Injector, Targets
from tests.faults.oracle.journal import Journal
from tests.faults.oracle.place import NAMESPACE, Place
from tests.faults.oracle.producer import FEWEST, MOST, Producer
from tests.faults.oracle.proxy import Proxy
from tests.faults.oracle.readers import Floors, Reader
from tests.faults.oracle.server import FragileServer
from tests.faults.oracle.snapshot import take_snapshot
from tests.faults.oracle.stalls import Stalls
from tests.faults.oracle.timing import Timing
from tests.faults.oracle.volume import MARKER, Volume
from tests.faults.oracle.witness import Witness
from tests.faults.oracle.world import World

FIRST_SCAN = 30.0
"""Seconds that two refreshers may take to start on a busy machine."""
SHORTEST_ROUND, LONGEST_ROUND = 3.0, 7.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a seed."""

    seed: int
    kind: str
    violations: list[str]
    events: list[str]
    counts: Counter[str]
    recovered_in: list[float] = field(default_factory=list)
    """Seconds from the end of each round to a view that equals the tree."""
    logs: str = ""
    """What the refreshers said last."""
    is_recorded: bool = False
    """Whether its rounds were given, not drawn."""


def run_seed(seed: int, kind: str, seconds: float, kinds: Collection[str]) -> Result:
    """Draw and play rounds for about as long as told, or up to the first violation."""
    with _staged(seed, kind) as stage:
        ends = time.monotonic() + seconds
        while True:
            left = min(LONGEST_ROUND, max(SHORTEST_ROUND, ends - time.monotonic()))
            stage.play(stage.draw(left, kinds))
            if time.monotonic() >= ends or stage.place.journal.failed:
                break
    return stage.result()


def run_rounds(seed: int, kind: str, rounds: Iterable[Round]) -> Result:
    """Play recorded rounds, up to the first violation; the seed draws all but the faults."""
    with _staged(seed, kind) as stage:
        for one in rounds:
            stage.play(one)
            if stage.place.journal.failed:
                break
    return replace(stage.result(), is_recorded=True)


class Stage:
    """Everything at work."""

    def __init__(self, seed: int, kind: str, directory: Path) -> None:
        self._seed = seed
        self._kind = kind
        rng = self._rng("setting")
        self._timing = Timing(watches=rng.random() < 0.2)
        self._directory = directory
        self._recovered_in: list[float] = []
        world, journal = World(self._timing), Journal()
        self._volume = Volume(directory, marked=rng.random() < 0.5)
        self.place = Place(
            FragileServer(kind),
            world,
            journal,
            Stalls(),
            Keys(NAMESPACE),
            str(self._volume.mounted_status_dir),
        )
        server = self.place.server
        self._proxy, self._reader_proxy = Proxy(server.socket), Proxy(server.socket)
        self._fleet = Fleet(directory, world, journal, self._arguments())
        self._dashboard = Dashboard(server.url, NAMESPACE, world, journal)
        self._producer = Producer(
            self._rng("producer"), self._volume, world, self._dashboard, journal
        )
        self._injector = Injector(
            self.place, Targets(self._fleet, self._proxy, self._reader_proxy, self._volume)
        )
        self._schedule = self._rng("faults")
        self._lasting_cache = JobCache(server.url, namespace=NAMESPACE, ready_timeout=30)
        """What it remembers must not be told once it is past."""

    def _rng(self, purpose: str) -> Random:
        return Random(f"{self._seed}/{purpose}")

    def _arguments(self) -> list[str]:
        timing = self._timing
        values = {
            "status-dir": self.place.status_dir,
            "url": self._proxy.url,
            "namespace": NAMESPACE,
            "mode": "watchdog" if timing.watches else "polling",
            "poll-interval": timing.poll,
            "relist-interval": timing.look,
            "resync-interval": timing.look,
            "settle": timing.settle,
            "stale-after": timing.stale_after,
            "hang-timeout": timing.hang_timeout,
            "lease-ttl": timing.lease_ttl,
            "hold-minimum": 8,
            "marker": MARKER if self._volume.marked else "",
        }
        return [part for name, value in values.items() for part in (f"--{name}", str(value))]

    def enter(self, stack: ExitStack) -> None:
        """Start everything; the stack ends it."""
        place = self.place
        floors = Floors(place.server)
        direct = OUTAGES - READER_FAULTS
        url, proxied = place.server.url, self._reader_proxy.url
        readers = [
            Reader(url, self._rng("reader 1"), place, floors, direct),
            Reader(url, self._rng("reader 2"), place, floors, direct),
            Reader(proxied, self._rng("reader 3"), place, floors, OUTAGES),
        ]
        place.stalls.start()
        stack.callback(place.stalls.end)
        place.server.start()
        stack.callback(place.server.end)
        for proxy in (self._proxy, self._reader_proxy):
            proxy.start()
            stack.callback(proxy.end)
        stack.callback(self._injector.end)
        stack.callback(self._lasting_cache.close)
        self._producer.populate((FEWEST + MOST) // 2)
        self._fleet.start()
        stack.callback(self._fleet.end)
        self._wait_until_agreed(FIRST_SCAN)
        place.world.agreed()
        self._dashboard.start()
        stack.callback(self._dashboard.end)
        self._producer.start()
        stack.callback(self._producer.end)
        watchers = (Feed(place), Witness(place), Forger(place), Auditor(place))
        for watcher in watchers:
            watcher.start()
            stack.callback(watcher.end)
        for reader in readers:
            reader.start()
            stack.callback(reader.end)

    def draw(self, longest: float, kinds: Collection[str]) -> Round:
        """A round of some of the faults there are."""
        seconds = self._schedule.uniform(SHORTEST_ROUND, max(SHORTEST_ROUND, longest))
        return plan_round(self._schedule, kinds, seconds, self._timing)

    def play(self, one: Round) -> None:
        """Chaos, then rest."""
        journal = self.place.journal
        journal.note(str(one))
        self._producer.resume()
        self._injector.play(one)
        self._producer.pause()
        journal.note("all is quiet")
        if not journal.failed:
            self._settle()

    def _settle(self) -> None:
        """(e) and (d), within the bound."""
        quiet_since = time.time()
        while True:
            now = time.time()
            is_late = self.place.world.threshold(now) >= quiet_since
            different = self._differences()
            if not different:
                break
            if is_late or self.place.journal.failed:
                late = f"{now - quiet_since:.2f} s after the last fault"
                self.place.journal.violate("e", f"{late}: {'; '.join(different[:4])}")
                return
            self._release_what_is_held()
            time.sleep(0.1)
        self._recovered_in.append(time.time() - quiet_since)
        self.place.world.agreed()
        self.place.journal.note(f"the view equals the tree after {self._recovered_in[-1]:.2f} s")

    def _differences(self) -> list[str]:
        server = self.place.server
        with JobCache(server.url, namespace=NAMESPACE, ready_timeout=30) as cache:
            different = self._disagreements(cache)
        different = different or self._disagreements(self._lasting_cache)
        with server.client() as redis:
            held = take_snapshot(redis, self.place.keys)
        if not different and int(held.meta[b"jobs"]) != len(held.jobs):
            different.append(f"meta says {held.meta[b'jobs']!r} jobs")
        return different + index_faults(held)

    def _disagreements(self, cache: JobCache) -> list[str]:
        return disagreements(cache, self._volume.status_dir, self._timing.stale_after)

    def _release_what_is_held(self) -> None:
        """Producers may have removed more than a refresher believes: an operator confirms it."""
        server = Server(Endpoint.find(self.place.server.url))
        try:
            if int(server.ask(b"HGET", self.place.keys.meta, b"held") or 0):
                self.place.journal.note("the operator releases what is held")
                post_release(server, self.place.keys)
        except (RedisError, OSError):
            pass
        finally:
            server.close()

    def _wait_until_agreed(self, timeout: float) -> None:
        ends = time.monotonic() + timeout
        while different := self._differences():
            assert time.monotonic() < ends, different
            time.sleep(0.1)

    def result(self) -> Result:
        journal = self.place.journal
        logs = [
            f"--- refresher {member.number}\n{member.last_words}" for member in self._fleet.members
        ]
        return Result(
            self._seed,
            self._kind,
            journal.violations,
            journal.lines(),
            journal.counts,
            self._recovered_in,
            "\n".join(logs),
        )


@contextmanager
def _staged(seed: int, kind: str) -> Iterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="jobcache-oracle-"))
    stack = ExitStack()
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    with stack:
        stage = Stage(seed, kind, directory)
        stage.enter(stack)
        yield stage
