"""What is written for each way in which a job can differ from what was published."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobcache.ids import JobId
from jobcache.models import ChangeKind
from jobcache.schema.index import index_entries
from jobcache.schema.job import FINGERPRINT, decode_indexed_fields
from jobcache_refresher.publish.diff import Operation, diff
from jobcache_refresher.records import Fields, Record

PATH = b"vision/ada/resnet/run-1"
RUNNING: Fields = {
    b"status": b"running",
    b"started_at": b"100.0",
    b"heartbeat_at": b"200.0",
    b"tags": b"[]",
    FINGERPRINT: b"1",
}
WITHOUT_TAGS: Fields = {name: value for name, value in RUNNING.items() if name != b"tags"}
Index = dict[tuple[bytes, bytes], float]


def index_of(fields: Fields) -> Index:
    """Index entries of a job, with their scores."""
    if not fields:
        return {}
    job = JobId.from_path(PATH)
    entries = index_entries(job, decode_indexed_fields(fields))
    return {(entry.key, entry.member): entry.score for entry in entries}


def applied(operation: Operation, index: Index) -> Index:
    """What the indexes hold after an operation."""
    result = {entry: score for entry, score in index.items() if entry not in operation.removed}
    for one in operation.added:
        result |= {(key, one.member): one.score for key in one.keys}
    return result


def only(before: Fields | None, after: Fields | None) -> Operation:
    """The one operation that leads from one state to the other."""
    records = {} if before is None else {PATH: Record(before, b"7")}
    found = [] if after is None else [(PATH, after)]
    (operation,) = diff(records, found, [PATH] if after is None else [])
    return operation


@pytest.mark.parametrize("fields", [RUNNING, WITHOUT_TAGS])
def test_diff_of_equal_fields_is_empty(fields: Fields) -> None:
    assert not list(diff({PATH: Record(fields, b"7")}, [(PATH, dict(fields))], []))


def test_diff_of_a_missing_job_that_was_never_published_is_empty() -> None:
    assert not list(diff({}, [], [PATH]))


@pytest.mark.parametrize(
    ("before", "after", "kind", "revision", "set_fields", "dropped", "visible"),
    [
        (None, RUNNING, ChangeKind.ADDED, b"", RUNNING, (), True),
        (RUNNING, None, ChangeKind.DELETED, b"7", {}, (), True),
        (
            RUNNING,
            {**RUNNING, FINGERPRINT: b"2"},
            ChangeKind.MODIFIED,
            b"7",
            {FINGERPRINT: b"2"},
            (),
            False,
        ),
        (
            RUNNING,
            {**RUNNING, b"heartbeat_at": b"201.0"},
            ChangeKind.MODIFIED,
            b"7",
            {b"heartbeat_at": b"201.0"},
            (),
            True,
        ),
        (RUNNING, WITHOUT_TAGS, ChangeKind.MODIFIED, b"7", {}, (b"tags",), True),
        (
            RUNNING,
            {**RUNNING, b"status": b"completed"},
            ChangeKind.MODIFIED,
            b"7",
            {b"status": b"completed"},
            (),
            True,
        ),
    ],
    ids=["new", "gone", "only the fingerprint", "heartbeat", "a field less", "another status"],
)
def test_diff_operation_says_what_changes(
    before: Fields | None,
    after: Fields | None,
    kind: ChangeKind,
    revision: bytes,
    set_fields: Fields,
    dropped: tuple[bytes, ...],
    visible: bool,
) -> None:
    operation = only(before, after)
    assert (operation.path, operation.kind, operation.expected_revision) == (PATH, kind, revision)
    assert (operation.set_fields, operation.dropped_fields) == (set_fields, dropped)
    assert operation.fields == (after or {})
    assert operation.visible is visible
    assert applied(operation, index_of(before or {})) == index_of(after or {})


TIMES = st.none() | st.floats(0, 2e9).map(lambda value: repr(value).encode())
STATES = st.none() | st.builds(
    lambda status, started, beat: {
        name: value
        for name, value in (
            (b"status", status),
            (b"started_at", started),
            (b"heartbeat_at", beat),
            (FINGERPRINT, b"1"),
        )
        if value is not None
    },
    st.sampled_from([b"running", b"completed", b"failed"]),
    TIMES,
    TIMES,
)


@given(STATES, STATES)
def test_diff_applied_gives_the_index_entries_of_the_fields(
    before: Fields | None, after: Fields | None
) -> None:
    records = {} if before is None else {PATH: Record(before, b"7")}
    index = index_of(before or {})
    for operation in diff(records, [(PATH, after)] if after else [], [] if after else [PATH]):
        # Nothing is written that stands already, and an entry that only moves is not removed first.
        for one in operation.added:
            entries = {(key, one.member) for key in one.keys}
            assert any(index.get(entry) != one.score for entry in entries)
            assert not entries & set(operation.removed)
        index = applied(operation, index)
    assert index == index_of(after or {})
