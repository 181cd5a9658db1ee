"""Names as bytes, and as text that can be written anywhere."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobcache import JobId
from jobcache.cli import printable
from jobcache.ids import decode_name, decode_names, encode_name, valid_text
from tests.trees import shown, shown_value

NAME = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.text(st.characters(min_codepoint=0xEE80, max_codepoint=0xF080), min_size=1).map(str.encode),
    st.sampled_from([b"\xff", b"\xc3\xa9", b"\xc3", b"\xed\xb2\x80", b"\xef\xbe", b"\xf4\x90"]),
).filter(lambda raw: not {0, ord("/")} & {*raw} and raw not in {b".", b".."})


@given(name=NAME)
@example(name="\uef80\uefff".encode() + b"\xff")
def test_decode_name_of_any_bytes_is_valid_unicode_and_comes_back(name: bytes) -> None:
    text = decode_name(name)
    assert encode_name(text.encode().decode()) == name
    assert text == shown(os.fsdecode(name))
    job = JobId.of(text, text, text, text)
    assert job is not None
    assert job.path == b"/".join([name] * 4)
    assert job == JobId.from_path(job.path)


@given(name=NAME)
def test_encode_name_takes_what_the_system_gives(name: bytes) -> None:
    given = os.fsdecode(name)
    if any("\uef80" <= character <= "\uefff" for character in given):
        return  # which is how a byte is shown
    assert encode_name(given) == name
    assert JobId.of(given, "g", "n", "r") == JobId.of(decode_name(name), "g", "n", "r")


@given(one=NAME, other=NAME)
@example(one=b"\x80", other="\uef80".encode())
def test_decode_name_of_two_names_differs(one: bytes, other: bytes) -> None:
    assert (decode_name(one) == decode_name(other)) == (one == other)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"a", "a"),
        ("\u00e9".encode(), "\u00e9"),
        (b"a\xff", "a\uefff"),
        ("\uefff".encode(), "\uefee\uefbf\uefbf"),
        ("\uef00".encode(), "\uefee\uefbc\uef80"),
        ("\uf000".encode(), "\uf000"),
    ],
)
def test_decode_name_shows_each_byte(name: bytes, text: str) -> None:
    assert decode_name(name) == text


def test_printable_name_shows_the_bytes() -> None:
    assert printable(decode_name(b"a\xff")) == printable(os.fsdecode(b"a\xff")) == "a\\xff"


@given(text=st.text(st.characters()))
@example(text="\ud800\udcff\ud83d")
def test_valid_text_is_valid_unicode(text: str) -> None:
    assert valid_text(text).encode().decode() == shown_value(text)


def test_valid_text_of_two_texts_differs() -> None:
    assert valid_text("\ud800") == "\\ud800" != valid_text("\ud801")


@given(st.lists(NAME, max_size=5))
def test_decode_names_in_one_piece_are_the_names(names: list[bytes]) -> None:
    assert decode_names(names) == [decode_name(name) for name in names]
