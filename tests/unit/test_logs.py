"""What is known of a log, how the search in it goes on, and what becomes of an address."""

from __future__ import annotations

import pytest

from jobcache_refresher.scan.address import LONGEST_LINE
from jobcache_refresher.scan.logs import (
    ABSENT,
    KNOWN_BY,
    NOBODY,
    UNKNOWN,
    Address,
    LogMark,
    LogPart,
    LogSearch,
    Relation,
    Stage,
    advance,
    owner_of,
)

CAP = 1 << 20
URL = b"https://wandb.ai/lab/p/runs/1"
OTHER = b"https://wandb.ai/lab/p/runs/2"
INODE = 7


def line(url: bytes = URL) -> bytes:
    return b"\x1b[1mWANDB | project=p run_id=r url=%b\x1b[0m\n" % url


BAR = b"".join(b"\rSteps: %5d/400 [%s] 3.1it/s" % (n, b"#" * 50) for n in range(400))


def part_of(text: bytes, mark: LogMark, length: int = CAP) -> LogPart:
    """What a look at a log reads that follows a mark."""
    before = text[max(0, mark.offset - KNOWN_BY) : mark.offset]
    data = text[mark.offset : mark.offset + min(length, mark.wants(CAP))]
    return LogPart(len(text), INODE, text[:KNOWN_BY], before, data)


class Searched:
    """A log that is searched while it grows."""

    def __init__(self, cap: int = CAP) -> None:
        self.cap = cap
        self.mark = LogMark()
        self.url: bytes | None = None
        self.read = 0

    def feed(self, text: bytes, chunk: int, stage: Stage = Stage.LIVE) -> None:
        """Search what a log holds now as far as it leads, a chunk at a time."""
        for _ in range(10_000):
            before = self.mark
            part = part_of(text, before, min(chunk, before.wants(self.cap)))
            assert part.is_of(before)
            self.read += len(part.data)
            self.mark, url = advance(before, part, self.cap, stage)
            self.url = url or self.url
            if self.mark.searched == before.searched or self.mark.offset >= len(text):
                break


@pytest.fixture
def searched() -> Searched:
    return Searched()


class TestAdvance:
    @pytest.mark.parametrize("chunk", [200, 1000, 8192])
    def test_across_chunks_finds(self, searched: Searched, chunk: int) -> None:
        searched.feed(b"some line of a log\n" * 500 + line(), chunk)
        assert searched.url == URL
        assert searched.mark.address is Address.HERE

    @pytest.mark.parametrize("before", range(8192 - 100, 8192 + 20))
    @pytest.mark.parametrize("filler", [b".", b"\r"])
    @pytest.mark.parametrize("form", [line(), b"wandb: View run n at: %b\n" % URL])
    def test_across_chunks_in_a_line_without_an_end_finds(
        self, searched: Searched, before: int, filler: bytes, form: bytes
    ) -> None:
        searched.feed(filler * before + form + b"." * 10_000, 8192)
        assert searched.url == URL

    def test_a_bar_that_is_still_written_is_searched(self, searched: Searched) -> None:
        """Its last line has no end for as long as it moves."""
        text = b""
        for piece in (BAR, b"\r" + line()[:-20], line()[-20:-1], b"\r", BAR):
            text += piece
            searched.feed(text, 8192)
        assert searched.url == URL

    def test_a_line_that_is_still_written_is_not_believed(self, searched: Searched) -> None:
        searched.feed(line()[:-12], 8192)
        assert searched.url is None
        searched.feed(line(), 8192)
        assert searched.url == URL

    @pytest.mark.parametrize(
        ("stage", "found"), [(Stage.LIVE, None), (Stage.SILENT, None), (Stage.ENDED, URL)]
    )
    def test_a_last_line_without_its_end_is_whole_once_the_run_has_ended(
        self, searched: Searched, stage: Stage, found: bytes | None
    ) -> None:
        searched.feed(line().rstrip(b"\n"), 8192, stage)
        assert searched.url == found

    def test_a_chunk_that_cuts_an_address_does_not_end_it(self) -> None:
        text = b"x" * 99 + b"\n" + line()
        mark, url = advance(
            LogMark(), part_of(text, LogMark(), 99 + len(line()) - 8), CAP, Stage.ENDED
        )
        assert url is None
        _, url = advance(mark, part_of(text, mark), CAP, Stage.ENDED)
        assert url == URL

    def test_once_found_wants_nothing(self, searched: Searched) -> None:
        searched.feed(line(), 8192)
        assert searched.mark.wants(CAP) == 0

    def test_no_more_than_the_cap_is_read(self, searched: Searched) -> None:
        searched.feed(b"x" * (2 << 20), 256 << 10)
        assert searched.read <= CAP
        assert searched.mark.wants(CAP) == 0
        assert searched.url is None

    @pytest.mark.parametrize("text", [b"a line\n" * 40, b"x" * 300, line()[:-5] + b"x" * 300])
    def test_the_cap_ends_the_search_also_within_a_line(self, text: bytes) -> None:
        searched = Searched(cap=60)
        searched.feed(text, 8192)
        assert searched.mark.wants(60) == 0
        assert searched.mark.searched == 60
        assert searched.url is None

    def test_a_long_line_is_passed_over(self, searched: Searched) -> None:
        searched.feed(b"y" * (LONGEST_LINE * 20) + b"\n" + line(), 8192)
        assert searched.url == URL

    def test_an_address_of_an_earlier_run_is_passed_over(self) -> None:
        part = part_of(line() + line(OTHER), LogMark())
        assert advance(LogMark(), part, CAP, Stage.LIVE, URL)[1] == OTHER
        mark, url = advance(LogMark(), part_of(line(), LogMark()), CAP, Stage.LIVE, URL)
        assert (mark.address, url) == (Address.ELSEWHERE, None)


