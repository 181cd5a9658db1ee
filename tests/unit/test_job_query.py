"""One job by its directory names: read anew only if it changed."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import CacheNotReady
from jobcache.queries.job import get_job
from jobcache.schema.job import JOB_FIELDS
from tests.unit.replies import GONE, header, job_row, make_source, tell

RUN = ("p", "g", "n", "r")
PATH = b"p/g/n/r"


def test_get_job_that_did_not_change_is_not_sent_again() -> None:
    source = make_source()
    first = tell(get_job(source, *RUN), [header(), job_row(PATH, b"5")])
    again = tell(get_job(source, *RUN), [header(), [b"5"]])
    assert (first.args[0], again.args[0]) == ((b"",), (b"5",))
    assert again.value.value == first.value.value
    assert again.value.value.id == RUN


def test_get_job_known_at_that_revision_of_another_epoch_is_asked_for_anew() -> None:
    source = make_source()
    tell(get_job(source, *RUN), [header(), job_row(PATH, b"5")])
    heard = tell(
        get_job(source, *RUN),
        [header(epoch="2.5"), [b"5"]],
        [header(epoch="2.5"), job_row(PATH, b"5")],
    )
    assert heard.args == [(b"5",), (b"",)]
    assert heard.value.value.id == RUN


@pytest.mark.parametrize("row", [GONE, [b"5", [None] * len(JOB_FIELDS)]])
def test_get_job_that_is_gone_is_none(row: Any) -> None:
    assert tell(get_job(make_source(), *RUN), [header(), row]).value.value is None


def test_get_job_of_impossible_names_is_none_and_reads_no_hash() -> None:
    heard = tell(get_job(make_source(), "a/b", "g", "n", "r"), [header()])
    assert heard.value.value is None
    assert heard.steps[0].keys == (b"jobcache:{n}:meta",)


@pytest.mark.parametrize("names", [RUN, ("a/b", "g", "n", "r")])
def test_get_job_of_a_cache_that_is_not_ready_raises(names: Any) -> None:
    with pytest.raises(CacheNotReady):
        tell(get_job(make_source(), *names), [header(state="building"), GONE])
