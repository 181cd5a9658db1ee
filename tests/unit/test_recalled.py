"""What published jobs say of the tree."""

from __future__ import annotations

import pytest

from jobcache.schema.job import FINGERPRINT
from jobcache_refresher.clock import Clock
from jobcache_refresher.records import Fields, Record
from jobcache_refresher.scan.identity import encode
from jobcache_refresher.scan.recalled import UNKNOWN, RecalledTree
from jobcache_refresher.scan.tree import Fingerprint

PATH = b"p/g/n/r"
SEEN = Fingerprint(1_700_000_000_500_000_000, 1_700_000_001_000_000_000, 2345, 987654)
TAG = b"k3Zq"


@pytest.fixture
def recalled() -> RecalledTree:
    return RecalledTree(Clock(time=lambda: 5000.0), TAG)


def record(fingerprint: bytes, **fields: bytes) -> Record:
    named: Fields = {name.encode(): value for name, value in fields.items()}
    return Record({b"status": b"completed", FINGERPRINT: fingerprint, **named}, b"1")


@pytest.mark.parametrize(
    ("text", "fingerprint", "racy", "outdated"),
    [
        (encode(SEEN, TAG), SEEN, False, False),
        (encode(SEEN, TAG, racy=True), SEEN, True, False),
        (encode(SEEN, TAG, racy=True) + b":more", SEEN, True, False),
        (encode(SEEN, b"else"), SEEN, False, True),
        (encode(SEEN, b"else", racy=True), SEEN, True, True),
        # An older program wrote no tag.
        (encode(SEEN, b""), SEEN, False, True),
        (b"", UNKNOWN, True, True),
        (b"1:2:3:x:" + TAG, UNKNOWN, True, True),
    ],
)
def test_move_of_a_published_job_recalls_how_its_file_was_read(
    recalled: RecalledTree, text: bytes, fingerprint: Fingerprint, racy: bool, outdated: bool
) -> None:
    recalled.move(PATH, record(text))
    snapshot = recalled.take()
    run = snapshot.runs[PATH]
    assert (run.fingerprint, run.racy) == (fingerprint, racy)
    assert run.changed_at == fingerprint.mtime_ns / 1e9
    assert (PATH in snapshot.outdated) is outdated


@pytest.mark.parametrize(
    ("fields", "beat"),
    [
        ({"status": b"running", "heartbeat_at": b"4000.5"}, 4000.5),
        ({"status": b"running"}, None),
        ({"status": b"failed", "heartbeat_at": b"4000.5"}, None),
    ],
)
def test_move_of_a_published_job_recalls_its_heartbeat_while_it_runs(
    recalled: RecalledTree, fields: dict[str, bytes], beat: float | None
) -> None:
    recalled.move(PATH, record(encode(SEEN, TAG), **fields))
    assert recalled.take().runs[PATH].beat == beat


def test_move_of_a_published_job_recalls_its_log(recalled: RecalledTree) -> None:
    known = {"log_scanned": b"7:7:7:1:5:9:3", "wandb_url": b"https://w/1"}
    recalled.move(PATH, record(encode(SEEN, TAG), **known))
    fields = recalled.take().runs[PATH].log.fields()
    assert fields[b"log_scanned"] == known["log_scanned"]
    assert fields[b"wandb_url"] == known["wandb_url"]


def test_move_of_what_another_refresher_read_anew_ends_that_it_is_outdated(
    recalled: RecalledTree,
) -> None:
    recalled.move(PATH, record(encode(SEEN, b"else")))
    recalled.move(PATH, record(encode(SEEN, TAG)))
    assert recalled.take().outdated == set()


def test_move_of_a_job_that_is_gone_leaves_a_directory_that_may_become_one_again(
    recalled: RecalledTree,
) -> None:
    recalled.move(PATH, None)
    recalled.move(PATH, record(encode(SEEN, b"else")))
    recalled.move(PATH, None)
    snapshot = recalled.take()
    run = snapshot.runs[PATH]
    assert (run.fingerprint, run.changed_at) == (None, 5000.0)
    assert snapshot.outdated == set()


def test_take_and_begin_leave_nothing_behind(recalled: RecalledTree) -> None:
    recalled.move(PATH, record(encode(SEEN, b"else")))
    assert recalled.take().runs.keys() == {PATH}
    recalled.move(PATH, record(encode(SEEN, b"else")))
    recalled.begin()
    snapshot = recalled.take()
    assert (snapshot.runs, snapshot.outdated) == ({}, set())
