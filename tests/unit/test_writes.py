"""The calls that ask something of the refresher, and how long they wait for it."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import CacheNotReady, CacheUnavailable
from jobcache.queries import writes
from jobcache.queries.query import Ask, Pause
from jobcache.queries.writes import FIRST_PAUSE, LONGEST_PAUSE
from tests.unit.replies import GONE, header, job_row, make_source, tell

RUN = ("p", "g", "n", "r")
PATH = b"p/g/n/r"
REQUEST = b"20-0"


def delete(*replies: Any, timeout: float = 1.0) -> Any:
    return tell(writes.delete_job(make_source(), *RUN, timeout), *replies)


@pytest.mark.parametrize("was_there", [True, False])
def test_delete_job_says_whether_it_was_there(was_there: bool) -> None:
    row = job_row(PATH) if was_there else GONE
    heard = delete([header(), row], REQUEST, REQUEST, [header()])
    assert heard.value.value is was_there
    request = heard.steps[1].args
    assert request[0] == b"XADD"
    assert request[-3:] == (b"delete", b"id", PATH)
    assert heard.steps[2] == Ask((b"HGET", b"jobcache:{n}:meta", "deleted_position"))


@pytest.mark.parametrize(
    ("position", "is_done"),
    [
        (None, False),
        (b"", False),
        (b"9-0", False),
        (b"19-9", False),
        (b"20-0", True),
        (b"100-0", True),
        (b"nonsense", False),
    ],
)
def test_delete_job_waits_until_the_refresher_came_to_its_request(
    position: bytes | None, is_done: bool
) -> None:
    begin = ([header(), GONE], REQUEST, position)
    if is_done:
        delete(*begin, [header()], timeout=0.0)
    else:
        with pytest.raises(CacheUnavailable, match="within 0 s; the request waits"):
            delete(*begin, timeout=0.0)


def test_delete_job_of_a_cache_that_is_not_ready_asks_for_nothing() -> None:
    with pytest.raises(CacheNotReady):
        delete([header(state="building"), GONE])


def test_waiting_looks_ever_more_rarely_and_not_beyond_the_timeout() -> None:
    replies: list[Any] = []
    waited, seconds = 0.0, FIRST_PAUSE
    expected = []
    while waited < 0.3 - 1e-9:
        expected.append(min(seconds, 0.3 - waited))
        waited += expected[-1]
        replies += [b"1-0", waited]
        seconds = min(2 * seconds, LONGEST_PAUSE)
    heard_steps: list[Any] = []

    def note(step: Any) -> bytes:
        heard_steps.append(step)
        return REQUEST

    heard = tell(writes.refresh(make_source(), True, 0.3), REQUEST, *replies, note, [header()])
    pauses = [step.seconds for step in heard.steps if isinstance(step, Pause)]
    assert pauses == pytest.approx(expected)
    assert max(pauses) == LONGEST_PAUSE
    assert heard_steps == [Ask((b"HGET", b"jobcache:{n}:meta", "request_position"))]


def test_refresh_without_waiting_asks_once() -> None:
    heard = tell(writes.refresh(make_source(), False, 0.0), REQUEST, [header()])
    assert heard.steps[0].args[-3:] == (b"refresh", b"id", b"")
    assert heard.value.generation == 7


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (writes.refresh(make_source(), True, 0.0), "completed a scan of namespace 'n'"),
        (writes.audit(make_source(), 0.0), "no refresher audited"),
    ],
)
def test_request_that_nobody_sees_to_is_unavailable(query: Any, message: str) -> None:
    with pytest.raises(CacheUnavailable, match=message):
        tell(query, REQUEST, None)


def test_invalidate_asks_for_the_run() -> None:
    heard = tell(writes.invalidate(make_source(), *RUN), REQUEST)
    assert heard.steps[0].args[-3:] == (b"invalidate", b"id", PATH)


@pytest.mark.parametrize(
    "bad", [("a/b", "g", "n", "r"), ("p", "", "n", "r"), ("p", "g", "n", "..")]
)
def test_names_that_no_directory_can_bear_are_a_value_error(bad: tuple[str, str, str, str]) -> None:
    for query in (
        writes.delete_job(make_source(), *bad, 1.0),
        writes.invalidate(make_source(), *bad),
    ):
        with pytest.raises(ValueError, match="no directory can bear"):
            tell(query)
