"""A plan as a conversation in plain commands: how scripts are run, and what an error means to a caller."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from jobcache.connection.attempt import describe
from jobcache.errors import CacheUnavailable
from jobcache.plans.plan import Ask, Pause, Plan, Run

T = TypeVar("T")


@dataclass(slots=True)
class ServerTraits:
    """What is known of a server."""

    read_only_scripts: bool = True
    """Whether it has ``EVALSHA_RO``; taken for granted until it says otherwise."""


def converse(plan: Plan[T], traits: ServerTraits) -> Generator[Ask | Pause, Any, T]:
    """The plan, with every script turned into commands. Throw in the error that a command met."""
    reply: Any = None
    while True:
        try:
            step = plan.send(reply)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        reply = (yield from _run(step, traits)) if isinstance(step, Run) else (yield step)


def _run(step: Run, traits: ServerTraits) -> Generator[Ask, Any, Any]:
    rest = (len(step.keys), *step.keys, *step.args)
    name: str | bytes = step.script.sha
    verb = b"EVALSHA"
    while True:
        suffix = b"_RO" if step.script.read_only and traits.read_only_scripts else b""
        try:
            return (yield Ask((verb + suffix, name, *rest), step.renews))
        except NoScriptError:
            if verb == b"EVAL":
                raise
            verb, name = b"EVAL", step.script.source
        except ResponseError as error:
            if not suffix or "unknown command" not in str(error).lower():
                raise
            traits.read_only_scripts = False


def unavailable(where: str, error: Exception) -> CacheUnavailable:
    """The error that a caller sees when a conversation failed."""
    return CacheUnavailable(f"{where}: {describe(error)}")
