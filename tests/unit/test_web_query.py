"""The parameters of a request to the JSON API: what they mean, and which are refused."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from jobcache.web.query import BadParameter, Query, path_names


def query(text: bytes) -> Query:
    return Query(Request({"type": "http", "query_string": text}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"", None),
        (b"a", None),
        (b"a=", None),
        (b"a=1", "1"),
        (b"a=1&a=2", "2"),
        (b"a=1&a=", None),
        (b"a=x+y%2B%26z", "x y+&z"),
        (b"a=%ff", "\udcff"),
        (b"a=%C3%BC", "ü"),
        (b"a=b=c", "b=c"),
        (b"b=1", None),
    ],
)
def test_query_text_is_the_last_value_and_empty_is_none(text: bytes, value: str | None) -> None:
    assert query(text).text("a") == value


@pytest.mark.parametrize(
    ("text", "number"),
    [(b"", 20), (b"a=", 20), (b"a=1", 1), (b"a=100", 100), (b"a=007", 7)],
)
def test_query_count_within_bounds_is_the_number(text: bytes, number: int) -> None:
    assert query(text).count("a", 20, least=1, most=100) == number


@pytest.mark.parametrize("value", ["0", "101", "-1", "1.0", "ten", "1" * 19, "\u0663", "+1"])
def test_query_count_out_of_bounds_is_refused_by_name(value: str) -> None:
    with pytest.raises(BadParameter, match=r"a='.*': use a whole number from 1 to 100"):
        query(f"a={value}".replace("+", "%2B").encode()).count("a", 20, least=1, most=100)


@pytest.mark.parametrize(("text", "number"), [(b"", 24.0), (b"a=0", 0.0), (b"a=1.5", 1.5)])
def test_query_amount_is_a_number_from_0(text: bytes, number: float) -> None:
    assert query(text).amount("a", 24.0) == number


@pytest.mark.parametrize("value", ["-0.1", "nan", "inf", "day"])
def test_query_amount_of_anything_else_is_refused_by_name(value: str) -> None:
    with pytest.raises(BadParameter, match=f"a='{value}': use a number from 0"):
        query(f"a={value}".encode()).amount("a", 24.0)


def test_query_checked_value_that_cannot_be_read_is_refused() -> None:
    assert query(b"").checked("a", int) is None
    assert query(b"a=5").checked("a", int) == 5
    with pytest.raises(BadParameter, match="'x'"):
        query(b"a=x").checked("a", int)


def test_path_names_may_hold_any_byte() -> None:
    names = {"project": "a%2Fb", "group": "%ff", "name": "x+y"}
    assert path_names(Request({"type": "http", "path_params": names})) == ["a/b", "\udcff", "x+y"]
