"""Where a page ended, as text that is handed out and taken back."""

from __future__ import annotations

import base64

import pytest

from jobcache.queries.cursor import Cursor

MADE_WITH = "0123456789abcdef"
"""Digest of the filters."""


@pytest.mark.parametrize("score", [b"12.5", b"-inf", b"inf", b"1e+21", b"-3.25e-7", b"0"])
@pytest.mark.parametrize("member", [b"p/g/n/r", b"a b/\xff/\n/ ", b""])
def test_cursor_read_gives_what_show_wrote(score: bytes, member: bytes) -> None:
    cursor = Cursor(score, member)
    assert Cursor.read(cursor.show(MADE_WITH), MADE_WITH) == cursor


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"12.5",
        b" member",
        b"1 " + b"x" * 1024,
        b"nan x",
        b"1;2 x",
        b"0x1 x",
        b"1e x",
        b"(1 x",
        b"--1 x",
    ],
)
def test_cursor_read_of_no_score_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match="pass what a page gave"):
        Cursor.read(base64.urlsafe_b64encode(MADE_WITH.encode() + b" " + raw).decode(), MADE_WITH)


@pytest.mark.parametrize("text", ["", "x", "!!!!", "\u00e9", "MTIu NSBw", "MTIuNSB"])
def test_cursor_read_of_no_base64_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="cursor="):
        Cursor.read(text, MADE_WITH)


def test_cursor_read_of_other_filters_is_a_value_error_that_says_so() -> None:
    cursor = Cursor(b"1", b"p/g/n/r").show(MADE_WITH)
    with pytest.raises(ValueError, match="it was made by a page with other filters"):
        Cursor.read(cursor, MADE_WITH[::-1])
