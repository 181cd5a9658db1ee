"""Which fields of a job a request asks for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from starlette.requests import Request

from jobcache.web.fields import JOB_FIELDS, read_fields
from jobcache.web.query import BadParameter, Query

ALL_BUT_CONFIG = [name for name in JOB_FIELDS if name != "config"]


def read(text: bytes) -> Sequence[str] | None:
    return read_fields(Query(Request({"type": "http", "query_string": text})))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"", None),
        (b"fields=", None),
        (b"config=1", None),
        (b"config=", None),
        (b"fields=id", ["id"]),
        (b"fields=status,id,duration_seconds", ["status", "id", "duration_seconds"]),
        (b"fields=%20status%20,,config", ["status", "config"]),
        (b"fields=,", [*JOB_FIELDS]),
        (b"config=0", ALL_BUT_CONFIG),
        (b"config=0&fields=id,config", ["id"]),
        (b"config=1&fields=id", ["id"]),
    ],
)
def test_read_fields_gives_what_is_asked_for(text: bytes, names: Sequence[str] | None) -> None:
    assert read(text) == names


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"fields=id,konfig", r"fields='konfig': use some of name, .*is_stale"),
        (b"fields=hardware.chip", r"fields='hardware\.chip'"),
        (b"config=no", r"config='no': use 0 or 1"),
        (b"config=2", r"config='2'"),
    ],
)
def test_read_fields_of_what_is_none_is_refused_by_name(text: bytes, says: str) -> None:
    with pytest.raises(BadParameter, match=says):
        read(text)
