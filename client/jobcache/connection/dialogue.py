"""A plan as a conversation in plain commands: how scripts are run, and what an error means to a caller."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from jobcache.connection.attempt import describe
from jobcache.errors import CacheUnavailable
from jobcache.plans.plainreads import can_read_plainly, read_plainly
from jobcache.plans.plan import Ask, AskAll, AtReplica, Pause, Plan, Run

T = TypeVar("T")

Talk: TypeAlias = Generator[Ask | AskAll | AtReplica | Pause, Any, T]
"""A conversation in plain commands."""


@dataclass(slots=True)
class ServerTraits:
    """What is known of a server."""

    read_only_scripts: bool = True
    """Whether it has ``EVALSHA_RO``; taken for granted until it says otherwise."""
    scripts: bool = True
    """Whether it lets this user run scripts at all; the same."""


def converse(plan: Plan[T], traits: ServerTraits) -> Talk[T]:
    """The plan, with every script turned into commands. Throw in the error that one of them met."""
    return converse_by(plan, lambda step: run(step, traits))


def converse_by(plan: Plan[T], put: Callable[[Run], Generator[Any, Any, Any]]) -> Talk[T]:
    """The plan, with every script put to a server in one's own way; ``put`` returns what it replies."""
    reply: Any = None
    while True:
        try:
            step = plan.send(reply)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        reply = (yield from put(step)) if isinstance(step, Run) else (yield step)


def run(step: Run, traits: ServerTraits) -> Generator[Ask | AskAll, Any, Any]:
    """A script, turned into commands; returns what it replies."""
    if not traits.scripts and can_read_plainly(step.script):
        return (yield from read_plainly(step))
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
            if suffix and _is_unknown(error):
                traits.read_only_scripts = False
            elif step.script.read_only and _refuses_scripts(error):
                traits.scripts = False
                if not can_read_plainly(step.script):
                    raise
                return (yield from read_plainly(step))
            else:
                raise


def _is_unknown(error: ResponseError) -> bool:
    """Whether the server, or a proxy before it, lacks the command."""
    return re.match("(unknown|unsupported) command", str(error), re.IGNORECASE) is not None


def _refuses_scripts(error: ResponseError) -> bool:
    """Whether scripts are lacking or denied. What a script may not do is another matter, and names no ``EVAL``."""
    named = re.search(r"\beval(sha)?(_ro)?\b", str(error), re.IGNORECASE)
    return named is not None or _is_unknown(error)


def unavailable(where: str, error: Exception) -> CacheUnavailable:
    """The error that a caller sees when a conversation failed."""
    return CacheUnavailable(f"{where}: {describe(error)}")
