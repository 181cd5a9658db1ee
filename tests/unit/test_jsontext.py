"""JSON, exactly as it was written."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcache import jsontext

TEXT = st.text(st.characters()) | st.sampled_from(["\ud800", "\udcff", "\udc80\ud800", "\0", "\n"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(value=JSON)
def test_dumps_and_loads_are_exact(value: Any) -> None:
    assert jsontext.loads(jsontext.dumps(value)) == value


@given(value=JSON | st.floats() | st.lists(st.floats() | st.integers(-(10**30), 10**30)))
def test_read_json_of_the_producer_is_written_exactly(value: Any) -> None:
    read, plain = jsontext.read(json.dumps(value).encode())
    again = jsontext.loads(jsontext.dumps(read, plain=plain))
    assert repr(read) == repr(again) == repr(value)


@pytest.mark.parametrize(
    "text",
    [
        "1e999",
        "-1e999",
        "1" * 400 + ".5",
        "18446744073709551616",
        "-9223372036854775809",
        "9223372036854775808",
        "[null,1e400]",
        '{"a":1,"a":null}',
        "0.1234567890123456789012",
        "-0.0",
    ],
)
def test_read_json_that_others_write_is_written_exactly(text: str) -> None:
    read, plain = jsontext.read(text.encode())
    again = jsontext.loads(jsontext.dumps(read, plain=plain))
    assert repr(read) == repr(again) == repr(json.loads(text))


def test_parse_json_of_the_producer_keeps_what_is_no_strict_json() -> None:
    written = json.dumps({"a": math.nan, "b": math.inf, "c": 2**200, "d": "\ud83d\ude00\ud800"})
    value = jsontext.parse(written.encode())
    assert math.isnan(value["a"])
    assert (value["b"], value["c"], value["d"]) == (math.inf, 2**200, "\U0001f600\ud800")
    assert jsontext.loads(jsontext.dumps(value))["c"] == 2**200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": math.nan, "b": [math.inf]}, b'{"a":null,"b":[null]}'),
        ({"a": "\udcff", "b": math.nan}, b'{"a":"\\udcff","b":null}'),
        ({"a": 2**64}, b'{"a":18446744073709551616}'),
    ],
)
def test_dumps_for_web_is_strict(value: Any, text: bytes) -> None:
    assert jsontext.dumps_for_web(value) == text
