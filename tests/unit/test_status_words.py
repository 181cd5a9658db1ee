"""Which status each word of a scheduler or tracker means."""

from __future__ import annotations

import pytest

from jobcache import JobStatus
from jobcache.errors import ConfigError
from jobcache_refresher.status_words import STATUS_WORDS, plain, read_status_words, status_of

MEANT = {
    JobStatus.RUNNING: ["running", "RUNNING", "Running", " running ", "R U N N I N G", "JobState.RUNNING"]
    + ["COMPLETING", "STAGE_OUT", "in-progress", "InProgress", "preempting", "active"],
    JobStatus.COMPLETED: ["completed", "Completed", "COMPLETE", "finished", "FINISHED", "done", "DONE"]
    + ["Succeeded", "SUCCEEDED", "success"],
    JobStatus.FAILED: ["failed", "FAILED", "TIMEOUT", "timed out", "OUT_OF_MEMORY", "OutOfMemory", "OUT_OF_ME+"]
    + ["NODE_FAIL", "BOOT_FAIL", "DEADLINE", "crashed", "killed", "OOMKilled", "Error", "CrashLoopBackOff"],
    JobStatus.PREEMPTED: ["preempted", "PREEMPTED", "Evicted"],
    JobStatus.UNKNOWN: ["unknown", "UNKNOWN", "CANCELLED", "CANCELLED by 1000", "PENDING", "queued", "stopped"]
    + ["SUSPENDED", "paused", "REQUEUED", "", " ", "_", "läuft", "not running", "failedover"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("word", "status"), [(word, status) for status, words in MEANT.items() for word in words]
)
def test_status_of_a_word_is_what_its_writer_means(word: str, status: JobStatus) -> None:
    assert status_of(word, STATUS_WORDS) is status


def test_plain_makes_one_of_all_ways_to_write_a_word() -> None:
    ways = [
        "OUT_OF_MEMORY",
        "OutOfMemory",
        "out-of-memory",
        " Out Of Memory\n",
        "State.OUT_OF_MEMORY",
    ]
    assert {plain(word) for word in ways} == {"outofmemory"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", {}),
        (" , ", {}),
        ("Läuft=running", {"läuft": JobStatus.RUNNING}),
        ("hung-up=failed, CANCELLED = preempted,", {"hungup": JobStatus.FAILED, "cancelled": JobStatus.PREEMPTED}),
        ("killed=unknown", {"killed": JobStatus.UNKNOWN}),
    ],
)  # fmt: skip
def test_read_status_words_of_an_operators_text_are_its_pairs(
    text: str, words: dict[str, JobStatus]
) -> None:
    assert read_status_words(text) == words


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("paused", "'paused' is not of the form word=status"),
        ("=failed", "'=failed' is not of the form word=status"),
        ("--=failed", "'--=failed' is not of the form word=status"),
        ("ok=completed,paused", "'paused' is not of the form word=status"),
        ("paused=idle", "'idle' is no status; use one of running, completed, failed, preempted, unknown"),
        ("paused=", "'' is no status"),
        ("paused=Failed", "'Failed' is no status"),
        ("Running=failed", "'Running' is a status itself"),
    ],
)  # fmt: skip
def test_read_status_words_of_a_bad_text_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_status_words(text)
    assert why in str(refused.value)
    assert repr(text) in str(refused.value)
