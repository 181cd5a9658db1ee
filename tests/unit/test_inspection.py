"""What an inspection makes of the server's replies, and which positions, keys and members it sees."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from jobcache.schema.index import Entry
from jobcache.schema.keys import Keys
from jobcache_refresher.audit.inspection import (
    KEYS_PER_STEP,
    ExpectedJob,
    Inspector,
    ObservedJob,
)
from jobcache_refresher.publish.store import Store
from tests.unit.fakes import FakeServer, in_turn

PREFIX = b"jobcache:{n}:"
JOB = ExpectedJob(
    b"p/g/n/r", b"5", 3, [Entry(b"jobs", b"p/g/n/r", 1.5), Entry(b"running", b"x", 2.0)]
)


class NotedStore:
    """Notes the fenced scripts that are run."""

    def __init__(self, reply: Any = None, fields: dict[str, bytes] | None = None) -> None:
        self.reply = reply
        self.fields = fields or {}
        self.calls: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = []

    def run(self, script: str, keys: Any, args: Any) -> Any:
        self.calls.append((script, tuple(keys), tuple(args)))
        return self.reply

    write = run

    def field(self, name: str) -> bytes | None:
        return self.fields.get(name)


def inspector(server: FakeServer | None = None, store: NotedStore | None = None) -> Inspector:
    return Inspector(
        (server or FakeServer()).server,
        Keys("n"),
        cast(Store, cast(Any, store or NotedStore())),
    )


def seen(**changes: Any) -> list[Any]:
    reply = {
        "header": [b"1000.5", b"300", b"16"],
        "wrong": [],
        "deleted": [],
        "ending": 0,
        "sizes": [],
        "observed": [],
        **changes,
    }
    return list(reply.values())


@pytest.mark.parametrize(
    ("observed", "changed", "meets"),
    [
        ([[b"5"], 3, [b"1.5", b"2"]], {}, True),
        ([[b"6"], 3, [b"1.5", b"2"]], {"revision": b"6"}, False),
        ([[None], 0, [b"1.5", b"2"]], {"revision": None, "fields": 0}, False),
        ([[b"5"], 2, [b"1.5", b"2"]], {"fields": 2}, False),
        ([[b"5"], 3, [b"1.6", b"2"]], {"scores": (1.6, 2.0)}, False),
        ([[b"5"], 3, [None, b"2"]], {"scores": (None, 2.0)}, False),
        (
            [[b"5"], 3, [b"!", b"2"]],
            {"scores": (None, 2.0), "wrong_indexes": frozenset([b"jobs"])},
            False,
        ),
        (
            [b"!", b"!", [b"1.5", b"2"]],
            {"revision": None, "fields": 0, "hash_is_wrong": True},
            False,
        ),
    ],
)
def test_inspect_job_is_told_as_it_stands(
    observed: Any, changed: dict[str, Any], meets: bool
) -> None:
    found = inspector(store=NotedStore(seen(observed=[observed]))).inspect(jobs=[JOB])
    right: dict[str, Any] = {
        "revision": b"5",
        "fields": 3,
        "hash_is_wrong": False,
        "scores": (1.5, 2.0),
        "wrong_indexes": frozenset(),
    }
    assert found.observed == (ObservedJob(**{**right, **changed}),)
    assert found.observed[0].meets(JOB) is meets


def test_inspect_asks_for_indexes_and_for_each_entry_of_a_job() -> None:
    store = NotedStore(seen(sizes=[3, b"!"], observed=[[[b"5"], 3, [b"1.5", b"2"]]]))
    found = inspector(store=store).inspect([b"jobs", b"running"], [JOB])
    assert found.sizes == (3, None)
    assert store.calls[0][2] == (
        *(PREFIX, 2, b"jobs", b"running", 1),
        *(b"job:p/g/n/r", 2, b"jobs", b"p/g/n/r", b"running", b"x"),
    )


@pytest.mark.parametrize(
    ("header", "fresh_since", "chips"),
    [
        ([b"1000.5", b"300", b"16"], 700.5, 16),
        ([None, b"300", b"16"], None, 16),
        ([b"1000.5", None, b"16"], None, 16),
        ([b"x", b"300", None], None, 0),
        ([b"1000.5", b"300", b"many"], 700.5, None),
    ],
)
def test_inspect_numbers_that_are_none_are_told_as_none(
    header: Any, fresh_since: float | None, chips: int | None
) -> None:
    found = inspector(store=NotedStore(seen(header=header))).inspect()
    assert (found.fresh_since, found.active_chips) == (fresh_since, chips)


def test_inspect_tells_other_keys_without_their_prefix() -> None:
    reply = seen(wrong=[PREFIX + b"changes"], deleted=[b"p/g/n/1"], ending=2)
    found = inspector(store=NotedStore(reply)).inspect()
    assert (found.wrong_streams, found.deleted, found.ending) == (
        (b"changes",),
        frozenset([b"p/g/n/1"]),
        2,
    )


@pytest.mark.parametrize(
    ("positions", "known"),
    [
        ([], b""),
        ([b""], b""),
        ([b"x"], b""),
        ([b"9-0"], b"9-0"),
        ([b"9-0", b"10-0", b""], b"10-0"),
        ([b"10-0", b"9-0"], b"10-0"),
        ([b"20-0"], b"20-0"),
        ([b"20-1"], b""),  # beyond the end: of a stream that is gone
        ([b"20-1", b"9-0"], b"9-0"),
    ],
)
def test_known_request_is_the_last_position_that_the_stream_reaches(
    positions: list[bytes], known: bytes
) -> None:
    server = FakeServer(XREVRANGE=[[b"20-0", []]])
    assert inspector(server).known_request(*positions) == known
    if len(positions) == 1:
        store = NotedStore(fields={"request_position": positions[0]})
        assert inspector(server, store).request_position() == known


@pytest.mark.parametrize(
    ("reply", "last"),
    [([], b"0-0"), ([[b"5-1", []]], b"5-1"), (ResponseError("WRONGTYPE"), b"0-0")],
)
def test_last_request_of_no_stream_is_before_all_others(reply: Any, last: bytes) -> None:
    assert inspector(FakeServer(XREVRANGE=reply)).last_request() == last


@pytest.mark.parametrize(
    ("count", "steps"), [(0, 1), (KEYS_PER_STEP - 1, 1), (KEYS_PER_STEP, 2), (KEYS_PER_STEP + 1, 2)]
)
def test_members_are_read_step_by_step_to_the_end(count: int, steps: int) -> None:
    everything = [(b"%d" % number, float(number)) for number in range(count)]

    def some(call: Any) -> list[bytes]:
        first, last = call.args[1], call.args[2]
        return [
            part
            for member, score in everything[first : last + 1]
            for part in (member, b"%f" % score)
        ]

    server = FakeServer(ZRANGE=some)
    assert list(inspector(server).members(b"jobs")) == everything
    assert len(server.calls) == steps


def test_scan_tells_keys_without_their_prefix_and_nothing_where_it_is_denied() -> None:
    server = FakeServer(
        SCAN=in_turn([b"7", [PREFIX + b"jobs", PREFIX + b"x"]], NoPermissionError("NOPERM"))
    )
    assert inspector(server).scan(b"0") == (b"7", [b"jobs", b"x"])
    assert inspector(server).scan(b"7") == (b"0", [])


@pytest.mark.parametrize(
    ("reply", "info"),
    [
        (b"# Memory\r\nused:5\r\na:b:c\r\n\r\n", {"used": "5", "a": "b:c"}),
        (NoPermissionError("NOPERM"), None),
        (ResponseError("unknown command"), None),
    ],
)
def test_info_is_none_where_it_is_denied(reply: Any, info: dict[str, str] | None) -> None:
    assert inspector(FakeServer(INFO=reply)).info() == info


@pytest.mark.parametrize(
    ("reply", "policy"),
    [
        ([b"maxmemory-policy", b"noeviction"], "noeviction"),
        ([], None),
        (ResponseError("unknown command"), None),
    ],
)
def test_configured_policy_is_none_where_it_is_not_told(reply: Any, policy: str | None) -> None:
    assert inspector(FakeServer(CONFIG=reply)).configured_policy() == policy


def test_prune_and_drop_go_in_steps() -> None:
    store = NotedStore()
    entries = [(b"jobs", b"%d" % number) for number in range(KEYS_PER_STEP + 1)]
    inspector(store=store).prune(entries)
    inspector(store=store).drop([b"x%d" % number for number in range(KEYS_PER_STEP + 1)])
    assert [(name, len(args)) for name, _, args in store.calls] == [
        ("prune", 2 + 2 * KEYS_PER_STEP),
        ("prune", 4),
        ("clear", KEYS_PER_STEP),
        ("clear", 1),
    ]
    assert store.calls[1][2] == (PREFIX, 1, b"jobs", b"%d" % KEYS_PER_STEP)
    assert store.calls[3][2] == (PREFIX + b"x%d" % KEYS_PER_STEP,)
