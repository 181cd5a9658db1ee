"""Where the jobs of an answer come from: along with it, from memory, or by asking once more."""

from __future__ import annotations

from typing import Any

import pytest

from jobcache.queries.fetch import CHUNK, Baseline, JobRef, learn, resolve, split_jobs
from jobcache.queries.source import Source
from jobcache.schema.header import Header
from jobcache.schema.job import JOB_FIELDS
from tests.unit.replies import GONE, header, job_row, job_values, make_source, tell

ONE, OTHER, THIRD = b"p/g/n/1", b"p/g/n/2", b"p/g/n/3"


def resolved(
    source: Source, refs: list[JobRef], fields: list[Any], *replies: Any, mixed: bool = False
) -> Any:
    return tell(resolve(source, Header(header()), refs, fields, accept_mixed=mixed), *replies)


def names_of(jobs: Any) -> Any:
    return None if jobs is None else [job.path.encode() for job in jobs]


def test_split_jobs_row_says_revision_and_fields_or_that_the_job_is_gone() -> None:
    values = job_values(ONE)
    refs, fields = split_jobs([ONE, OTHER, THIRD], [[b"5", values], [b"6"], GONE])
    assert refs == [JobRef(ONE, b"5"), JobRef(OTHER, b"6"), JobRef(THIRD, b"")]
    assert fields == [values, None, None]


def test_resolve_jobs_from_all_three_places_stand_in_order() -> None:
    source = make_source()
    learn(source.parsed, b"1.5", JobRef(OTHER, b"5"), job_values(OTHER))
    refs = [JobRef(path, b"5") for path in (THIRD, OTHER, ONE)]
    heard = resolved(source, refs, [None, None, job_values(ONE)], [header(), [job_row(THIRD)]])
    jobs, all_known = heard.value
    assert names_of(jobs) == [THIRD, OTHER, ONE]
    assert not all_known
    assert heard.args[0][:2] == (b"", 0), "all fields are wanted"
    assert heard.args[0][3:] == (THIRD,)
    again = resolved(source, refs, [])
    assert names_of(again.value[0]) == [THIRD, OTHER, ONE]
    assert again.value[1]


@pytest.mark.parametrize("known_as", [(b"1.5", b"4"), (b"0.5", b"5")])
def test_resolve_job_known_at_another_revision_or_epoch_is_fetched(
    known_as: tuple[bytes, bytes],
) -> None:
    source = make_source()
    epoch, revision = known_as
    learn(source.parsed, epoch, JobRef(ONE, revision), job_values(ONE))
    heard = resolved(source, [JobRef(ONE, b"5")], [], [header(), [job_row(ONE)]])
    assert names_of(heard.value[0]) == [ONE]


def test_resolve_job_that_is_gone_is_left_out_and_not_asked_for() -> None:
    missing = [None] * len(JOB_FIELDS)
    heard = resolved(make_source(), [JobRef(ONE, b""), JobRef(OTHER, b"5")], [None, missing])
    assert heard.value == ([], True)


@pytest.mark.parametrize(
    ("reply", "mixed", "expected"),
    [
        ([header(), [job_row(ONE, b"5")]], False, [ONE]),
        ([header(), [job_row(ONE, b"6")]], False, None),
        ([header(), [job_row(ONE, b"6")]], True, [ONE]),
        ([header(), [GONE]], False, None),
        ([header(), [GONE]], True, []),
        ([header(epoch="2.5"), [job_row(ONE, b"5")]], False, None),
        ([header(epoch="2.5"), [job_row(ONE, b"5")]], True, None),
    ],
)
def test_resolve_what_changed_between_two_steps_must_be_asked_again_unless_mixed_is_accepted(
    reply: Any, mixed: bool, expected: list[bytes] | None
) -> None:
    heard = resolved(make_source(), [JobRef(ONE, b"5")], [], reply, mixed=mixed)
    assert names_of(heard.value[0]) == expected


def test_resolve_many_unknown_jobs_take_several_steps_each_with_its_own_deadline() -> None:
    paths = [b"p/g/n/%d" % number for number in range(CHUNK + 1)]
    replies = [
        [header(), [job_row(path) for path in some]] for some in (paths[:CHUNK], paths[CHUNK:])
    ]
    heard = resolved(make_source(), [JobRef(path, b"5") for path in paths], [], *replies)
    assert names_of(heard.value[0]) == paths
    assert [len(args) - 3 for args in heard.args] == [CHUNK, 1]
    assert [step.renews for step in heard.steps] == [False, True]


def test_baseline_arguments_say_whether_the_whole_answer_is_known() -> None:
    assert Baseline(b"1.5", 7).arguments(whole=True) == (b"1.5", 7, b"1")
    assert Baseline(b"1.5", 7).arguments(whole=False) == (b"1.5", 7, b"")
