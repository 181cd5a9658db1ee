"""Doing what a generator asks for, step by step: the loops around pure logic, for threads and for asyncio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")

Failures = tuple[type[BaseException], ...]


def drive(steps: Generator[S, Any, T], do: Callable[[S], Any], failures: Failures) -> T:
    """Do each step, until the generator returns.

    Args:
        steps: yields what has to be done; is sent what came of it.
        do: does one step.
        failures: errors of a step that are thrown into the generator; any other ends it.
    """
    try:
        step = next(steps)
        while True:
            try:
                reply = do(step)
            except failures as error:
                step = steps.throw(error)
            else:
                step = steps.send(reply)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    finally:
        steps.close()  # at once, also when this call is cancelled


async def drive_async(
    steps: Generator[S, Any, T], do: Callable[[S], Awaitable[Any]], failures: Failures
) -> T:
    """The same for asyncio."""
    try:
        step = next(steps)
        while True:
            try:
                reply = await do(step)
            except failures as error:
                step = steps.throw(error)
            else:
                step = steps.send(reply)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    finally:
        steps.close()
