"""The jobs that run: which of them count, and what a change between two steps does."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache import CacheUnavailable, JobStatus
from jobcache.queries.fetch import ATTEMPTS, CHUNK
from jobcache.queries.running import MOST_RUNNING, MOST_RUNNING_READ, get_running_jobs
from tests.unit.replies import NOW, STALE_AFTER, header, job_row, make_source, paths_of, tell

ONE, OTHER, THIRD = b"p/g/n/1", b"p/g/n/2", b"p/g/n/3"


def row(path: bytes, revision: bytes = b"5", **job: Any) -> list[Any]:
    return job_row(path, revision, **{"status": JobStatus.RUNNING, **job})


def reply(*rows: Any, paths: list[bytes], **fields: Any) -> list[Any]:
    return [header(**fields), paths, list(rows)]


def test_get_running_jobs_stand_newest_first_and_equal_starts_by_path_backwards() -> None:
    rows = [row(ONE, started=NOW - 9), row(OTHER, started=NOW - 5), row(THIRD, started=NOW - 9)]
    heard = tell(get_running_jobs(make_source()), reply(*rows, paths=[ONE, OTHER, THIRD]))
    assert paths_of(heard.value.value) == [OTHER, THIRD, ONE]
    assert heard.args[0][3:5] == (MOST_RUNNING, MOST_RUNNING_READ)


@pytest.mark.parametrize(
    ("job", "counts"),
    [
        ({}, True),
        ({"beat": NOW - STALE_AFTER}, True),
        ({"beat": NOW - STALE_AFTER - 0.5}, False),
        ({"status": JobStatus.COMPLETED}, False),
    ],
)
def test_get_running_jobs_counts_those_that_run_with_a_fresh_heartbeat(
    job: dict[str, Any], counts: bool
) -> None:
    heard = tell(get_running_jobs(make_source()), reply(row(ONE, **job), paths=[ONE]))
    assert paths_of(heard.value.value) == ([ONE] if counts else [])


def test_get_running_jobs_known_answer_is_given_again_by_its_header() -> None:
    source = make_source()
    tell(get_running_jobs(source), reply(row(ONE), paths=[ONE]))
    again = tell(get_running_jobs(source), [header()])
    assert again.args[0][:3] == (b"1.5", 7, b"1")
    assert paths_of(again.value.value) == [ONE]
    later = tell(get_running_jobs(source), [header(completed_at=NOW + STALE_AFTER + 1)])
    assert later.value.value == [], "judged as of the newest completed scan"


def test_get_running_jobs_more_than_one_step_tells_of_are_asked_for_in_further_steps() -> None:
    paths = [b"p/g/n/%d" % number for number in range(CHUNK + 2)]
    heard = tell(
        get_running_jobs(make_source()),
        reply(row(paths[0]), paths=paths),
        [header(), [row(path) for path in paths[1 : CHUNK + 1]]],
        [header(), [row(path) for path in paths[CHUNK + 1 :]]],
    )
    assert len(heard.value.value) == len(paths)
    assert [args[3:] for args in heard.args[1:]] == [
        tuple(paths[1 : CHUNK + 1]),
        tuple(paths[CHUNK + 1 :]),
    ]
    assert [step.renews for step in heard.steps] == [False, True, True]


@pytest.mark.parametrize(("generation", "is_remembered"), [(7, True), (8, False)])
def test_get_running_jobs_answer_of_two_moments_is_not_remembered(
    generation: int, is_remembered: bool
) -> None:
    source = make_source()
    tell(
        get_running_jobs(source),
        reply(row(ONE), paths=[ONE, OTHER]),
        [header(generation=generation), [row(OTHER)]],
    )
    heard = tell(get_running_jobs(source), reply(row(ONE), row(OTHER), paths=[ONE, OTHER]))
    assert heard.args[0][2] == (b"1" if is_remembered else b"")


def test_get_running_jobs_epoch_that_changes_between_two_steps_is_asked_for_again() -> None:
    mixed = [reply(row(ONE), paths=[ONE, OTHER]), [header(epoch="2.5"), [row(OTHER)]]]
    heard = tell(get_running_jobs(make_source()), *mixed, reply(row(ONE), paths=[ONE]))
    assert paths_of(heard.value.value) == [ONE]
    with pytest.raises(CacheUnavailable, match="again and again"):
        tell(get_running_jobs(make_source()), *(mixed * ATTEMPTS))


def test_get_running_jobs_job_that_changed_between_two_steps_is_asked_for_again() -> None:
    heard = tell(
        get_running_jobs(make_source()),
        reply([b"5"], paths=[ONE]),
        [header(), [row(ONE, b"6")]],
        reply(row(ONE, b"6"), paths=[ONE]),
    )
    assert paths_of(heard.value.value) == [ONE]
