"""Numbers out of what anybody may have written."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache.numbers import place_in_stream, read_float, read_int, read_position


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (None, None),
        (b"", None),
        (b"7", 7),
        ("7", 7),
        (7, 7),
        (b"-7", -7),
        (b"7.0", None),
        (b"x", None),
    ],
)
def test_read_int_of_anything_else_is_none(raw: Any, number: int | None) -> None:
    assert read_int(raw) == number


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (None, None),
        (b"", None),
        (b"7.5", 7.5),
        (b"1e3", 1000.0),
        (b"inf", None),
        (b"-inf", None),
        (b"nan", None),
        (b"1e999", None),
        (b"x", None),
    ],
)
def test_read_float_of_anything_but_a_finite_number_is_none(raw: Any, number: float | None) -> None:
    assert read_float(raw) == number


@pytest.mark.parametrize(
    ("raw", "position"),
    [
        (None, None),
        (b"", None),
        (b"5", None),
        (b"5-", None),
        (b"-5-1", None),
        (b"5-1\n", None),
        (b"5-1-1", None),
        (b"0-0", (0, 0)),
        (b"5-1", (5, 1)),
        (b"%d-0" % ((1 << 64) - 1), ((1 << 64) - 1, 0)),
        (b"%d-0" % (1 << 64), None),
        (b"0-%d" % (1 << 64), None),
    ],
)
def test_read_position_of_anything_but_a_stream_id_is_none(
    raw: bytes | None, position: tuple[int, int] | None
) -> None:
    assert read_position(raw) == position
    assert place_in_stream(raw) == (position or (0, 0))


def test_place_in_stream_orders_by_numbers_and_not_by_text() -> None:
    assert place_in_stream(b"9-10") > place_in_stream(b"9-9")
    assert place_in_stream(b"10-0") > place_in_stream(b"9-10")
