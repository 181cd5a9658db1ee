"""What a caller's filters and limits mean, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import JobStatus
from jobcache.queries.filters import can_match, check_limit, read_filters, read_status


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, None),
        ("", None),
        ("failed", JobStatus.FAILED),
        (JobStatus.FAILED, JobStatus.FAILED),
        ("unknown", JobStatus.UNKNOWN),
    ],
)
def test_read_status_empty_text_is_no_filter(status: Any, expected: JobStatus | None) -> None:
    assert read_status(status) is expected


@pytest.mark.parametrize("status", ["FAILED", "stopped", " failed"])
def test_read_status_unknown_word_is_a_value_error_that_names_the_known(status: str) -> None:
    with pytest.raises(ValueError, match=r"use one of running, .*, unknown"):
        read_status(status)


def test_read_filters_empty_names_are_no_filters() -> None:
    assert read_filters("", "", "") == (None, None, None)
    assert read_filters("p", "g", "failed") == ("p", "g", JobStatus.FAILED)


@pytest.mark.parametrize("limit", [None, 0, 1, 10**9])
def test_check_limit_from_0_is_as_given(limit: int | None) -> None:
    assert check_limit(limit) is limit


def test_check_limit_negative_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="limit=-1: use None for all"):
        check_limit(-1)


@pytest.mark.parametrize(
    ("project", "group", "expected"),
    [
        (None, None, True),
        ("p", "g", True),
        ("a/b", None, False),
        (None, "a\0", False),
        ("..", "g", False),
        ("p", "\ud800", False),
    ],
)
def test_can_match_only_names_that_a_directory_can_bear(
    project: str | None, group: str | None, expected: bool
) -> None:
    assert can_match(project, group) is expected
