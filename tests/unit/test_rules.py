"""What names the way in which files are read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest

from jobcache import JobStatus
from jobcache_refresher.scan.parse import PARSER_VERSION
from jobcache_refresher.scan.rules import Rules
from jobcache_refresher.settings import Settings


def tag_of(**settings: object) -> bytes:
    return Rules.of(Settings.create(status_dir="/s", **settings)).tag


@pytest.fixture
def zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Sets the zone of this machine, for as long as the test lasts."""
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


def test_rules_are_those_of_the_settings() -> None:
    made = Rules.of(
        Settings.create(status_dir="/s", timezone="Asia/Tokyo", status_words="a=failed")
    )
    assert made.zone == ZoneInfo("Asia/Tokyo")
    assert (made.words["a"], made.words["timeout"]) == (JobStatus.FAILED, JobStatus.FAILED)


def test_a_tag_is_short_and_holds_no_colon() -> None:
    tags = {tag_of(status_words=f"w{number}=failed") for number in range(50)}
    assert len(tags) == 50
    assert all(len(tag) == 4 and b":" not in tag for tag in tags)


@pytest.mark.parametrize(
    "settings",
    [
        {"timezone": "Asia/Tokyo"},
        {"timezone": "UTC"},
        {"status_words": "paused=preempted"},
        {"status_words": "killed=preempted"},
    ],
)
def test_a_tag_differs_where_the_same_bytes_read_otherwise(settings: dict[str, str]) -> None:
    assert tag_of(**settings) != tag_of()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({}, {"poll_interval": 1.0, "settle": 0.5, "scan_threads": 1}),
        ({}, {"status_words": "killed=failed"}),
        ({"status_words": "a=failed,b=running"}, {"status_words": " B=running, a = failed"}),
    ],
)
def test_a_tag_is_the_same_where_all_reads_as_before(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert tag_of(**one) == tag_of(**other)


def test_a_tag_differs_with_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tag_of()
    monkeypatch.setattr(f"{Rules.__module__}.PARSER_VERSION", PARSER_VERSION + 1)
    assert tag_of() != before


def test_a_tag_differs_with_the_zone_of_this_machine_where_that_counts(
    zone_of_this_machine: pytest.MonkeyPatch,
) -> None:
    tags, named = set(), set()
    for zone in ("UTC0", "CET-1CEST", "CST6CDT", "CST-8"):
        zone_of_this_machine.setenv("TZ", zone)
        time.tzset()
        tags.add(tag_of())
        named.add(tag_of(timezone="UTC"))
    assert (len(tags), len(named)) == (4, 1)
