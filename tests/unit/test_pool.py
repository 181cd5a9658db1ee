"""Both pools over connections of the tests' own: who gets which, how long they are kept, and what closes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from jobcache.transport.attempt import (
    KEPT_FOR,
    TRUSTED_FOR,
    NotInChargeError,
    PoolExhaustedError,
)
from jobcache.transport.breaker import OutageError
from tests.unit.pooled import LONG, PING, LoopPooled, Pooled, ThreadPooled


@pytest.fixture(params=[ThreadPooled, LoopPooled])
def make_pooled(request: pytest.FixtureRequest) -> Iterator[Callable[[int], Pooled]]:
    made: list[Any] = []

    def make(size: int) -> Pooled:
        made.append(request.param(size))
        pooled: Pooled = made[-1]
        return pooled

    yield make
    for pooled in made:
        if isinstance(pooled, LoopPooled):
            pooled.runner.close()


@pytest.fixture
def pooled(make_pooled: Callable[[int], Pooled]) -> Pooled:
    return make_pooled(4)


def test_pool_connection_is_used_again(pooled: Pooled) -> None:
    assert [pooled.exchange() for _ in range(3)] == [0, 0, 0]
    assert len(pooled.made) == 1


def test_pool_connection_used_last_is_used_first(pooled: Pooled) -> None:
    pooled.fill(3)
    assert [pooled.exchange() for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(("unused_for", "is_kept"), [(KEPT_FOR, True), (KEPT_FOR + 0.1, False)])
def test_pool_connection_that_nobody_used_for_long_is_closed_with_all_others(
    pooled: Pooled, unused_for: float, is_kept: bool
) -> None:
    pooled.fill(2)
    pooled.time.now += unused_for
    assert pooled.exchange() == (0 if is_kept else 2)
    assert [one.is_open for one in pooled.made[:2]] == [is_kept, is_kept]


@pytest.mark.parametrize(
    ("error", "unused_for", "answers"),
    [
        (RedisConnectionError("reset"), None, False),
        (NotInChargeError("moved"), None, True),
        (TimeoutError(), None, False),
        (RedisConnectionError("reset"), TRUSTED_FOR, True),
        (NotInChargeError("moved"), TRUSTED_FOR, True),
        (TimeoutError(), TRUSTED_FOR, False),
        (TimeoutError(), TRUSTED_FOR + 0.1, True),
        (AuthenticationError("WRONGPASS"), TRUSTED_FOR + 0.1, False),
        (ValueError("a bug"), TRUSTED_FOR + 0.1, False),
    ],
)
def test_pool_error_that_a_kept_connection_may_be_to_blame_for_is_tried_once_more(
    pooled: Pooled, error: Exception, unused_for: float | None, answers: bool
) -> None:
    """A ``None`` stands for a connection that was made for the command."""
    if unused_for is None:
        make = pooled.pool.make_connection  # type: ignore[attr-defined]

        def make_failing() -> Any:
            connection = make()
            connection.replies.append(error)
            return connection

        pooled.pool.make_connection = make_failing  # type: ignore[attr-defined]
    else:
        pooled.fill(2)
        pooled.time.now += unused_for
        pooled.made[0].replies.append(error)
    if answers:
        assert pooled.exchange() == 0
    else:
        with pytest.raises(type(error)):
            pooled.exchange()
        assert not pooled.made[0].is_open
    others = [one.is_open for one in pooled.made[1:]]
    if unused_for is not None:
        assert others == [not answers], "the others lead where this one did"


def test_pool_second_failure_is_raised(pooled: Pooled) -> None:
    pooled.fill(1)
    pooled.made[0].replies += [RedisConnectionError("first"), RedisConnectionError("second")]
    with pytest.raises(RedisConnectionError, match="second"):
        pooled.exchange()
    assert not pooled.made[0].is_open
    assert pooled.exchange() == 1


def test_pool_connection_that_was_unused_gets_half_of_the_time_first(pooled: Pooled) -> None:
    pooled.fill(1)
    pooled.time.now += TRUSTED_FOR + 1
    pooled.made[0].replies.append(TimeoutError())
    ends = pooled.time() + 4
    pooled.exchange(4)
    assert pooled.made[0].ends[-2:] == [ends - 2, ends]


def test_pool_error_that_the_server_answers_with_keeps_the_connection(pooled: Pooled) -> None:
    pooled.fill(1)
    pooled.made[0].replies.append(ResponseError("ERR"))
    with pytest.raises(ResponseError):
        pooled.exchange()
    assert pooled.made[0].is_open
    assert pooled.exchange() == 0


def test_pool_exchange_that_may_not_begin_sends_nothing_and_frees_its_turn(
    make_pooled: Callable[[int], Pooled],
) -> None:
    pooled = make_pooled(1)

    def refuse() -> None:
        raise OutageError("away")

    for _ in range(2):
        with pytest.raises(OutageError):
            pooled.exchange(begin=refuse)
    assert pooled.made == []
    assert pooled.exchange() == 0


def test_pool_failed_exchange_frees_its_turn(make_pooled: Callable[[int], Pooled]) -> None:
    pooled = make_pooled(1)
    for _ in range(3):
        pooled.exchange()
        pooled.made[-1].replies.append(ValueError("a bug"))
        with pytest.raises(ValueError):
            pooled.exchange()


def test_pool_close_closes_the_idle_and_later_ones_are_new(pooled: Pooled) -> None:
    pooled.fill(2)
    pooled.close()
    assert [one.is_open for one in pooled.made] == [False, False]
    assert pooled.exchange() == 2


class TestThreads:
    def test_pool_full_for_as_long_as_there_is_time_says_so(self) -> None:
        pooled = ThreadPooled(2)
        pool, time = pooled.pool, pooled.time
        for _ in range(2):
            pool.lend(time() + LONG)
        with pytest.raises(PoolExhaustedError, match="all 2 are in use"):
            pooled.exchange(0.02, begin=lambda: pytest.fail("it begins without a connection"))
        assert len(pooled.made) == 2

    def test_pool_full_waits_until_one_comes_free(self) -> None:
        pooled = ThreadPooled(1)
        connection, since = pooled.pool.lend(pooled.time() + LONG)
        answers: list[Any] = []
        waiting = threading.Thread(target=lambda: answers.append(pooled.exchange()))
        waiting.start()
        waiting.join(0.02)
        assert waiting.is_alive()
        pooled.pool.take_back(connection, since)
        waiting.join(LONG)
        assert answers == [0]

    def test_pool_close_closes_what_is_in_use_when_it_comes_back(self) -> None:
        pooled = ThreadPooled(2)
        connection, since = pooled.pool.lend(pooled.time() + LONG)
        connection.send_command(*PING, check_health=False)
        pooled.close()
        assert connection.is_open
        pooled.pool.take_back(connection, since)
        assert not connection.is_open
        assert pooled.exchange() == 1

    def test_pool_interrupted_exchange_closes_its_connection(self) -> None:
        pooled = ThreadPooled(1)
        pooled.exchange()
        pooled.made[0].replies.append(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pooled.exchange()
        assert not pooled.made[0].is_open
        assert pooled.exchange() == 1

    @pytest.mark.parametrize(("received", "is_kept"), [(2, True), (1, False), (0, False)])
    def test_wire_left_with_replies_under_way_closes_its_connection(
        self, received: int, is_kept: bool
    ) -> None:
        pooled = ThreadPooled(1)
        with pooled.pool.wire(LONG) as wire:
            wire.send([PING, PING])
            pooled.made[0].replies.append(ResponseError("an answer as well"))
            for _ in range(received):
                with suppress(ResponseError):
                    wire.receive()
        assert pooled.made[0].is_open is is_kept
        pooled.made[0].replies.clear()
        assert pooled.exchange() == 0, "its turn came free"


class TestTasks:
    def test_pool_full_for_as_long_as_there_is_time_says_so(self) -> None:
        pooled = LoopPooled(1)

        async def run() -> None:
            gate = await self.keep_busy(pooled)
            with pytest.raises(PoolExhaustedError, match="all 1 are in use"):
                await pooled.pool.exchange(PING, pooled.time() + 0.02, lambda: None)
            gate.set()

        with pooled.runner:
            pooled.runner.run(run())

    def test_pool_full_waits_until_one_comes_free(self) -> None:
        pooled = LoopPooled(1)

        async def run() -> Any:
            gate = await self.keep_busy(pooled)
            waiting = asyncio.create_task(
                pooled.pool.exchange(PING, pooled.time() + LONG, lambda: None)
            )
            await asyncio.sleep(0.01)
            assert not waiting.done()
            gate.set()
            return await waiting

        with pooled.runner:
            assert pooled.runner.run(run()) == 0

    def test_pool_cancelled_task_closes_its_connection_and_frees_its_turn(self) -> None:
        pooled = LoopPooled(1)

        async def run() -> Any:
            await self.keep_busy(pooled)
            self.busy.cancel()
            with pytest.raises(asyncio.CancelledError):
                await self.busy
            assert not pooled.made[0].is_open
            return await pooled.pool.exchange(PING, pooled.time() + LONG, lambda: None)

        with pooled.runner:
            assert pooled.runner.run(run()) == 1

    def test_pool_close_closes_what_is_in_use_when_its_exchange_is_over(self) -> None:
        pooled = LoopPooled(2)

        async def run() -> None:
            gate = await self.keep_busy(pooled)
            await pooled.pool.close()
            assert pooled.made[0].is_open
            gate.set()
            assert await self.busy == 0
            assert not pooled.made[0].is_open

        with pooled.runner:
            pooled.runner.run(run())

    async def keep_busy(self, pooled: LoopPooled) -> asyncio.Event:
        """A task that waits for its reply until the event is set."""
        await pooled.pool.exchange(PING, pooled.time() + LONG, lambda: None)
        gate = pooled.made[0].go_on = asyncio.Event()
        self.busy = asyncio.create_task(
            pooled.pool.exchange(PING, pooled.time() + LONG, lambda: None)
        )
        await asyncio.sleep(0)
        return gate
