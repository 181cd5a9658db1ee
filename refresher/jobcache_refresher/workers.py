"""Filesystem operations side by side: on a network filesystem their latency is the cost, not the CPU.

On a local disk it is the other way round: threads that compute hand Python's lock to each other, and take twice as long
as one. So it is tried now and then whether calls wait, and threads make them for as long as they do.

The threads are daemons, and nobody waits for them: one that hangs in the filesystem must not keep the process. The
standard library's pool joins its threads when the interpreter ends.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

BATCH = 16
"""Items that a thread takes at a time."""
AHEAD = 4
"""Batches for each thread that are under way before their results are asked for."""

TRIED = 16
"""Calls that tell whether the ones after them will wait."""
AFTER_TRIAL = 48
"""Calls that follow a trial before the next, as long as calls do not wait."""
TRIALS_APART = 4096
"""The same while they do; those of a trial are made one by one."""
WAITING = 4.0
"""A call that takes so many times its CPU time waits."""


def forget_frames(error: BaseException) -> None:
    """Empty the frames that an error, and those that led to it, passed through; where it was raised is still told.

    What they held may be large, as the arguments of a step are, and hold each other, so that only a rare look for
    cycles would free it. Frames that still run keep what they hold.
    """
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        pending += (one.__cause__, one.__context__)


def to_keep(error: BaseException) -> Any:
    """An error that the caller has caught, with nothing in it of what its frames held, the caller's among them."""
    forget_frames(error)
    trace = error.__traceback__
    return error.with_traceback(trace and trace.tb_next)


class Pending(Generic[Out]):
    """What a call gave or raised, once it has; to be asked for once, since nothing of it is kept after that."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._value: Out | None = None
        self._error: BaseException | None = None

    def fill(self, call: Callable[[], Out]) -> None:
        """Make the call here and now."""
        try:
            self._value = call()
        except BaseException as error:
            self._error = to_keep(error)
        del call  # a frame that an error passed through leads to this one
        self._done.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether the call has ended, after at most so many seconds."""
        return self._done.wait(seconds)

    def result(self) -> Out:
        """What the call gave; raises what it raised. Waits for it."""
        self._done.wait()
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        value, self._value = self._value, None
        return value  # type: ignore[return-value]


class Workers:
    """A bounded number of daemon threads, started when first needed."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._calls: SimpleQueue[tuple[Pending[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._started = 0
        self.calls = 0
        """Grows with every item that ``map`` has been through, about."""
        self._wait = False
        """Whether the calls that were tried last had to wait."""
        self._untried = 0
        """How many calls are made before the next trial."""

    def submit(self, call: Callable[[], Out]) -> Pending[Out]:
        """Have a thread make a call."""
        if self._started < self._threads:
            self._started += 1
            threading.Thread(
                target=self._work, name=f"{self._name}-{self._started}", daemon=True
            ).start()
        pending: Pending[Out] = Pending()
        self._calls.put((pending, call))
        return pending

    def map(self, call: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
        """``call`` of each item, in order: by several threads if calls turn out to wait, else here and now."""
        start = 0
        while start < len(items):
            if self._threads == 1 or len(items) - start == 1:
                yield from self._here(call, items[start:])
                return
            if self._untried <= 0:
                yield from self._try(call, items[start : start + TRIED])
                start += TRIED
                self._untried = TRIALS_APART if self._wait else AFTER_TRIAL
            some = items[start : start + self._untried]
            start += len(some)
            self._untried -= len(some)
            yield from self._side_by_side(call, some) if self._wait else self._here(call, some)

    def _here(self, call: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
        for item in items:
            yield call(item)
            self.calls += 1

    def _try(self, call: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
        """Make calls here, and see whether most of them wait: some do where others have their turn."""
        waits = 0
        for item in items:
            began, cpu = time.monotonic(), time.thread_time()
            result = call(item)
            spent = time.thread_time() - cpu
            waits += time.monotonic() - began > WAITING * spent
            yield result
            self.calls += 1
        self._wait = 4 * waits > 3 * len(items)

    def _side_by_side(self, call: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
        window = self._threads * BATCH * AHEAD
        for start in range(0, len(items), window):
            some = items[start : start + window]
            results = [
                self.submit(self._each(call, some[at : at + BATCH]))
                for at in range(0, len(some), BATCH)
            ]
            for pending in results:
                yield from pending.result()

    def close(self) -> None:
        """Let the threads go once they have done what they are doing."""
        for _ in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            pending, call = item
            pending.fill(call)
            del item, pending, call  # not kept while nothing is to be done

    def _each(self, call: Callable[[In], Out], items: Sequence[In]) -> Callable[[], list[Out]]:
        def calls() -> list[Out]:
            results = []
            for item in items:
                results.append(call(item))
                self.calls += 1
            return results

        return calls
