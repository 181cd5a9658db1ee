"""What every index must hold, kept up change by change, is what a count of everything gives."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from jobcache import JobStatus
from jobcache_refresher.expected import ExpectedSizes, entries_of
from jobcache_refresher.records import Fields, Record, Records

NAMES = st.sampled_from([b"p", b"q", b"-", b"\xff"])
PATHS = st.builds(lambda *names: b"/".join(names), NAMES, NAMES, NAMES, NAMES)
FIELDS = st.none() | st.builds(
    lambda status, beat: {
        b"status": status.value.encode(),
        b"started_at": b"1.5",
        **({b"heartbeat_at": repr(beat).encode()} if beat is not None else {}),
        **({b"chips": b"8"} if status is JobStatus.RUNNING else {}),
    },
    st.sampled_from(JobStatus),
    st.none() | st.floats(0, 100),
)
CHANGES = st.lists(st.tuples(PATHS, FIELDS), max_size=30)


def change(records: Records, expected: ExpectedSizes, path: bytes, fields: Fields | None) -> None:
    known = records.pop(path, None)
    expected.move(path, known.fields if known else None, fields)
    if fields is not None:
        records[path] = Record(fields, b"1")


def by_hand(records: Records) -> dict[bytes, int]:
    members: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for path, record in records.items():
        for entry in entries_of(path, record.fields):
            members[entry.key].add(entry.member)
    return {key: len(found) for key, found in members.items()}


@given(CHANGES, CHANGES, st.floats(0, 100))
def test_expected_sizes_kept_up_equal_a_count_of_everything(
    before: list[tuple[bytes, Fields | None]],
    after: list[tuple[bytes, Fields | None]],
    since: float,
) -> None:
    records: Records = {}
    expected = ExpectedSizes()
    for path, fields in before:
        change(records, expected, path, fields)
    assert expected.sizes(records) == by_hand(records)
    for path, fields in after:
        change(records, expected, path, fields)
    assert expected.sizes(records) == by_hand(records)
    fresh = {
        path: 8
        for path, record in records.items()
        if record.fields[b"status"] == b"running"
        and float(record.fields.get(b"heartbeat_at", b"-1")) >= since
    }
    assert expected.chips(since, ()) == sum(fresh.values())
    assert expected.chips(since, fresh.keys()) == 0


@given(CHANGES, st.sets(PATHS))
def test_expected_share_of_some_jobs_is_what_the_others_lack(
    changes: list[tuple[bytes, Fields | None]], some: set[bytes]
) -> None:
    """Without them, the indexes are as large as those of the others."""
    records: Records = {}
    for path, fields in changes:
        change(records, ExpectedSizes(), path, fields)
    expected = ExpectedSizes()
    sizes, share = expected.sizes(records), expected.share(records, some)
    others = {path: record for path, record in records.items() if path not in some}
    for key, size in sizes.items():
        if not key.startswith((b"projects", b"groups:")):
            assert size - share[key] == by_hand(others).get(key, 0)
