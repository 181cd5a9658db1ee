"""Strikes with the faults of a schedule, and puts everything right again."""

from __future__ import annotations

import heapq
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tests.faults.oracle.child import EIO, HANG
from tests.faults.oracle.faults import KINDS, LOSSES, Fault, Round
from tests.faults.oracle.fleet import Fleet, Refresher
from tests.faults.oracle.place import Place
from tests.faults.oracle.producer import PROJECTS
from tests.faults.oracle.proxy import Mode, Proxy
from tests.faults.oracle.snapshot import take_snapshot
from tests.faults.oracle.volume import Volume

LEAST_HIDDEN = 10
"""Jobs that a project must have for its absence to be held, more than ``hold_minimum``."""
LITTLE_MEMORY = 1
"""Bytes: everything that needs memory is refused."""
EVICTED = 20_000
"""Bytes that have to go at once; more go with every write."""
LOST = "failovers that lost writes"
"""How they are counted."""
ABSENCE = 0.7
"""Seconds after which the old primary of a failover comes back."""

Undo = Callable[[], None]


def _nothing() -> None:
    pass


class SkippedError(Exception):
    """The fault cannot strike now."""


@dataclass(slots=True)
class Targets:
    """What there is to break."""

    fleet: Fleet
    proxy: Proxy
    reader_proxy: Proxy
    volume: Volume


