"""What an examination makes of the replies about one job; which type a key must have."""

from __future__ import annotations

import pytest

from jobcache.cli.standing import (
    FIELDS,
    WRONG_TYPE,
    Standing,
    chips_of,
    entries_of,
    is_right,
    read_standing,
)
from jobcache.schema.job import CHIPS, REV
from jobcache.schema.keys import type_of

PATH = b"vision/ada/resnet/run-1"
HASH = {b"status": b"running", b"started_at": b"100.0", b"heartbeat_at": b"200.0", REV: b"7"}


def test_standing_of_a_key_of_another_type_has_no_fields() -> None:
    assert read_standing([WRONG_TYPE, None, [None, WRONG_TYPE, b"1.5"]]) == Standing(
        None, (None, None, 1.5)
    )


def test_standing_of_a_hash_has_the_fields_that_are_set() -> None:
    values = [HASH.get(name) for name in FIELDS]
    assert read_standing([values, None, []]) == Standing(HASH, ())


@pytest.mark.parametrize(
    "fields",
    [
        None,
        {},
        {b"status": b"running"},
        {**HASH, b"status": b"asleep"},
        {**HASH, b"started_at": b"x"},
    ],
    ids=["no hash", "nothing", "no revision", "unknown status", "no number"],
)
def test_standing_of_no_job_has_no_entries(fields: dict[bytes, bytes] | None) -> None:
    standing = Standing(fields, ())
    assert entries_of(PATH, standing) == []
    assert not is_right([], standing, standing)


def test_standing_is_right_for_an_unchanged_hash_with_its_entries() -> None:
    before = Standing(HASH, ())
    entries = entries_of(PATH, before)
    scores = tuple(entry.score for entry in entries)
    assert entries
    assert is_right(entries, before, Standing(HASH, scores))
    assert not is_right(entries, before, Standing({**HASH, REV: b"8"}, scores))
    for place in range(len(scores)):
        without = (*scores[:place], None, *scores[place + 1 :])
        other = (*scores[:place], scores[place] + 1, *scores[place + 1 :])
        assert not is_right(entries, before, Standing(HASH, without))
        assert not is_right(entries, before, Standing(HASH, other))


@pytest.mark.parametrize(
    ("fields", "chips"),
    [
        ({b"heartbeat_at": b"200", CHIPS: b"8"}, 8),
        ({b"heartbeat_at": b"199.5", CHIPS: b"8"}, 0),
        ({b"heartbeat_at": b"200"}, 0),
        ({CHIPS: b"8"}, 0),
        ({b"heartbeat_at": b"soon", CHIPS: b"8"}, 0),
        ({b"heartbeat_at": b"200", CHIPS: b"many"}, 0),
        (None, 0),
    ],
)
def test_standing_chips_count_from_a_heartbeat_on(
    fields: dict[bytes, bytes] | None, chips: int
) -> None:
    assert chips_of(Standing(fields, ()), 200.0) == chips


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"job:" + PATH, "hash"),
        (b"job:vision/ada", None),
        (b"jobs", "zset"),
        (b"jobs2", None),
        (b"status:running", "zset"),
        (b"project:a\nb/status:done", "zset"),
        (b"project:", None),
        (b"meta", "hash"),
        (b"\xff", None),
    ],
)
def test_type_of_key_is_that_of_the_key_table(key: bytes, expected: str | None) -> None:
    assert type_of(key) == expected
