"""What a process remembers of jobs."""

from __future__ import annotations

from jobcache import JobMetadata, JobStatus
from jobcache.queries.parsed_jobs import KnownAnswer, ParsedJobCache
from jobcache.schema.job import ParsedJob
from tests.unit.encoding import values_of

JOB = JobMetadata(
    name="n",
    project="p",
    group="g",
    run_id="r",
    status=JobStatus.RUNNING,
)


def parsed(job: JobMetadata = JOB) -> ParsedJob:
    return ParsedJob(job.id, values_of(job, log_scanned=1))


class TestMemo:
    def test_good_for_one_revision_of_one_epoch_only(self) -> None:
        memo, job = ParsedJobCache(1 << 20), parsed()
        memo.put(b"p", b"e", b"7", job)
        assert memo.get(b"p", b"e", b"7") is job
        assert memo.get(b"p", b"e", b"8") is None
        assert memo.get(b"p", b"e", b"6") is None
        assert memo.get(b"p", b"f", b"7") is None
        assert memo.known_revision(b"p") == b"7"
        assert memo.known_revision(b"q") == b""

    def test_threads_in_two_epochs_do_not_mix_them_up(self) -> None:
        """One is still reading when another has met a new epoch, in which revisions begin anew."""
        memo, old, new = ParsedJobCache(1 << 20), parsed(), parsed()
        memo.put(b"p", b"new", b"7", new)
        memo.put(b"p", b"old", b"7", old)
        assert memo.get(b"p", b"new", b"7") is not old
        memo.note_answer("query", KnownAnswer(b"old", 7, "found"), 1)
        known = memo.known_answer("query")
        assert known is not None
        assert known.epoch == b"old", "so that the server is asked by it"

    def test_bounded_and_the_used_stay(self) -> None:
        size = parsed().size
        memo = ParsedJobCache(size * 20)
        memo.put(b"used", b"e", b"1", parsed())
        for number in range(200):
            memo.put(b"%d" % number, b"e", b"1", parsed())
            assert memo.get(b"used", b"e", b"1") is not None
        kept = sum(memo.get(b"%d" % number, b"e", b"1") is not None for number in range(200))
        assert 1 <= kept <= 22

    def test_answers_are_bounded(self) -> None:
        memo = ParsedJobCache(8000)
        for number in range(1000):
            memo.note_answer(number, KnownAnswer(b"e", 7, number), 100)
            assert memo.known_answer(number) == KnownAnswer(b"e", 7, number)
        kept = sum(memo.known_answer(number) is not None for number in range(1000))
        assert 1 <= kept <= 11
        memo.note_answer("large", KnownAnswer(b"e", 7, None), 1000)
        assert memo.known_answer("large") is None

    def test_none_at_all(self) -> None:
        memo = ParsedJobCache(0)
        memo.put(b"p", b"e", b"1", parsed())
        memo.note_answer("query", KnownAnswer(b"e", 7, "found"), 1)
        assert memo.get(b"p", b"e", b"1") is None
        assert memo.known_answer("query") is None
