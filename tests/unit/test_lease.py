"""The lease as its holder sees it: until when it counts, and whether somebody else may have led since."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache.schema.keys import Keys
from jobcache_refresher.publish.lease import Lease
from tests.unit.fakes import FakeServer, SetClock, in_turn

TTL = 10.0
VALUE = b"me 7"


class Held:
    """A lease, and the server that grants it."""

    def __init__(self, **replies: Any) -> None:
        self.time = SetClock()
        self.server = FakeServer(**{"acquire": [1, VALUE], "renew": 1, "release": 1, **replies})
        self.lease = Lease(self.server.server, Keys("n"), "me", TTL, self.time.clock)


def test_lease_acquired_shows_the_servers_token_until_it_ends() -> None:
    held = Held()
    assert held.lease.value == b""
    assert held.lease.acquire()
    assert held.server.calls[0].args == ("me", 10_000)
    held.time.now += TTL - 0.1
    assert held.lease.value == VALUE
    held.time.now += 0.1
    assert held.lease.value == b""


def test_lease_that_another_one_holds_is_not_acquired() -> None:
    held = Held(acquire=[0, b"other 6"])
    assert not held.lease.acquire()
    assert held.lease.value == b""
    assert held.lease.has_lapsed


@pytest.mark.parametrize("call", ["acquire", "renew"])
def test_lease_counts_from_before_the_server_was_asked(call: str) -> None:
    held = Held()
    if call == "renew":
        held.lease.acquire()

    def take_long(_: Any) -> Any:
        held.time.now += 4
        return [1, VALUE] if call == "acquire" else 1

    held.server.replies[call] = take_long
    assert getattr(held.lease, call)()
    held.time.now += TTL - 4 - 0.1
    assert held.lease.value == VALUE
    held.time.now += 0.1
    assert held.lease.value == b""


def test_lease_renewed_lasts_anew_with_the_same_token() -> None:
    held = Held()
    held.lease.acquire()
    held.time.now += 6
    assert held.lease.renew()
    assert held.server.called("renew")[0].args == (VALUE, 10_000)
    held.time.now += 6
    assert held.lease.value == VALUE


def test_lease_that_ended_is_not_renewed_and_the_server_is_not_asked() -> None:
    held = Held()
    held.lease.acquire()
    held.time.now += TTL
    assert not held.lease.renew()
    assert held.server.called("renew") == []


@pytest.mark.parametrize(
    ("reply", "has_lapsed"),
    [(0, True), (-1, False)],  # lost alone; lost with all of the namespace
)
def test_lease_lost_alone_may_be_anothers_and_lost_with_the_cache_is_nobodys(
    reply: int, has_lapsed: bool
) -> None:
    held = Held(renew=reply)
    held.lease.acquire()
    assert not held.lease.renew()
    assert held.lease.value == b""
    assert held.lease.has_lapsed is has_lapsed
    held.time.now += TTL
    assert held.lease.has_lapsed


def test_lease_release_gives_back_what_is_held_once() -> None:
    held = Held()
    held.lease.acquire()
    held.lease.release()
    held.lease.release()
    assert [call.args for call in held.server.called("release")] == [(VALUE,)]
    assert held.lease.value == b""
    assert held.lease.has_lapsed


@pytest.mark.parametrize(
    ("passed", "words"),
    [
        (TTL + 2.5, "the lease ended 2.5 s ago without being renewed"),
        (1.0, "another refresher took the lease, or Redis lost it"),
    ],
)
def test_lease_loss_tells_one_that_ended_from_one_that_was_taken(passed: float, words: str) -> None:
    held = Held()
    held.lease.acquire()
    held.time.now += passed
    assert held.lease.loss.startswith(words)


def test_lease_loss_of_one_that_the_server_refused_is_that_it_was_taken() -> None:
    held = Held(renew=in_turn(0))
    held.lease.acquire()
    held.lease.renew()
    assert held.lease.loss.startswith("another refresher took the lease")
