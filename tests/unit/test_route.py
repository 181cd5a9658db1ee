"""The search for the node to connect to."""

from __future__ import annotations

from typing import Any

import pytest
from redis.crc import key_slot

from jobcache.transport.endpoint import Endpoint
from jobcache.transport.route import (
    Address,
    AskFailedError,
    ClusterRoute,
    Inquiry,
    NoRouteError,
    Route,
    SentinelRoute,
)

A, B, C = (Address(host, 1) for host in "abc")
BUDGET = 8.0


def search(route: Route, replies: dict[Address, Any]) -> tuple[list[Inquiry], Address]:
    """Who is asked, and what is found, when those without a reply fail."""
    asked = []
    found = route.search(BUDGET)
    try:
        inquiry = next(found)
        while True:
            asked.append(inquiry)
            if inquiry.address in replies:
                inquiry = found.send(replies[inquiry.address])
            else:
                inquiry = found.throw(AskFailedError("refused"))
    except StopIteration as stop:
        return asked, stop.value


def test_route_node_that_answered_last_is_asked_first() -> None:
    route = SentinelRoute([A, B, C], "jobs")
    asked, found = search(route, {C: [b"10.0.0.1", b"6379"]})
    assert found == ("10.0.0.1", 6379)
    assert [inquiry.address for inquiry in asked] == [A, B, C]
    assert {inquiry.command[-1] for inquiry in asked} == {"jobs"}
    asked, found = search(route, {C: [b"::1", b"7"]})
    assert [inquiry.address for inquiry in asked] == [C]
    assert str(found) == "[::1]:7"
    asked, _ = search(route, {A: [b"h", b"1"]})
    assert [inquiry.address for inquiry in asked] == [C, A]


def test_route_node_that_hangs_leaves_time_for_the_others() -> None:
    asked, _ = search(SentinelRoute([A, B, C], "jobs"), {C: [b"h", b"1"]})
    assert sum(inquiry.seconds for inquiry in asked) < BUDGET * 1.6
    assert all(inquiry.seconds <= BUDGET / 2 for inquiry in asked)


def test_route_that_nobody_knows_is_an_error_that_names_all() -> None:
    with pytest.raises(NoRouteError) as failed:
        search(SentinelRoute([A, B], "jobs"), {B: None})
    assert "a:1: refused" in str(failed.value)
    assert "b:1 knows none" in str(failed.value)


SLOTS = [
    [0, 99, [b"10.0.0.1", 1, b"id"], [b"10.0.0.2", 2, b"id"]],
    [100, 16383, [b"", 3, b"id"], [None, 4, b"id"], [b"?", 5, b"id"]],
]


def test_route_slot_is_learned_from_a_node_that_does_not_serve_it() -> None:
    route = ClusterRoute([A])
    assert search(route, {A: SLOTS})[1] == A
    assert route.moved("99 10.0.0.1:1", A) == ("10.0.0.1", 1)
    assert search(route, {A: SLOTS})[1] == ("10.0.0.1", 1)
    # Hosts that do not know their own name bear the one by which they were asked.
    assert route.moved("MOVED 100 :3", A) == ("a", 3)
    assert search(route, {A: SLOTS})[1] == ("a", 3)
    assert route.moved("100 fd00::1:6379", A) == ("fd00::1", 6379)


def test_route_slot_is_that_of_the_namespace() -> None:
    assert search(ClusterRoute([A], 100), {A: SLOTS})[1] == ("a", 3)
    endpoint = Endpoint.find("redis+cluster://a:1,b", namespace="default")
    route = endpoint.route()
    assert isinstance(route, ClusterRoute)
    assert route.slot == key_slot(b"jobcache:{default}:job:p/g/n/r")
    assert route.seeds == [A, ("b", 6379)]


def test_route_nodes_of_the_cluster_are_learned() -> None:
    route = ClusterRoute([A])
    search(route, {A: SLOTS})
    assert route.seeds == [A, ("10.0.0.1", 1), ("10.0.0.2", 2), ("a", 3), ("a", 4), ("a", 5)]
    other = Address("10.0.0.2", 2)
    _, found = search(route, {other: SLOTS[:1]})
    assert found == other
    assert route.seeds == [other, A, ("10.0.0.1", 1)]


def test_route_slot_that_nobody_serves_is_an_error() -> None:
    route = ClusterRoute([A])
    route.moved("7 10.0.0.1:1", A)
    with pytest.raises(NoRouteError, match="a:1 knows none"):
        search(route, {A: []})
