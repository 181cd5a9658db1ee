"""Which node to talk to, where it is not fixed: the primary that Sentinel names, or the node of a Cluster slot.

Without I/O: a search is a generator that yields whom to ask, and is sent the reply.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobcache.ids import decode_name


class Address(NamedTuple):
    """Host and port of a node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NoRouteError(Exception):
    """Nobody who was asked could tell the node."""


class AskFailedError(Exception):
    """To be thrown into a search when whom it asked did not answer."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Whom to ask what, and for how many seconds at most."""

    address: Address
    command: tuple[str, ...]
    seconds: float


class Route(ABC):
    """A way to the node that is to be talked to, shared by the connections of a pool."""

    question: tuple[str, ...]
    """What is asked of those who may know the node."""

    def __init__(self, seeds: Sequence[Address]) -> None:
        self._given = tuple(seeds)
        self._learned: tuple[Address, ...] = ()
        self._best = self._given[0]

    @abstractmethod
    def read(self, reply: Any, asked: Address) -> Address | None:
        """The node that a reply names, if any."""

    def search(self, budget: float) -> Generator[Inquiry, Any, Address]:
        """Ask one after another, the one that answered last first, until one names the node.

        Args:
            budget: seconds that all of it may take.

        Raises:
            NoRouteError: none did.
        """
        ends = time.monotonic() + budget
        failures = []
        for seed in self.seeds:
            left = ends - time.monotonic()
            if left <= 0:
                break
            try:
                # Half of what is left, so that one that hangs leaves time for the others.
                address = self.read((yield Inquiry(seed, self.question, left / 2)), seed)
            except AskFailedError as error:
                failures.append(f"{seed}: {error}")
                continue
            if address is not None:
                self._best = seed
                return address
            failures.append(f"{seed} knows none")
        raise NoRouteError(f"no node found to talk to ({'; '.join(failures)})")

    @property
    def seeds(self) -> list[Address]:
        """Those who may know the node, the best first."""
        return list(dict.fromkeys((self._best, *self._given, *self._learned)))

    def learn(self, addresses: Sequence[Address]) -> None:
        """Take in others who may know the node, in place of those learned before."""
        self._learned = tuple(addresses)


class SentinelRoute(Route):
    """To the primary of a service that Sentinels watch."""

    def __init__(self, seeds: Sequence[Address], service: str) -> None:
        super().__init__(seeds)
        self.question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)

    def read(self, reply: Any, asked: Address) -> Address | None:
        """The primary's address, in the reply of a Sentinel."""
        return None if reply is None else _address(*reply, asked=asked)


class ClusterRoute(Route):
    """To the node of a Cluster that serves one slot.

    One pool serves one namespace, and so one slot. Where it is not given, the first node that is not in charge tells
    it, and until then any node will do; but a command without a key tells nothing.
    """

    question = ("CLUSTER", "SLOTS")

    def __init__(self, seeds: Sequence[Address], slot: int | None = None) -> None:
        super().__init__(seeds)
        self.slot = slot

    def read(self, reply: Any, asked: Address) -> Address | None:
        """The address of the slot's primary, in the reply of a node."""
        if self.slot is None:
            self.serving(reply, asked)
            return asked
        return next(iter(self.serving(reply, asked)), None)

    def serving(self, reply: Any, asked: Address) -> list[Address]:
        """The nodes that serve the slot, its primary first; all that are named are learned."""
        serving: list[Address] = []
        known: list[Address] = []
        for first, last, *nodes in reply:
            addresses = [_address(*node[:2], asked=asked) for node in nodes]
            known += addresses
            if self.slot is not None and int(first) <= self.slot <= int(last):
                serving = addresses
        self.learn(known)
        return serving

    def moved(self, message: str, asked: Address) -> Address | None:
        """Take in the slot and the address of a reply ``MOVED <slot> <host>:<port>``; returns where to go, if told."""
        slot, _, address = message.removeprefix("MOVED ").partition(" ")
        self.slot = int(slot)
        host, _, port = address.rpartition(":")
        return _address(host, port, asked=asked)


def _address(host: bytes | str | None, port: bytes | str | int, *, asked: Address) -> Address:
    # A node that does not know its own name means the name by which it was asked.
    name = decode_name(host) if isinstance(host, bytes) else host
    return Address(asked.host if name in (None, "", "?") else str(name), int(port))