FIRST = b"".join(b"first log, line %d\n" % n for n in range(100))


def mark_of(text: bytes) -> LogMark:
    """The mark of a log that was searched whole."""
    return advance(LogMark(), part_of(text, LogMark()), CAP, Stage.LIVE)[0]


class TestIsOf:
    @pytest.mark.parametrize(
        ("text", "then", "same"),
        [
            (FIRST, FIRST, True),
            (FIRST, FIRST + line(), True),
            (FIRST, FIRST[:-30], False),
            (FIRST, b"", False),
            (FIRST, b"second" + FIRST, False),
            (FIRST, b"F" + FIRST[1:], False),
            (FIRST, FIRST[:-2] + b"F\n", False),
            # Equal lines: the one in between moves all that follow.
            (b"step\n" * 100, b"step\n" * 50 + line() + b"step\n" * 400, False),
            (b"step\n" * 100, line() + b"step\n" * 400, False),
            (b"step\n" * 100, b"step\n" * 500, True),
            (b"short\n", b"short\nand more\n", True),
            (b"short\n", b"shirt\nand more\n", False),
            (b"", b"", True),
            (b"", FIRST, True),
        ],
    )
    def test_a_log_is_known_by_its_head_and_by_what_was_searched_last(
        self, text: bytes, then: bytes, same: bool
    ) -> None:
        mark = mark_of(text)
        assert part_of(then, mark).is_of(mark) is same

    @pytest.mark.parametrize("inode", [0, 1, 2**63])
    def test_an_inode_alone_proves_nothing(self, inode: int) -> None:
        mark = mark_of(FIRST)
        assert part_of(FIRST + line(), mark)._replace(inode=inode).is_of(mark)

    def test_a_log_is_known_again_while_it_grows(self, searched: Searched) -> None:
        for length in range(0, 1000, 7):
            searched.feed(FIRST[:length], 100)  # asserts that each part is of the mark


def search_with(text: bytes, *, border: int | None = None) -> LogSearch:
    """What is known of a log that was searched whole, and that named ``URL`` or nothing."""
    mark = mark_of(text)
    search = LogSearch(url=URL if URL in text else None, owner=1, directory=5)
    search.keep(mark._replace(border=len(text) if border is None else border), 9)
    return search


FOUND = line() + FIRST


