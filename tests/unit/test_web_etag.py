"""The tag of an answer: what it covers, and when a client has it already."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from starlette.requests import Request

from jobcache import CacheState, Freshness
from jobcache.web import etag
from jobcache.web.etag import has_etag, make_etag

FRESH = Freshness(state=CacheState.READY, generation=7, epoch="e", age=1.0)


def request(path: str = "/api/jobs", query: bytes = b"", *named: bytes) -> Request:
    headers = [(b"if-none-match", value) for value in named]
    return Request({"type": "http", "path": path, "query_string": query, "headers": headers})


def test_make_etag_of_an_equal_answer_is_equal() -> None:
    later = FRESH.model_copy(update={"age": 2.0, "completed_at": datetime.now(UTC)})
    assert make_etag(request(), FRESH) == make_etag(request(), later)
    assert make_etag(request(), FRESH).startswith('W/"')


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": "f"},
        {"generation": 8},
        {"state": CacheState.DEGRADED},
        {"reason": "EIO"},
        {"last_good": True},
    ],
    ids=str,
)
def test_make_etag_of_another_answer_differs(change: dict[str, object]) -> None:
    assert make_etag(request(), FRESH) != make_etag(request(), FRESH.model_copy(update=change))


def test_make_etag_of_another_address_differs() -> None:
    requests = request(), request("/api/projects"), request(query=b"limit=1")
    assert len({make_etag(one, FRESH) for one in requests}) == 3


def test_make_etag_of_another_version_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_etag(request(), FRESH)
    monkeypatch.setattr(etag, "_VERSION", "another")
    assert make_etag(request(), FRESH) != before


@pytest.mark.parametrize(
    ("named", "has"),
    [
        ([], False),
        ([b""], False),
        ([b'W/"a"'], True),
        ([b'"a"'], True),
        ([b'"b", W/"a"'], True),
        ([b'"b"', b'"a"'], True),
        ([b"*"], True),
        ([b'"b"'], False),
        ([b"a"], False),
        ([b'W/"aa"'], False),
    ],
)
def test_has_etag_where_the_request_names_it(named: list[bytes], has: bool) -> None:
    assert has_etag(request("/", b"", *named), 'W/"a"') is has
