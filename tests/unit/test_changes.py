"""The change feed as a reader follows it: what it is told, and when it must list everything again."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import CacheNotReady, ChangeKind
from jobcache.queries.changes import BATCH, POLL, Feed
from jobcache.queries.query import Pause
from tests.unit.replies import NOW, header, make_source, tell

EPOCH = "1.5"
RESYNC = ChangeKind.RESYNC


def entry(position: bytes, change: bytes = b"added", path: bytes = b"p/g/n/1") -> Any:
    return [position, [b"change", change, b"id", path]]


def reply(*entries: Any, last: bytes = b"9-0", oldest: bytes = b"1-0", **fields: Any) -> list[Any]:
    return [header(**fields), last, oldest, list(entries)]


def follow(since: str | None, *replies: Any, wait: float | None = 0.0) -> Any:
    return tell(Feed(make_source(), since, wait).next_batch(), *replies)


def test_feed_without_a_position_begins_at_the_present_end() -> None:
    feed = Feed(make_source(), None, 0.0)
    first = tell(feed.next_batch(), reply(last=b"9-0"))
    assert first.value is None
    assert first.args[0] == (b"", BATCH)
    (change,) = tell(feed.next_batch(), reply(entry(b"9-1"), last=b"9-1")).value
    assert (change.kind, change.id, change.position) == (
        ChangeKind.ADDED,
        ("p", "g", "n", "1"),
        f"{EPOCH}/9-1",
    )


def test_feed_goes_on_behind_each_position() -> None:
    feed = Feed(make_source(), f"{EPOCH}/4-2", 0.0)
    first = tell(feed.next_batch(), reply(entry(b"5-0"), entry(b"6-0", b"deleted")))
    assert first.args[0] == (b"4-2", BATCH)
    assert [change.kind for change in first.value] == [ChangeKind.ADDED, ChangeKind.DELETED]
    assert tell(feed.next_batch(), reply()).args[0] == (b"6-0", BATCH)


@pytest.mark.parametrize(
    ("since", "stream", "resyncs"),
    [
        ("1.5/4-2", {}, False),
        ("1.5/1-0", {"oldest": b"1-0"}, False),
        ("1.5/1-0", {"oldest": b"1-1"}, True),  # entries after it were trimmed
        ("1.4/4-2", {}, True),  # of another epoch
        ("1.5/9-1", {"last": b"9-0"}, False),  # of a server that this one follows
        (f"1.5/{int(NOW * 1000) + 4000}-0", {}, False),
        (f"1.5/{int(NOW * 1000) + 6000}-0", {}, True),  # of a time to come
        ("1.5/0-0", {"last": b"0-0", "oldest": b"0-0"}, False),  # of an empty stream
    ],
)
def test_feed_position_that_the_stream_does_not_reach_back_to_is_a_resync(
    since: str, stream: dict[str, Any], resyncs: bool
) -> None:
    batch = follow(since, reply(**stream)).value
    if resyncs:
        last = stream.get("last", b"9-0").decode()
        assert [(one.kind, one.id, one.position) for one in batch] == [
            (RESYNC, None, f"{EPOCH}/{last}")
        ]
    else:
        assert batch is None


def test_feed_after_a_resync_goes_on_in_the_new_epoch() -> None:
    feed = Feed(make_source(), "1.4/4-2", 0.0)
    tell(feed.next_batch(), reply(last=b"9-0"))
    heard = tell(feed.next_batch(), reply(entry(b"9-5"), last=b"9-5"))
    assert heard.args[0][0] == b"9-0"
    assert [one.kind for one in heard.value] == [ChangeKind.ADDED]


@pytest.mark.parametrize(
    "unreadable",
    [
        entry(b"5-0", b"begin"),
        entry(b"5-0", b"resync"),
        entry(b"5-0", path=b"p/g/n"),
        entry(b"5-0", path=b""),
        [b"5-0", [b"other", b"field"]],
    ],
)
def test_feed_entry_that_cannot_be_read_is_passed_over_at_once(unreadable: Any) -> None:
    heard = follow(f"{EPOCH}/4-2", reply(unreadable), reply(entry(b"6-0")))
    assert [one.position for one in heard.value] == [f"{EPOCH}/6-0"]
    assert heard.args[1][0] == b"5-0"
    assert [step.renews for step in heard.steps] == [False, True]


@pytest.mark.parametrize(
    ("wait", "pauses"), [(0.0, []), (0.1, [0.1]), (0.6, [POLL, POLL, 0.6 - 2 * POLL])]
)
def test_feed_quiet_reader_waits_as_long_as_it_wants(wait: float, pauses: list[float]) -> None:
    replies: list[Any] = [reply()]
    waited = 0.0
    for seconds in pauses:
        waited += seconds
        replies += [waited, reply()]
    heard = follow(f"{EPOCH}/4-2", *replies, wait=wait)
    assert heard.value is None
    told = [step.seconds for step in heard.steps if isinstance(step, Pause)]
    assert told == pytest.approx(pauses)


def test_feed_reader_without_a_limit_looks_again_and_again() -> None:
    heard = follow(f"{EPOCH}/4-2", reply(), 99.0, reply(), 999.0, reply(entry(b"5-0")), wait=None)
    assert len(heard.value) == 1
    assert heard.steps[1] == heard.steps[3] == Pause(POLL)


@pytest.mark.parametrize("since", ["", "x", "1.5/", "1.5/x-1", "5-0-1", f"1.5/{1 << 64}-0"])
def test_feed_position_that_is_none_is_a_value_error(since: str) -> None:
    with pytest.raises(ValueError, match="since="):
        Feed(make_source(), since, 0.0)


def test_feed_of_a_cache_that_is_not_ready_raises() -> None:
    with pytest.raises(CacheNotReady):
        follow(None, reply(state="building"))