class TestRule:
    """The table of the module, row by row."""

    @pytest.mark.parametrize(
        ("owner", "directory", "relation"),
        [
            (1, 5, Relation.SAME),
            (2, 5, Relation.REQUEUED),
            (1, 6, Relation.REMADE),
            (2, 6, Relation.REQUEUED),
        ],
    )
    def test_relation_to(self, owner: int, directory: int, relation: Relation) -> None:
        assert search_with(FOUND).relation_to(owner, directory) is relation

    def test_relation_to_what_is_not_known_is_the_same(self) -> None:
        assert LogSearch().relation_to(1, 5) is Relation.SAME
        assert LogSearch(owner=1).relation_to(1, 5) is Relation.SAME

    @pytest.mark.parametrize(
        ("relation", "log", "offset", "url"),
        [
            (Relation.SAME, FOUND, len(FOUND), URL),
            (Relation.SAME, FOUND + FIRST, len(FOUND), URL),
            (Relation.SAME, FIRST, 0, URL),
            (Relation.SAME, b"", 0, URL),
            (Relation.REQUEUED, FOUND, len(FOUND), URL),
            (Relation.REQUEUED, FOUND + FIRST, len(FOUND), URL),
            (Relation.REQUEUED, FIRST, 0, None),
            (Relation.REQUEUED, b"", 0, None),
            (Relation.REMADE, FOUND, len(FOUND), URL),
            (Relation.REMADE, FOUND + FIRST, len(FOUND), URL),
            (Relation.REMADE, FIRST, 0, None),
        ],
    )
    def test_resume(self, relation: Relation, log: bytes, offset: int, url: bytes | None) -> None:
        search = search_with(FOUND)
        assert search.mark is not None
        mark = search.resume(part_of(log, search.mark), relation, CAP)
        assert (mark.offset, search.url) == (offset, url)
        done = relation is not Relation.REQUEUED and url is not None and offset > 0
        assert (mark.wants(CAP) == 0) is done

    @pytest.mark.parametrize(
        ("relation", "url"),
        [(Relation.SAME, URL), (Relation.REQUEUED, None), (Relation.REMADE, None)],
    )
    def test_lose(self, relation: Relation, url: bytes | None) -> None:
        search = search_with(FOUND)
        search.lose(relation, ABSENT)
        assert (search.known, search.url, search.sign) == (None, url, ABSENT)
        assert search.resume(part_of(FIRST, LogMark()), Relation.SAME, CAP) == LogMark()
        assert search.url == url

    @pytest.mark.parametrize("then", [FIRST, b"", None])
    def test_an_address_of_an_earlier_run_goes_with_its_log(self, then: bytes | None) -> None:
        """The requeued run writes ``metadata.json`` first, and its log a moment later."""
        search = search_with(FOUND)
        assert search.mark is not None
        mark = search.resume(part_of(FOUND, search.mark), Relation.REQUEUED, CAP)
        mark, _ = advance(mark, part_of(FOUND, mark), CAP, Stage.LIVE, search.url)
        search.keep(mark, 9)
        assert search.url == URL
        if then is None:
            search.lose(Relation.SAME, ABSENT)
        else:
            assert search.resume(part_of(then, mark), Relation.SAME, CAP) == LogMark()
        assert search.url is None

    def test_a_requeued_run_is_searched_from_the_border(self) -> None:
        search = search_with(FOUND + line(OTHER), border=len(FOUND))
        assert search.mark is not None
        part = part_of(FOUND + line(OTHER), search.mark)
        assert search.resume(part, Relation.REQUEUED, CAP).offset == len(FOUND)

    def test_no_more_than_the_cap_is_searched_behind_the_border(self) -> None:
        search = search_with(FOUND)
        assert search.mark is not None
        part = part_of(FOUND + FIRST, search.mark)
        assert search.resume(part, Relation.REQUEUED, 100).offset == len(FOUND + FIRST) - 100


class TestPublished:
    @pytest.mark.parametrize("sign", [ABSENT, UNKNOWN, 1, 2**32])
    @pytest.mark.parametrize("address", Address)
    def test_what_a_hash_says_is_recalled(self, sign: int, address: Address) -> None:
        search = search_with(FOUND)
        search.keep(LogMark(1, 2, 3, address, 2**64 - 1, 2**32 - 1), sign)
        names = {b"start_time": b"now", b"slurm_job_id": b"1"}
        again = LogSearch()
        again.recall({**names, **search.fields()})
        assert (again.known, again.url, again.sign) == (search.known, URL, sign)
        assert again.owner == owner_of(names)
        assert again.mark == LogMark(1, 2, 3, address, 2**64 - 1, 2**32 - 1)

    def test_a_hash_without_a_log_says_so(self) -> None:
        search = LogSearch()
        search.recall({b"start_time": b"now"})
        assert (search.known, search.url, search.sign) == (None, None, ABSENT)
        assert search.fields() == {}

    @pytest.mark.parametrize(
        "text", [b"65536", b"", b"x:1:2:0:1:2:3", b"-1:1:2:0:1:2:3", b"1:1:2:9:1:2:3", b"1:2:3:x"]
    )
    def test_what_another_version_wrote_is_searched_anew(self, text: bytes) -> None:
        search = LogSearch()
        search.recall({b"wandb_url": URL, b"log_scanned": text})
        assert (search.known, search.url, search.sign) == (None, URL, UNKNOWN)

    @pytest.mark.parametrize(
        ("fields", "same"),
        [
            ({b"start_time": b"a", b"slurm_job_id": b"1"}, True),
            ({b"start_time": b"a", b"slurm_job_id": b"1", b"status": b"failed"}, True),
            ({b"start_time": b"b", b"slurm_job_id": b"1"}, False),
            ({b"start_time": b"a", b"slurm_job_id": b"2"}, False),
            ({b"start_time": b"a"}, False),
            ({}, False),
        ],
    )
    def test_owner_of(self, fields: dict[bytes, bytes], same: bool) -> None:
        owner = owner_of({b"start_time": b"a", b"slurm_job_id": b"1"})
        assert (owner_of(fields) == owner) is same
        assert owner_of(fields) != NOBODY
