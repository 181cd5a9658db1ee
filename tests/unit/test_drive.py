"""The loops that do what a generator asks for, for threads and for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest

from jobcache.transport.drive import drive, drive_async

Steps = Generator[str, Any, str]
Drive = Callable[[Steps, Callable[[str], Any]], str]


def drive_in_a_loop(steps: Steps, do: Callable[[str], Any]) -> str:
    async def do_async(step: str) -> Any:
        return do(step)

    return asyncio.run(drive_async(steps, do_async, (ValueError,)))


def drive_in_a_thread(steps: Steps, do: Callable[[str], Any]) -> str:
    return drive(steps, do, (ValueError,))


@pytest.fixture(params=[drive_in_a_thread, drive_in_a_loop])
def driven(request: pytest.FixtureRequest) -> Drive:
    drive: Drive = request.param
    return drive


class Recorded:
    """Steps that note what they are sent, and that they are over."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.is_closed = False

    def steps(self) -> Steps:
        try:
            for step in ("a", "b"):
                try:
                    self.heard.append((yield step))
                except ValueError as error:
                    self.heard.append(str(error))
            return "answer"
        finally:
            self.is_closed = True


def test_drive_sends_each_step_what_came_of_it(driven: Drive) -> None:
    recorded = Recorded()
    assert driven(recorded.steps(), str.upper) == "answer"
    assert recorded.heard == ["A", "B"]


def test_drive_expected_error_is_thrown_into_the_generator(driven: Drive) -> None:
    def do(step: str) -> str:
        if step == "a":
            raise ValueError("no a")
        return step

    recorded = Recorded()
    assert driven(recorded.steps(), do) == "answer"
    assert recorded.heard == ["no a", "b"]


def test_drive_any_other_error_ends_the_generator_at_once(driven: Drive) -> None:
    def do(step: str) -> str:
        raise KeyError(step)

    recorded = Recorded()
    steps = recorded.steps()  # held here, so that nothing else closes it
    with pytest.raises(KeyError):
        driven(steps, do)
    assert recorded.is_closed
    assert recorded.heard == []


def test_drive_async_cancellation_ends_the_generator_at_once() -> None:
    recorded = Recorded()
    steps = recorded.steps()

    async def hang(step: str) -> None:
        await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.create_task(drive_async(steps, hang, (ValueError,)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert recorded.is_closed
