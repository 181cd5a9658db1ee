"""One call of a client, without I/O: the driver under ``JobCache`` and ``AsyncJobCache``.

A call is a generator. It yields what has to be done, an ``Exchange`` with the server or a ``Sleep``, and is sent the
reply, or thrown the error that came instead. Everything that the two clients have in common stands here: the deadline,
the breaker, scripts that the server does not know yet, what an error means to a caller, and stale-if-error.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias, TypeVar

from redis.exceptions import MovedError, NoPermissionError, NoScriptError, ResponseError

from jobcache.errors import CacheUnavailable, JobCacheError
from jobcache.models import Freshness
from jobcache.queries.answer import Answer, AnswerMetadata, Reader
from jobcache.queries.query import Pause, Query, Run
from jobcache.queries.source import Source
from jobcache.queries.stale_if_error import StaleIfError
from jobcache.schema.scripts import Command
from jobcache.times import Clock
from jobcache.transport.attempt import FAILURES, Attempt, describe
from jobcache.transport.breaker import Breaker

T = TypeVar("T")


class Exchange(NamedTuple):
    """Send one command to the server and receive its reply."""

    command: Command
    ends: float
    """When all of it must be over, on the monotonic clock in seconds; waiting for a connection counts."""
    begin: Callable[[], None]
    """To be called once a connection is free, right before the command is sent. It may raise ``OutageError``."""


class Sleep(NamedTuple):
    """Do nothing for some seconds."""

    seconds: float


Observer: TypeAlias = Callable[[Command, Any], None]
"""Told of an exchange: the command that was sent, and the reply as the server gave it."""

Execution: TypeAlias = Generator[Exchange | Sleep, Any, T]
"""One call under way; it returns what the call returns."""


class Executor:
    """Turns queries into executions. What one process knows of the server is kept here.

    Args:
        source: which cache, and what this process remembers of it.
        deadline: seconds that one step of a call may take.
        breaker: what is known of the server.
        last_good: answers that may stand in for new ones; None for none.
        on_exchange: called after each exchange with the command and its reply.
        clock: seconds on a monotonic clock.
    """

    def __init__(
        self,
        source: Source,
        *,
        deadline: float,
        breaker: Breaker,
        last_good: StaleIfError | None,
        on_exchange: Observer | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._source = source
        self._deadline = deadline
        self._breaker = breaker
        self._last_good = last_good
        self._on_exchange = on_exchange
        self._clock = clock
        self._has_read_only_scripts = True
        """Whether the server has ``EVALSHA_RO``; taken for granted until it says otherwise."""

    def read(
        self, query: Reader[T], args: tuple[Any, ...], last: LastAnswer, drop: Callable[[], None]
    ) -> Execution[T]:
        """A call that reads: a new answer, or the last good one where Redis gives none.

        Args:
            query: what is asked.
            args: what the caller gave.
            last: is told of the answer.
            drop: closes idle connections.
        """
        asked = self._clock()
        try:
            answer = yield from self.run(query(self._source, *args), drop)
        except JobCacheError as error:
            if self._last_good is None:
                raise
            answer = self._last_good.stand_in((query, args), error)
        else:
            if self._last_good is not None:
                self._last_good.keep((query, args), answer, asked)
        last.set(answer.header)
        return answer.value

    def write(
        self, query: Query[Answer[T]], last: LastAnswer, drop: Callable[[], None]
    ) -> Execution[T]:
        """A call that changes the cache: answers from before it do not count any more."""
        answer = yield from self.run(query, drop)
        if self._last_good is not None:
            self._last_good.forget()
        last.set(answer.header)
        return answer.value

    def run(self, query: Query[T], drop: Callable[[], None]) -> Execution[T]:
        """Any call. Each part of it ends within the deadline: see ``Run.renews`` and ``Pause``.

        Raises:
            CacheUnavailable: the server did not answer in time, or refused.
        """
        began = self._clock()
        ends = began + self._deadline
        reply: Any = None
        try:
            while True:
                step = query.send(reply)
                if isinstance(step, Pause):
                    yield Sleep(step.seconds)
                    reply = self._clock() - began
                    ends = began + reply + self._deadline
                    continue
                if step.renews:
                    ends = self._clock() + self._deadline
                if isinstance(step, Run):
                    reply = yield from self._run_script(step, ends, drop)
                else:
                    reply = yield from self._send(step.args, ends, drop)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        except FAILURES as error:
            raise CacheUnavailable(f"{self._source.where}: {_meaning(error)}") from error

    def _run_script(self, step: Run, ends: float, drop: Callable[[], None]) -> Execution[Any]:
        """Run a script by its hash, by its text where the server does not know it yet."""
        rest = (len(step.keys), *step.keys, *step.args)
        name: str | bytes = step.script.sha
        verb = b"EVALSHA"
        while True:
            suffix = b"_RO" if step.script.read_only and self._has_read_only_scripts else b""
            try:
                return (yield from self._send((verb + suffix, name, *rest), ends, drop))
            except NoScriptError:
                if verb == b"EVAL":
                    raise
                verb, name = b"EVAL", step.script.source
            except ResponseError as error:
                if not (suffix and _is_unknown(error)):
                    raise
                self._has_read_only_scripts = False

    def _send(self, command: Command, ends: float, drop: Callable[[], None]) -> Execution[Any]:
        with Attempt(self._breaker, self._deadline / 2, drop, self._clock) as attempt:
            reply = yield Exchange(command, ends, attempt.begin)
        if self._on_exchange is not None:
            self._on_exchange(command, reply)
        return reply


class LastAnswer:
    """What the answer said of itself that a thread or a task got last."""

    def __init__(self) -> None:
        self._last: ContextVar[AnswerMetadata | None] = ContextVar("last_freshness", default=None)

    def set(self, metadata: AnswerMetadata) -> None:
        """Take note of an answer."""
        self._last.set(metadata)

    @property
    def freshness(self) -> Freshness | None:
        """How fresh it was; None before the first."""
        last = self._last.get()
        return None if last is None else last.freshness


def _is_unknown(error: ResponseError) -> bool:
    """Whether the server, or a proxy before it, lacks the command."""
    return re.match("(unknown|unsupported) command", str(error), re.IGNORECASE) is not None


def _meaning(error: BaseException) -> str:
    """What an error says to a caller; of what is refused, what to do about it."""
    said = describe(error)
    if isinstance(error, MovedError):
        return f"{said}: this server is a node of a Cluster, so use redis+cluster://"
    if not re.search(r"\beval(sha)?(_ro)?\b", said, re.IGNORECASE):
        return said
    if isinstance(error, NoPermissionError):
        return f"{said}: jobcache asks by scripts, so grant this user +evalsha_ro and +eval_ro"
    return f"{said}: jobcache asks by scripts, which this server or a proxy before it refuses"
