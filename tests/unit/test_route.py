"""The search for the node to talk to."""

from __future__ import annotations

from typing import Any

import pytest
from redis.crc import key_slot

from jobcache.connection.endpoint import Endpoint
from jobcache.connection.route import (
    Address,
    AskFailedError,
    ClusterReplicaRoute,
    ClusterRoute,
    Inquiry,
    NoRouteError,
    Route,
    SentinelReplicaRoute,
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


def test_who_answered_last_is_asked_first() -> None:
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


def test_those_who_hang_leave_time_for_the_others() -> None:
    asked, _ = search(SentinelRoute([A, B, C], "jobs"), {C: [b"h", b"1"]})
    assert sum(inquiry.seconds for inquiry in asked) < BUDGET * 1.6
    assert all(inquiry.seconds <= BUDGET / 2 for inquiry in asked)


def test_nobody_knows() -> None:
    with pytest.raises(NoRouteError) as failed:
        search(SentinelRoute([A, B], "jobs"), {B: None})
    assert "a:1: refused" in str(failed.value)
    assert "b:1 knows none" in str(failed.value)


SLOTS = [
    [0, 99, [b"10.0.0.1", 1, b"id"], [b"10.0.0.2", 2, b"id"]],
    [100, 16383, [b"", 3, b"id"], [None, 4, b"id"], [b"?", 5, b"id"]],
]


def test_the_slot_is_learned_from_whoever_does_not_serve_it() -> None:
    route = ClusterRoute([A])
    assert search(route, {A: SLOTS})[1] == A
    assert route.moved("99 10.0.0.1:1", A) == ("10.0.0.1", 1)
    assert search(route, {A: SLOTS})[1] == ("10.0.0.1", 1)
    # Hosts that do not know their own name bear the one by which they were asked.
    assert route.moved("MOVED 100 :3", A) == ("a", 3)
    assert search(route, {A: SLOTS})[1] == ("a", 3)
    assert route.moved("100 fd00::1:6379", A) == ("fd00::1", 6379)


def test_the_slot_is_given() -> None:
    assert search(ClusterRoute([A], 100), {A: SLOTS})[1] == ("a", 3)
    endpoint = Endpoint.find("redis+cluster://a:1,b", namespace="default")
    route = endpoint.route()
    assert isinstance(route, ClusterRoute)
    assert route.slot == key_slot(b"jobcache:{default}:job:p/g/n/r")
    assert route.seeds == [A, ("b", 6379)]


def test_nodes_of_the_cluster_are_learned() -> None:
    route = ClusterRoute([A])
    search(route, {A: SLOTS})
    assert route.seeds == [A, ("10.0.0.1", 1), ("10.0.0.2", 2), ("a", 3), ("a", 4), ("a", 5)]
    other = Address("10.0.0.2", 2)
    _, found = search(route, {other: SLOTS[:1]})
    assert found == other
    assert route.seeds == [other, A, ("10.0.0.1", 1)]


def test_a_slot_that_nobody_serves() -> None:
    route = ClusterRoute([A])
    route.moved("7 10.0.0.1:1", A)
    with pytest.raises(NoRouteError, match="a:1 knows none"):
        search(route, {A: []})


def replica(port: int, flags: str = "slave", link: str = "ok") -> list[bytes]:
    """As a Sentinel describes it, in part."""
    fields = {"ip": "10.0.0.1", "port": port, "flags": flags, "master-link-status": link}
    return [str(part).encode() for pair in fields.items() for part in pair]


def test_a_healthy_replica_is_chosen_at_random() -> None:
    route = SentinelReplicaRoute([A], "jobs")
    reply = [
        *map(replica, (1, 2)),
        replica(3, "s_down,slave,disconnected"),
        replica(4, "o_down,slave"),
        replica(5, "slave,disconnected"),
        replica(6, link="err"),
        replica(7)[:-2],
    ]
    assert {search(route, {A: reply})[1].port for _ in range(50)} == {1, 2}
    assert search(route, {A: reply})[0][0].command == ("SENTINEL", "REPLICAS", "jobs")
    for nobody in (reply[2:], []):
        with pytest.raises(NoRouteError, match="a:1 knows none"):
            search(route, {A: nobody})


def test_a_replica_of_the_slot() -> None:
    route = ClusterReplicaRoute([A], 100)
    assert {search(route, {A: SLOTS})[1] for _ in range(50)} == {("a", 4), ("a", 5)}
    # Who is no replica of the slot names its primary, which is not wanted.
    told: Address | None = route.moved("99 10.0.0.1:1", A)
    assert told is None
    assert search(route, {A: SLOTS})[1] == ("10.0.0.2", 2)
    with pytest.raises(NoRouteError, match="a:1 knows none"):
        search(ClusterReplicaRoute([A], 7), {A: [[0, 16383, [b"", 1, b"id"]]]})


def test_replica_urls_lead_to_replicas() -> None:
    cases: list[tuple[str, type[Route]]] = [
        ("redis+sentinel://a:1/jobs?role=replica", SentinelReplicaRoute),
        ("rediss+sentinel://a:1/jobs?db=1", SentinelReplicaRoute),
        ("redis+cluster://a:1?role=replica&socket_keepalive=true", ClusterReplicaRoute),
        ("redis+cluster://a:1", ClusterReplicaRoute),
    ]
    for url, kind in cases:
        endpoint = Endpoint.find_replicas(url, None, namespace="default")
        assert endpoint is not None
        assert isinstance(endpoint.route(), kind)
        assert "role" not in endpoint.server_options
