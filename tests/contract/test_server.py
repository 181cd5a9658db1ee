"""A stream of steps: replies in order, each asked for before the one before it was taken in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing

import pytest
from redis import Redis

from jobcache.schema.scripts import Script
from jobcache.transport.endpoint import Endpoint
from jobcache_refresher.publish import server as publishing
from jobcache_refresher.publish.server import EpochError, Server
from tests.servers import RunningServer

SOURCE = "redis.call('GET', KEYS[1]) return ARGV[1]"
ECHO = Script("echo", SOURCE, hashlib.sha1(SOURCE.encode()).hexdigest(), read_only=True)
KEYS = (b"jobcache:{stream}:meta",)
STEPS = [b"%d" % number for number in range(7)]


@pytest.fixture
def server(valkey: RunningServer) -> Iterator[Server]:
    with closing(Server(Endpoint.find(valkey.url))) as server:
        yield server


@pytest.fixture
def redis(valkey: RunningServer) -> Iterator[Redis]:
    with valkey.client() as client:
        client.script_flush()
        yield client
        client.delete(*KEYS)


def test_stream_replies_come_in_order_whether_or_not_the_script_is_known(
    server: Server, redis: Redis
) -> None:
    for _ in range(2):
        assert list(server.stream(ECHO, KEYS, ([step] for step in STEPS))) == STEPS


def test_stream_has_the_server_know_the_script_before_several_steps_are_under_way(
    server: Server, redis: Redis
) -> None:
    """Some servers, fakeredis among them, close a connection after an error."""
    redis.config_resetstat()
    assert list(server.stream(ECHO, KEYS, ([step] for step in STEPS))) == STEPS
    assert redis.info("errorstats")["errorstat_NOSCRIPT"] == {"count": 1}


def test_stream_of_a_script_that_is_forgotten_meanwhile_goes_on(
    server: Server, redis: Redis
) -> None:
    told = []
    for reply in server.stream(ECHO, KEYS, ([step] for step in STEPS)):
        told.append(reply)
        redis.script_flush()
    assert told == STEPS


def test_stream_has_the_next_steps_under_way_meanwhile(server: Server, redis: Redis) -> None:
    asked = []

    def steps() -> Iterator[list[bytes]]:
        for step in STEPS:
            asked.append(step)
            yield [step]

    with closing(server.stream(ECHO, KEYS, steps())) as replies:
        assert next(replies) == STEPS[0]
        assert asked == STEPS[: 1 + publishing.STEPS_AHEAD]


def test_stream_left_in_the_middle_leaves_no_reply_to_others(server: Server, redis: Redis) -> None:
    for _ in range(10):  # more often than there are connections
        with closing(server.stream(ECHO, KEYS, ([step] for step in STEPS))) as replies:
            assert next(replies) == STEPS[0]
        for _ in range(2 * publishing.STEPS_AHEAD):
            assert server.ask(b"PING", b"mine") == b"mine"


def test_stream_on_a_key_of_a_wrong_type_is_an_epoch_error(server: Server, redis: Redis) -> None:
    redis.hset(KEYS[0].decode(), "field", "value")
    with pytest.raises(EpochError, match="echo: a key is of a wrong type"):
        list(server.stream(ECHO, KEYS, ([step] for step in STEPS)))
    assert server.ask(b"PING", b"mine") == b"mine"
