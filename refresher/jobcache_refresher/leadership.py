"""The phases of a refresher, and how it gets from one to another. The only module that knows phases."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """What a refresher is doing."""

    STANDBY = "standby"
    """Another refresher leads, or nobody does: it follows what is published and tries to win the lease."""
    ADOPTING = "adopting"
    """It has won the lease and reads what the namespace holds."""
    REBUILDING = "rebuilding"
    """The namespace holds nothing that can be trusted: it fills a new epoch from memory and from the tree."""
    LEADING = "leading"
    """What the namespace holds is whole: it scans, and publishes what changed."""
    STALLED = "stalled"
    """The filesystem does not answer: it has given the lease back and waits for the scan that hangs."""


class Event(Enum):
    """What can happen to a refresher."""

    LEASE_WON = "the lease was won"
    EPOCH_WHOLE = "the epoch in Redis is whole"
    EPOCH_LOST = "the epoch in Redis is lost"
    REBUILT = "the new epoch is complete"
    FENCED = "the lease was lost"
    HUNG = "the filesystem hangs"
    ANSWERED = "the filesystem answers again"


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.STANDBY, Event.LEASE_WON): Phase.ADOPTING,
    (Phase.ADOPTING, Event.EPOCH_WHOLE): Phase.LEADING,
    (Phase.ADOPTING, Event.EPOCH_LOST): Phase.REBUILDING,
    (Phase.REBUILDING, Event.EPOCH_LOST): Phase.REBUILDING,
    (Phase.REBUILDING, Event.REBUILT): Phase.LEADING,
    (Phase.LEADING, Event.EPOCH_LOST): Phase.REBUILDING,
    **{(phase, Event.FENCED): Phase.STANDBY for phase in Phase if phase is not Phase.STALLED},
    **{(phase, Event.HUNG): Phase.STALLED for phase in Phase if phase is not Phase.STALLED},
    (Phase.STALLED, Event.ANSWERED): Phase.STANDBY,
}
"""The phase that an event leads to. An event that is not listed for a phase must not happen in it."""


class TransitionError(Exception):
    """An event happened in a phase in which it must not: a bug."""


class Leadership:
    """Which phase a refresher is in."""

    def __init__(self) -> None:
        self.phase = Phase.STANDBY

    def on(self, event: Event) -> Phase:
        """Take note of an event; returns the phase from now on.

        Raises:
            TransitionError: the event must not happen in this phase.
        """
        after = TRANSITIONS.get((self.phase, event))
        if after is None:
            raise TransitionError(f"{event.name} in phase {self.phase.name}")
        self.phase = after
        return after

    @property
    def holds_lease(self) -> bool:
        """Whether this phase writes to Redis, and so needs the lease."""
        return self.phase in (Phase.ADOPTING, Phase.REBUILDING, Phase.LEADING)
