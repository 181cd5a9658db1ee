"""The W&B address in a log."""

from __future__ import annotations

import time

import pytest

from jobcache_refresher.scan.logs import LONGEST_LINE, LogSearch, find_address

URL = "https://wandb.ai/lab/p/runs/1"


def line(url: str = URL) -> bytes:
    return f"\x1b[1mWANDB | project=p run_id=r url={url}\x1b[0m\n".encode()


@pytest.mark.parametrize(
    "text",
    [
        line(),
        b"noise\n" + line() + b"more\n" + line("https://other"),
        f"WANDB | url={URL}".encode(),
        f"\x1b[32mWANDB\x1b[0m | run_id=r url=\x1b[4m{URL}\x1b[24m after\n".encode(),
        b"WANDB without one\n" + line(),
        b"\xff\xfe WANDB " + line(),
    ],
)
def test_found(text: bytes) -> None:
    assert find_address(text) == URL


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"WANDB | url=\n",
        f"url={URL}\n".encode(),
        b"WANDB | url=ftp://x\n",
        b"WANDB\nurl=" + line()[40:],
    ],
)
def test_not_found(text: bytes) -> None:
    assert find_address(text) is None


def test_linear_in_the_length() -> None:
    began = time.perf_counter()
    assert find_address(b"WANDB url=" * 400_000) is None
    assert find_address(b"WANDB\n" * 400_000) is None
    assert time.perf_counter() - began < 5


class TestSearch:
    def feed(self, search: LogSearch, text: bytes, chunk: int, *, ended: bool = False) -> int:
        """Feed a growing log as the scanner does; returns how many bytes were read in all."""
        read = 0
        for _ in range(10_000):
            data = text[search.scanned or 0 :][: min(chunk, search.wants(1 << 20))]
            before = search.scanned
            search.feed(len(text), data, ended=ended)
            read += len(data)
            if search.url or search.scanned == before:
                break
        return read

    @pytest.mark.parametrize("chunk", [200, 1000, 8192])
    def test_across_chunks(self, chunk: int) -> None:
        search = LogSearch()
        self.feed(search, b"some line of a log\n" * 500 + line(), chunk)
        assert search.url == URL

    def test_a_line_that_is_still_written_is_not_believed(self) -> None:
        search = LogSearch()
        whole = line()
        self.feed(search, whole[:-12], 8192)
        assert search.url is None
        self.feed(search, whole, 8192)
        assert search.url == URL

    def test_the_last_line_of_a_run_that_ended(self) -> None:
        search = LogSearch()
        self.feed(search, line().rstrip(b"\n"), 8192, ended=True)
        assert search.url == URL

    def test_never_read_again_once_found(self) -> None:
        search = LogSearch()
        self.feed(search, line(), 8192)
        assert search.wants(1 << 20) == 0

    def test_capped(self) -> None:
        search = LogSearch()
        read = self.feed(search, b"x" * (2 << 20), 256 << 10)
        assert read <= 1 << 20
        assert search.wants(1 << 20) == 0
        assert search.url is None

    def test_a_long_line_is_passed_over(self) -> None:
        search = LogSearch()
        self.feed(search, b"y" * (LONGEST_LINE * 20) + b"\n" + line(), 8192)
        assert search.url == URL

    def test_a_log_that_was_cut_or_replaced_starts_over(self) -> None:
        search = LogSearch()
        self.feed(search, b"first\n" * 100, 8192)
        self.feed(search, line(), 8192)
        self.feed(search, line(), 8192)
        assert search.url == URL

    def test_an_empty_log_is_a_log(self) -> None:
        search = LogSearch()
        search.feed(0, b"", ended=False)
        assert search.scanned == 0
