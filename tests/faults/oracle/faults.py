"""The faults there are, and which of them strike when: a schedule drawn from the seed. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from typing import Literal

from tests.faults.oracle.timing import Timing

Resource = Literal["refreshers", "server", "proxy", "reader proxy", "tree", "memory"]
"""What two faults cannot strike at once. ``memory`` is the two places a job is known from: who takes the files away
must leave the server's data alone, since a refresher that starts from nothing then cannot know better."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    resources: frozenset[Resource]
    shortest: float = 0.0
    longest: float = 0.0
    weight: float = 1.0
    lease_lapses: bool = False
    """Whether the lease may have to run out: its holder cannot give it back, or a command comes late."""
    server_fails: bool = False
    """Whether an exchange with the server may have to time out."""
    restarts: bool = False
    """Whether a refresher has to start again."""

    def aftermath(self, timing: Timing) -> float:
        """Seconds after its end for which it still hinders, by the contract."""
        return (
            timing.takeover * self.lease_lapses
            + timing.recovery * self.server_fails
            + timing.startup * self.restarts
        )


def _kind(*resources: Resource, **rest: float) -> Kind:
    return Kind(frozenset(resources), **rest)  # type: ignore[arg-type]


KINDS: dict[str, Kind] = {
    # refreshers
    "kill": _kind(
        "refreshers", shortest=0.1, longest=3, weight=3, lease_lapses=True, restarts=True
    ),
    "term": _kind("refreshers", shortest=0.1, longest=2, restarts=True),
    "stop": _kind("refreshers", shortest=0.3, longest=4, weight=3, lease_lapses=True),
    # the server
    "redis-stop": _kind(
        "server", shortest=0.2, longest=3, weight=2, lease_lapses=True, server_fails=True
    ),
    "redis-kill": _kind(
        "server", "memory", shortest=0.1, longest=2, weight=2, lease_lapses=True, server_fails=True
    ),
    "failover": _kind(
        *("server", "memory"),
        shortest=0.3,
        longest=2,
        weight=2,
        lease_lapses=True,
        server_fails=True,
    ),
    "flush": _kind("server", "memory", weight=2, server_fails=True),
    "oom": _kind("server", shortest=0.3, longest=2, weight=2, server_fails=True),
    # the way from the refreshers to it
    "delay": _kind("proxy", shortest=0.5, longest=3, server_fails=True),
    "cut": _kind("proxy", shortest=0.2, longest=3, server_fails=True),
    "reset": _kind("proxy", shortest=0.2, longest=2, server_fails=True),
    "late-reset": _kind("proxy", shortest=0.2, longest=2, weight=2, server_fails=True),
    "swallow": _kind(
        "proxy", shortest=0.2, longest=3, weight=2, lease_lapses=True, server_fails=True
    ),
    "hold": _kind("proxy", shortest=0.2, longest=4, weight=2, lease_lapses=True, server_fails=True),
    # the way from readers to it
    "reader-delay": _kind("reader proxy", shortest=0.5, longest=2),
    "reader-cut": _kind("reader proxy", shortest=0.2, longest=1),
    "reader-late-reset": _kind("reader proxy", shortest=0.2, longest=1),
    "reader-swallow": _kind("reader proxy", shortest=0.2, longest=2),
    "reader-hold": _kind("reader proxy", shortest=0.2, longest=2),
    # the tree
    "vanish": _kind("tree", shortest=0.2, longest=3, weight=2),
    "empty": _kind("tree", "memory", shortest=0.2, longest=3, weight=2),
    "hide-project": _kind("tree", "memory", shortest=0.5, longest=3, weight=2),
    "eio": _kind("tree", "memory", shortest=0.2, longest=3),
    "hang": _kind("tree", shortest=0.3, longest=3, weight=2, lease_lapses=True),
    # what the server forgets or gets wrong
    "meta-loss": _kind("server", "memory", server_fails=True),
    "index-loss": _kind("server", "memory", server_fails=True),
    "hash-loss": _kind("server", "memory", server_fails=True),
    "wrong-type": _kind("server", "memory", server_fails=True),
    "evict": _kind("server", "memory", shortest=0.1, longest=1, server_fails=True),
}

UNNOTICED = frozenset({"index-loss", "hash-loss", "wrong-type", "evict"})
"""Faults that no write stumbles over: only an audit finds them, and until it does the view is wrong."""

GAPS: frozenset[str] = frozenset()
"""What the refresher cannot cope with yet: left out unless asked for."""

LOSSES = frozenset({"redis-kill", "failover", "flush", "meta-loss", *UNNOTICED})
"""Faults after which the server no longer holds all that was written."""

READER_FAULTS = frozenset(name for name in KINDS if name.startswith("reader-"))
OUTAGES = frozenset({"redis-stop", "redis-kill", "failover", *READER_FAULTS})
"""Faults that readers see as such."""

HIDES = frozenset({"vanish", "empty"})
"""Faults under which the status directory cannot be believed."""

FAULTS_PER_SECOND = 0.8


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a schedule."""

    kind: str
    at: float
    """Seconds after its round began."""
    lasts: float
    die: float
    """In [0, 1): whatever else is to be chosen."""

    @property
    def ends(self) -> float:
        return self.at + self.lasts

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:.2f} for {self.lasts:.2f} s, die {self.die:.3f}"

    @classmethod
    def parse(cls, text: str) -> Fault:
        """The fault that reads so."""
        found = _FAULT.fullmatch(text.strip())
        if found is None or found[1] not in KINDS:
            raise ValueError(f"no fault: {text!r}")
        return cls(found[1], float(found[2]), float(found[3]), float(found[4]))


_FAULT = re.compile(r"(\S+) at ([\d.]+) for ([\d.]+) s, die ([\d.]+)")
_ROUND = re.compile(r"a round of ([\d.]+) s: ?(.*)")


@dataclass(frozen=True, slots=True)
class Round:
    """Faults in order of time, and how long the producer works."""

    seconds: float
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"a round of {self.seconds:.2f} s: {'; '.join(map(str, self.faults))}"

    @classmethod
    def parse_all(cls, text: str) -> list[Round]:
        """The rounds that a text tells of, as ``__str__`` writes them, between whatever else it holds."""
        return [
            cls(float(seconds), tuple(map(Fault.parse, filter(None, faults.split(";")))))
            for seconds, faults in _ROUND.findall(text)
        ]


def plan_round(rng: Random, kinds: Collection[str], seconds: float, timing: Timing) -> Round:
    """A round in which two faults strike at once where they do not exclude each other."""
    names = [name for name in KINDS if name in kinds]
    weights = [KINDS[name].weight for name in names]
    faults: list[Fault] = []
    for _ in range(max(1, round(seconds * FAULTS_PER_SECOND))):
        (name,) = rng.choices(names, weights)
        kind = KINDS[name]
        fault = Fault(
            name, rng.uniform(0, seconds), rng.uniform(kind.shortest, kind.longest), rng.random()
        )
        if not any(_exclude(fault, other, timing) for other in faults):
            faults.append(fault)
    return Round(seconds, tuple(sorted(faults, key=lambda fault: fault.at)))


def _exclude(one: Fault, other: Fault, timing: Timing) -> bool:
    shared = KINDS[one.kind].resources & KINDS[other.kind].resources
    if not shared:
        return False
    apart = timing.visible + timing.takeover + timing.recovery if "memory" in shared else 0.1
    return one.at <= other.ends + apart and other.at <= one.ends + apart
