"""Filesystem operations side by side: on a network filesystem their latency is the cost, not the CPU.

The threads are daemons, and nobody waits for them: one that hangs in the filesystem must not keep the process. The
standard library's pool joins its threads when the interpreter ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

BATCH = 16
"""Items that a thread takes at a time."""
AHEAD = 4
"""Batches for each thread that are under way before their results are asked for."""


class Outcome(Generic[Out]):
    """What a call gave or raised, once it has."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._value: Out | None = None
        self._error: BaseException | None = None

    def fill(self, call: Callable[[], Out]) -> None:
        """Make the call here and now."""
        try:
            self._value = call()
        except BaseException as error:
            self._error = error
        self._done.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the call has ended, after at most so many seconds."""
        return self._done.wait(seconds)

    def result(self) -> Out:
        """What the call gave; raises what it raised. Waits for it."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class Workers:
    """A bounded number of daemon threads, started when first needed."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._calls: SimpleQueue[tuple[Outcome[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._started = 0
        self.calls = 0
        """Grows with every item that ``map`` has been through, about."""

    def submit(self, call: Callable[[], Out]) -> Outcome[Out]:
        """Have a thread make a call."""
        if self._started < self._threads:
            self._started += 1
            threading.Thread(
                target=self._work, name=f"{self._name}-{self._started}", daemon=True
            ).start()
        outcome: Outcome[Out] = Outcome()
        self._calls.put((outcome, call))
        return outcome

    def map(self, call: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
        """``call`` of each item, in order; here and now where there is only one thread or item."""
        if self._threads == 1 or len(items) <= 1:
            for item in items:
                yield call(item)
                self.calls += 1
            return
        window = self._threads * BATCH * AHEAD
        for start in range(0, len(items), window):
            some = items[start : start + window]
            outcomes = [
                self.submit(self._each(call, some[at : at + BATCH]))
                for at in range(0, len(some), BATCH)
            ]
            for outcome in outcomes:
                yield from outcome.result()

    def close(self) -> None:
        """Let the threads go once they have done what they are doing."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            outcome, call = item
            outcome.fill(call)

    def _each(self, call: Callable[[In], Out], items: Sequence[In]) -> Callable[[], list[Out]]:
        def calls() -> list[Out]:
            results = []
            for item in items:
                results.append(call(item))
                self.calls += 1
            return results

        return calls
