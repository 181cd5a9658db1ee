"""A plan as a conversation with a primary and its replicas. Without I/O."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from jobcache.connection.attempt import ANSWERS, FAILURES
from jobcache.connection.dialogue import ServerTraits, Talk, converse_by, run
from jobcache.connection.guard import Guard, Turn
from jobcache.plans.plan import Ask, AskAll, AtReplica, Plan, Run

T = TypeVar("T")

LONGEST_PAUSE = 30.0
"""Seconds between two tries of replicas that are away: each may cost a query half of its deadline."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """What one process knows of the replicas of a cache."""

    guard: Guard = field(default_factory=Guard)
    traits: ServerTraits = field(default_factory=ServerTraits)


def converse_with_all(
    plan: Plan[T], traits: ServerTraits, replicas: Replicas, *, reads: bool
) -> Talk[T]:
    """As ``converse``; each script is put to a replica first, where that is in order.

    Each by itself, since each tells of what moment its reply is: the guard sees to it that none is of an earlier
    one than the replies before it, whoever gives them. In the same deadline the primary is asked, if the replica
    gives nothing that counts.

    Args:
        plan: what to ask.
        traits: of the primary.
        replicas: what is known of the replicas.
        reads: whether replicas may answer. If not, the guard learns from what the primary says.
    """

    def put(step: Run) -> Generator[Ask | AskAll | AtReplica, Any, Any]:
        if reads and (turn := replicas.guard.enter()) is not None:
            reply = yield from _try_replica(step, turn, replicas)
            if reply is not None:
                return reply
            step = replace(step, renews=False)
        asked = replicas.guard.clock()
        reply = yield from run(step, traits)
        replicas.guard.heard(reply[0], asked)
        return reply

    return converse_by(plan, put)


def _try_replica(step: Run, turn: Turn, replicas: Replicas) -> Generator[AtReplica, Any, Any]:
    """A replica's reply, if it counts."""
    guard = replicas.guard
    try:
        reply = yield from _at_replica(run(step, replicas.traits), turn.anew)
    except ANSWERS:
        guard.refused(turn)
    except FAILURES:
        guard.left(turn)
    except BaseException:
        guard.left(turn)
        raise
    else:
        if guard.admits(turn, reply[0]):
            return reply
    return None


def _at_replica(
    talk: Generator[Ask | AskAll, Any, Any], anew: bool
) -> Generator[AtReplica, Any, Any]:
    """The same conversation with a replica."""
    try:
        step = next(talk)
        while True:
            try:
                reply = yield AtReplica(step, anew)
            except FAILURES as error:
                step = talk.throw(error)
            else:
                step = talk.send(reply)
            anew = False
    except StopIteration as stop:
        return stop.value
