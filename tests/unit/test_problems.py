"""The book of problems: since when each is known, which ones readers are told of, and what the log says of them."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest

from jobcache.models import Problem
from jobcache.schema.problems import PROBLEMS_CAP, decode_problem, encode_problem
from jobcache_refresher.problems import LOGGED, LONGEST_REASON, ProblemBook
from jobcache_refresher.text import shown_text

A, B = b"p/g/n/a", b"p/g/n/b"
LINK, DENIED = "is a link", "cannot be listed: Permission denied"


def told(book: ProblemBook) -> dict[bytes, tuple[str, float]]:
    return {
        path: (entry["reason"], entry["since"])
        for path, entry in ((path, json.loads(raw)) for path, raw in book.told.items())
    }


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


Scans = list[dict[bytes, str]]


@pytest.mark.parametrize(
    ("scans", "expected", "lines"),
    [
        ([{}], {}, []),
        ([{A: LINK}], {A: (LINK, 0)}, [f"'p/g/n/a': {LINK}"]),
        ([{A: LINK}] * 3, {A: (LINK, 0)}, [f"'p/g/n/a': {LINK}"]),
        ([{A: LINK}, {A: DENIED}], {A: (DENIED, 0)}, [f"'p/g/n/a': {LINK}"]),
        (
            [{A: LINK}, {A: LINK, B: DENIED}],
            {A: (LINK, 0), B: (DENIED, 1)},
            [f"'p/g/n/a': {LINK}", f"'p/g/n/b': {DENIED}"],
        ),
        (
            [{A: LINK}, {}, {}],
            {},
            [f"'p/g/n/a': {LINK}", "'p/g/n/a': no problem any more"],
        ),
        (
            [{A: LINK}, {}, {A: LINK}],
            {A: (LINK, 2)},
            [f"'p/g/n/a': {LINK}", "'p/g/n/a': no problem any more", f"'p/g/n/a': {LINK}"],
        ),
    ],
    ids=["none", "new", "lasting", "of another kind", "another", "over", "back"],
)
def test_note_after_scans_tells_since_when_and_logs_once(
    log: pytest.LogCaptureFixture,
    scans: Scans,
    expected: dict[bytes, tuple[str, float]],
    lines: list[str],
) -> None:
    book = ProblemBook()
    for now, found in enumerate(scans):
        book.note(found.items(), float(now))
    assert told(book) == expected
    assert len(book) == len(expected)
    assert [path in book for path in (A, B)] == [path in expected for path in (A, B)]
    assert log.messages == lines


def test_note_several_reasons_of_one_path_tells_both() -> None:
    book = ProblemBook()
    book.note([(A, LINK), (A, DENIED)], 1.0)
    assert told(book) == {A: (f"{LINK}; {DENIED}", 1.0)}
    assert len(book) == 1


def test_note_more_than_the_cap_tells_directories_first_and_counts_all() -> None:
    book = ProblemBook()
    runs = [b"p/g/n/%05d" % number for number in range(PROBLEMS_CAP + 7)]
    book.note([(path, LINK) for path in [*reversed(runs), b"z", b"q/g"]], 1.0)
    assert list(book.told) == [b"z", b"q/g", *runs[: PROBLEMS_CAP - 2]]
    assert len(book) == PROBLEMS_CAP + 9


def test_note_many_at_once_logs_a_few_and_their_number(log: pytest.LogCaptureFixture) -> None:
    book = ProblemBook()
    many = {b"p/g/n/%d" % number: LINK for number in range(LOGGED + 5)}
    book.note(many.items(), 1.0)
    assert len(log.messages) == LOGGED + 1
    assert log.messages[-1] == "and 5 more problems: see 'jobcache problems'"
    log.clear()
    book.note([], 2.0)
    assert len(log.messages) == LOGGED + 1
    assert log.messages[-1] == "and 5 more problems ended"


def test_adopt_what_redis_held_keeps_since_and_logs_nothing(log: pytest.LogCaptureFixture) -> None:
    before, after = ProblemBook(), ProblemBook()
    before.note([(A, LINK), (B, DENIED)], 1795739339.1557)
    log.clear()
    after.adopt(before.told)
    after.note([(A, LINK), (B, DENIED)], 1795739400.0)
    assert after.told == before.told, "nothing needs to be written"
    assert log.messages == []
    after.note([(A, LINK)], 1795739500.0)
    assert log.messages == ["'p/g/n/b': no problem any more"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"[]",
        b"7",
        b'{"reason": 7, "since": 1}',
        b'{"reason": "x"}',
        b'{"reason": "x", "since": "soon"}',
        b'{"reason": "x", "since": null}',
        b'{"reason": "x", "since": []}',
    ],
)
def test_an_entry_that_nobody_of_us_wrote_is_passed_over(raw: bytes) -> None:
    assert decode_problem(A, raw) is None
    book = ProblemBook()
    book.adopt({A: raw})
    assert len(book) == 0


def test_an_entry_is_read_as_it_was_written() -> None:
    problem = decode_problem(b"p/\xff", encode_problem("a link", 1.5))
    since = datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert problem == Problem(path="p/\uefff", reason="a link", since=since)


def test_note_a_hostile_reason_tells_one_short_line_of_valid_text() -> None:
    book = ProblemBook()
    book.note([(A, "a\nb\x1b[2J\u202e\ud800" + 1000 * "x")], 1.0)
    ((reason, _),) = told(book).values()
    assert reason.startswith(r"a\nb\x1b[2J\u202e\ud800xxx")
    assert len(reason) == LONGEST_REASON


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [("plain", 9, "plain"), ("ünï", 3, "ünï"), ("abcdef", 5, "ab..."), ("\t", 5, r"\t")],
)
def test_shown_text(text: str, longest: int, expected: str) -> None:
    assert shown_text(text, longest) == expected
