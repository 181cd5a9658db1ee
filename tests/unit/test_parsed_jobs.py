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


class TestParsedJobCache:
    def test_parsed_jobs_entry_is_good_for_one_revision_of_one_epoch(self) -> None:
        cache, job = ParsedJobCache(1 << 20), parsed()
        cache.put(b"p", b"e", b"7", job)
        assert cache.get(b"p", b"e", b"7") is job
        assert cache.get(b"p", b"e", b"8") is None
        assert cache.get(b"p", b"e", b"6") is None
        assert cache.get(b"p", b"f", b"7") is None
        assert cache.known_revision(b"p") == b"7"
        assert cache.known_revision(b"q") == b""

    def test_parsed_jobs_of_two_epochs_are_not_mixed_up(self) -> None:
        """One is still reading when another has met a new epoch, in which revisions begin anew."""
        cache, old, new = ParsedJobCache(1 << 20), parsed(), parsed()
        cache.put(b"p", b"new", b"7", new)
        cache.put(b"p", b"old", b"7", old)
        assert cache.get(b"p", b"new", b"7") is not old
        cache.note_answer("query", KnownAnswer(b"old", 7, "found"), 1)
        known = cache.known_answer("query")
        assert known is not None
        assert known.epoch == b"old", "so that the server is asked by it"

    def test_parsed_jobs_are_bounded_and_the_used_ones_stay(self) -> None:
        size = parsed().size
        cache = ParsedJobCache(size * 20)
        cache.put(b"used", b"e", b"1", parsed())
        for number in range(200):
            cache.put(b"%d" % number, b"e", b"1", parsed())
            assert cache.get(b"used", b"e", b"1") is not None
        kept = sum(cache.get(b"%d" % number, b"e", b"1") is not None for number in range(200))
        assert 1 <= kept <= 22

    def test_parsed_jobs_answers_are_bounded(self) -> None:
        cache = ParsedJobCache(8000)
        for number in range(1000):
            cache.note_answer(number, KnownAnswer(b"e", 7, number), 100)
            assert cache.known_answer(number) == KnownAnswer(b"e", 7, number)
        kept = sum(cache.known_answer(number) is not None for number in range(1000))
        assert 1 <= kept <= 11
        cache.note_answer("large", KnownAnswer(b"e", 7, None), 1000)
        assert cache.known_answer("large") is None

    def test_parsed_jobs_of_no_bytes_remember_nothing(self) -> None:
        cache = ParsedJobCache(0)
        cache.put(b"p", b"e", b"1", parsed())
        cache.note_answer("query", KnownAnswer(b"e", 7, "found"), 1)
        assert cache.get(b"p", b"e", b"1") is None
        assert cache.known_answer("query") is None
