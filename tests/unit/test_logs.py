"""The W&B address in a log."""

from __future__ import annotations

import time

import pytest

from jobcache_refresher.scan.logs import LONGEST_LINE, LogSearch, find_address

URL = "https://wandb.ai/lab/p/runs/1"


def line(url: str = URL) -> bytes:
    return f"\x1b[1mWANDB | project=p run_id=r url={url}\x1b[0m\n".encode()


BAR = b"".join(b"\rSteps: %5d/400 [%s] 3.1it/s" % (n, b"#" * 50) for n in range(400))


@pytest.mark.parametrize(
    "text",
    [
        line(),
        b"noise\n" + line() + b"more\n" + line("https://other"),
        f"WANDB | url={URL}".encode(),
        f"\x1b[32mWANDB\x1b[0m | run_id=r url=\x1b[4m{URL}\x1b[24m after\n".encode(),
        b"WANDB without one\n" + line(),
        b"\xff\xfe WANDB " + line(),
        BAR + b"\n" + line(),
        BAR + b"\r" + line() + BAR,
        BAR[:3000] + b"\r" + line(),
        line().replace(b"\n", b"\r") + BAR,
        b"hello\r\n" + line().replace(b"\n", b"\r\n"),
        b"hello\r" + line().replace(b"\n", b"\r"),
        # Without any end of a line: the cursor is moved instead.
        b"\x1b[1G.." * 5000 + line() + b"\x1b[1G.." * 5000,
        b"WANDB without one " + b"." * 2 * LONGEST_LINE + line(),
        b"url=https://not.this/one WANDB " + line(),
        b"WANDB" + b"." * (LONGEST_LINE - 40) + line(),
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
        f"WANDB\rurl={URL}\n".encode(),
        f"WANDB\nurl={URL}\n".encode(),
        b"WANDB " + b"." * (LONGEST_LINE - 40) + f" url={URL}".encode() + b"." * LONGEST_LINE,
    ],
)
def test_not_found(text: bytes) -> None:
    assert find_address(text) is None


def test_linear_in_the_length() -> None:
    began = time.perf_counter()
    assert find_address(b"WANDB url=" * 400_000) is None
    assert find_address(b"WANDB\n" * 400_000) is None
    assert find_address(b"WANDB\r" * 400_000) is None
    assert find_address((b"WANDBWANDB" + b"." * 4090) * 500) is None
    assert find_address(b"WANDB\x1b[" * 400_000) is None
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

    @pytest.mark.parametrize("before", range(8192 - 100, 8192 + 20))
    @pytest.mark.parametrize("filler", [b".", b"\r"])
    def test_across_chunks_in_a_line_without_an_end(self, before: int, filler: bytes) -> None:
        search = LogSearch()
        self.feed(search, filler * before + line() + b"." * 10_000, 8192)
        assert search.url == URL

    def test_a_bar_that_is_still_written(self) -> None:
        """Its last line has no end for as long as it moves."""
        search, text = LogSearch(), b""
        for piece in (BAR, b"\r" + line()[:-20], line()[-20:-1], b"\r", BAR):
            text += piece
            self.feed(search, text, 8192)
        assert search.url == URL

    def test_a_line_that_is_still_written_is_not_believed(self) -> None:
        search = LogSearch()
        whole = line()
        self.feed(search, whole[:-12], 8192)
        assert search.url is None
        self.feed(search, whole, 8192)
        assert search.url == URL

    def test_a_carriage_return_ends_a_line(self) -> None:
        search = LogSearch()
        self.feed(search, line().replace(b"\n", b"\r"), 8192)
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
