"""What is written into the stream of requests, and how the newest entry of a stream reads."""

from __future__ import annotations

from jobcache.schema.streams import (
    DELETE,
    REFRESH,
    REQUESTS_CAP,
    newest_command,
    newest_position,
    request_command,
)


def test_request_command_bounds_the_stream_and_names_the_job() -> None:
    head = (b"XADD", b"k", b"MAXLEN", b"~", REQUESTS_CAP, b"*", b"request")
    assert request_command(b"k", DELETE, b"p/g/n/r") == (*head, b"delete", b"id", b"p/g/n/r")
    assert request_command(b"k", REFRESH) == (*head, b"refresh", b"id", b"")


def test_newest_position_of_an_empty_stream_is_before_all_others() -> None:
    assert newest_command(b"k") == (b"XREVRANGE", b"k", b"+", b"-", b"COUNT", 1)
    assert newest_position([]) == b"0-0"
    assert newest_position([[b"5-1", [b"request", b"audit"]]]) == b"5-1"