class Injector:
    """Plays one round's faults; afterwards all is well again."""

    def __init__(self, place: Place, targets: Targets) -> None:
        self._place = place
        self._targets = targets
        self._redis: Redis = place.server.client()
        self._later: list[tuple[float, int, Undo]] = []
        self._numbers = count()

    def play(self, one: Round) -> None:
        """Strike when the schedule says so, for as long as the round takes."""
        began = time.monotonic()
        for fault in one.faults:
            self._wait_until(began + fault.at)
            self._do_at(began + fault.ends, self._strike(fault))
        self._wait_until(began + one.seconds)
        self._wait_until(math.inf)

    def _do_at(self, moment: float, act: Undo) -> None:
        heapq.heappush(self._later, (moment, next(self._numbers), act))

    def _wait_until(self, moment: float) -> None:
        """Wait for a moment, and do what is to be done until then; for ever means until all is."""
        while self._later and self._later[0][0] <= moment:
            at, _, act = heapq.heappop(self._later)
            time.sleep(max(0.0, at - time.monotonic()))
            act()
        if moment < math.inf:
            time.sleep(max(0.0, moment - time.monotonic()))

    def end(self) -> None:
        self._redis.close()

    def _strike(self, fault: Fault) -> Undo:
        journal, world = self._place.journal, self._place.world
        hindrance = world.hinder(fault.kind)
        if fault.kind in LOSSES:
            world.lost(fault.kind)
        try:
            end_fault, what = self._begin(fault)
        except (SkippedError, RedisError, OSError) as error:
            hindrance.over(KINDS[fault.kind].aftermath(world.timing))
            journal.note(f"fault {fault.kind} skipped: {error}")
            return _nothing
        journal.note(f"fault {fault.kind} {what}begins, for {fault.lasts:.2f} s")
        journal.count(f"fault {fault.kind}")

        def undo() -> None:
            end_fault()
            if fault.kind in LOSSES:
                world.lost(fault.kind)
            hindrance.over(KINDS[fault.kind].aftermath(world.timing))
            journal.note(f"fault {fault.kind} {what}is over")

        return undo

    def _begin(self, fault: Fault) -> tuple[Undo, str]:
        """Strike; returns how to put it right, and what was struck."""
        kind = fault.kind
        if kind in {"kill", "term", "stop", "hang"}:
            return self._strike_refreshers(fault)
        if kind.startswith("reader-"):
            return self._strike_proxy(
                self._targets.reader_proxy, kind.removeprefix("reader-"), fault
            )
        if kind in {mode.value for mode in Mode}:
            return self._strike_proxy(self._targets.proxy, kind, fault)
        strike: Callable[[Fault], tuple[Undo, str]] = getattr(self, "_" + kind.replace("-", "_"))
        return strike(fault)

    # Refreshers

    def _strike_refreshers(self, fault: Fault) -> tuple[Undo, str]:
        fleet = self._targets.fleet
        leader = fleet.of(self._lease())
        standby = next(member for member in fleet.members if member is not leader)
        chosen = self._choose(fault.die, leader, standby)
        for member in chosen:
            _hit(member, fault.kind)

        def undo() -> None:
            for member in chosen:
                _heal(member, fault.kind)

        names = ["the leader" if member is leader else f"{member.number}" for member in chosen]
        return undo, f"of {' and '.join(names)} "

    @staticmethod
    def _choose(die: float, leader: Refresher | None, standby: Refresher) -> list[Refresher]:
        if leader is None or die < 0.15:
            return [standby]
        return [leader] if die < 0.75 else [leader, standby]

    def _lease(self) -> bytes | None:
        try:
            lease = self._redis.get(self._place.keys.lease)
        except (RedisError, OSError):
            return None
        assert lease is None or isinstance(lease, bytes)
        return lease

    # The server

    def _redis_stop(self, fault: Fault) -> tuple[Undo, str]:
        self._place.server.stop()
        return self._place.server.go_on, ""

    def _redis_kill(self, fault: Fault) -> tuple[Undo, str]:
        self._place.server.kill()
        return self._place.server.start, ""

    def _failover(self, fault: Fault) -> tuple[Undo, str]:
        """The replica falls behind, the primary dies or hangs, the replica leads, the old primary comes back."""
        server, targets = self._place.server, self._targets
        if not server.can_fail_over:
            raise SkippedError("the replica is not in step")
        began, hangs = time.monotonic(), fault.die < 0.5
        # Of each half of the dice one in four loses nothing but what was on its way.
        behind = max(0.0, (fault.die * 2) % 1 - 0.25)
        if behind:
            server.part()

        stood: list[bytes | None] = []

        def strike() -> None:
            self._place.journal.note(f"the primary {'hangs' if hangs else 'dies'}")
            stood[:] = self._stands(self._redis)
            server.stop() if hangs else server.kill()

        def undo() -> None:
            with server.replica_client() as replica:
                if self._stands(replica) != stood:
                    self._place.journal.count(LOST)
            server.promote()
            for proxy in (targets.proxy, targets.reader_proxy):
                proxy.drop()
            self._do_at(time.monotonic() + ABSENCE, server.bring_back)

        self._do_at(began + fault.lasts * behind, strike)
        return undo, f"of a primary that {'hangs' if hangs else 'dies'} "

    def _stands(self, redis: Redis) -> list[bytes | None]:
        found: Any = redis.hmget(self._place.keys.meta, ["epoch", "generation"])
        return list(found)

    def _flush(self, fault: Fault) -> tuple[Undo, str]:
        self._redis.execute_command("FLUSHALL" if fault.die < 0.5 else "FLUSHDB")
        return _nothing, ""

    def _oom(self, fault: Fault) -> tuple[Undo, str]:
        self._redis.config_set("maxmemory", LITTLE_MEMORY)
        return lambda: _insist(lambda: self._redis.config_set("maxmemory", 0)), ""

    def _evict(self, fault: Fault) -> tuple[Undo, str]:
        """Have the server throw some keys away, whatever they are."""
        used = int(self._redis.info("memory")["used_memory"])
        self._redis.config_set("maxmemory-policy", "allkeys-random")
        self._redis.config_set("maxmemory", used - EVICTED)

        def undo() -> None:
            _insist(lambda: self._redis.config_set("maxmemory", 0))
            _insist(lambda: self._redis.config_set("maxmemory-policy", "noeviction"))

        return undo, ""

    def _meta_loss(self, fault: Fault) -> tuple[Undo, str]:
        self._redis.delete(self._place.keys.meta)
        return _nothing, ""

    def _index_loss(self, fault: Fault) -> tuple[Undo, str]:
        key = self._some_key(fault, b"zset")
        self._redis.delete(key)
        return _nothing, f"of {key!r} "

    def _hash_loss(self, fault: Fault) -> tuple[Undo, str]:
        key = self._some_key(fault, b"hash")
        self._redis.delete(key)
        return _nothing, f"of {key!r} "

    def _wrong_type(self, fault: Fault) -> tuple[Undo, str]:
        key = self._some_key(fault, b"zset")
        self._redis.set(key, "not what it was")
        return _nothing, f"of {key!r} "

    def _some_key(self, fault: Fault, kind: bytes) -> bytes:
        keys = self._place.keys
        spared = {keys.meta, keys.tombstones}
        held = take_snapshot(self._redis, keys)
        spared = {b"meta", b"tombstones"}
        found = sorted(key for key, one in held.kinds.items() if one == kind and key not in spared)
        if not found:
            raise SkippedError("there is none")
        return keys.full(found[int(fault.die * len(found))])

    # The ways

    @staticmethod
    def _strike_proxy(proxy: Proxy, mode: str, fault: Fault) -> tuple[Undo, str]:
        # Half as long at most as an exchange may take, each way.
        proxy.set(Mode(mode), delay=fault.die * 0.2)
        return lambda: proxy.set(Mode.PASS), ""

    # The tree

    def _vanish(self, fault: Fault) -> tuple[Undo, str]:
        self._targets.volume.vanish()
        return self._targets.volume.show, ""

    def _empty(self, fault: Fault) -> tuple[Undo, str]:
        self._targets.volume.hollow()
        return self._targets.volume.show, ""

    def _hide_project(self, fault: Fault) -> tuple[Undo, str]:
        volume = self._targets.volume
        project = PROJECTS[int(fault.die * len(PROJECTS))]
        with volume.lock:
            jobs = sum(names[0] == project for names in self._place.world.names())
            if jobs < LEAST_HIDDEN:
                raise SkippedError(f"{project!r} has {jobs} jobs only")
            volume.hide_project(project)
        return volume.unhide_project, f"of {project!r} "

    def _eio(self, fault: Fault) -> tuple[Undo, str]:
        project = PROJECTS[int(fault.die * len(PROJECTS))]
        flags = [member.flags / EIO for member in self._targets.fleet.members]
        for flag in flags:
            (flag.parent / "fresh").write_bytes(project.encode("utf-8", "surrogateescape"))
            (flag.parent / "fresh").rename(flag)

        def undo() -> None:
            for flag in flags:
                flag.unlink()

        return undo, f"in {project!r} "


def _hit(member: Refresher, kind: str) -> None:
    match kind:
        case "kill":
            member.is_wanted = False
            member.kill()
        case "term":
            member.is_wanted = False
            member.signal(signal.SIGTERM)
        case "stop":
            member.signal(signal.SIGSTOP)
        case "hang":
            (member.flags / HANG).touch()


def _heal(member: Refresher, kind: str) -> None:
    match kind:
        case "kill" | "term":
            member.kill()
            member.is_wanted = True
            member.start()
        case "stop":
            member.signal(signal.SIGCONT)
        case "hang":
            (member.flags / HANG).unlink()


def _insist(act: Callable[[], object], timeout: float = 10.0) -> None:
    """Do it, as soon as the server lets us."""
    ends = time.monotonic() + timeout
    while True:
        try:
            act()
            return
        except (RedisError, OSError):
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
