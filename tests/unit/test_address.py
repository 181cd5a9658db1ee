"""The address of a W&B run in the text of a log."""

from __future__ import annotations

import time

import pytest

from jobcache_refresher.scan.address import (
    LONGEST_ADDRESS,
    LONGEST_LINE,
    count_searchable,
    find_address,
    find_addresses,
)

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
        b"\x1b[1G.." * 5000 + line()[:-1] + b"\x1b[1G.." * 5000,
        b"WANDB without one " + b"." * 2 * LONGEST_LINE + line(),
        b"url=https://not.this/one WANDB " + line(),
        b"WANDB" + b"." * (LONGEST_LINE - 40) + line(),
    ],
)
def test_find_address_of_the_producer_s_line_wherever_it_stands(text: bytes) -> None:
    assert find_address(text) == URL


@pytest.mark.parametrize(
    "text",
    [
        f"wandb: \N{ROCKET} View run happy-1 at: {URL}",
        f"wandb: \N{ROCKET} View run at {URL}",
        f"wandb: Run page: {URL}",
        f"wandb: View run happy at: {URL}.",
        f"[rank0]: wandb: View run happy at: {URL}",
        f"\x1b[34m\x1b[1mwandb\x1b[0m: View run \x1b[33mhappy\x1b[0m at: \x1b[34m\x1b[4m{URL}\x1b[0m",
        f"wandb: View project at https://wandb.ai/lab/p\nwandb: View run happy at {URL}",
        f"wandb: View project at https://wandb.ai/lab/runs/\nwandb: View run happy at {URL}",
        f"wandb: View run https://evil.org/runs/2 at: {URL}",
        f"wandb: View run happy at: {URL}\nWANDB | url=https://other/runs/2",
        f"WANDB | url={URL}\nwandb: View run happy at: https://other/runs/2",
    ],
)
def test_find_address_of_what_wandb_prints(text: str) -> None:
    assert find_address(text.encode()) == URL


@pytest.mark.parametrize(
    "address",
    [
        "https://wandb.example.org/t/p/runs/a1",
        "http://wandb.local:8080/t/p/runs/a1",
        "http://[::1]:8080/t/p/runs/a1",
        "https://wandb.ai/t/p/runs/a1?n=\u00fc&m=(x)",
        "HTTPS://wandb.ai/t/p/runs/a1",
        "https://wandb.ai/t/p/runs/" + "a" * (LONGEST_ADDRESS - 26),
    ],
)
def test_find_address_of_any_server_is_whole(address: str) -> None:
    assert find_address(f"WANDB | name url={address}\n".encode()) == address
    if "/runs/a1" in address:
        assert find_address(f"wandb: Run page: {address}\n".encode()) == address


@pytest.mark.parametrize(
    "around",
    [
        "url={}, project=p",
        "url={},project=p",
        "url={};project=p",
        "url='{}'",
        'url="{}"}}',
        "(url={})",
        "url=({}).",
        "[url={}]",
        "url=<{}>",
        "url={}. Have fun",
        "url={}!",
        "url={}\\n",
        "url={}|next",
        "url={}\x08\x08\x08",
        "url={}\x07",
        "url={}\x00",
        "url={}\x1b(B\x1b[m",
        "url={}\x1b[K",
        "url={}\x1b[2K\x1b[1Gnext",
        "url={}\u3000next",
        "url=\x1b]8;;https://link.org\x1b\\{}\x1b]8;;\x1b\\",
        "url=\x1b]8;;https://link.org\x07{}\x1b]8;;\x07",
    ],
)
def test_find_address_without_what_stands_around_it(around: str) -> None:
    assert find_address(f"WANDB | {around.format(URL)}\n".encode()) == URL


@pytest.mark.parametrize("place", [8, 12, 20, len(URL) - 1])
def test_find_address_with_colours_within_it(place: int) -> None:
    coloured = URL[:place] + "\x1b[1;31m" + URL[place:]
    assert find_address(f"WANDB | url={coloured}\n".encode()) == URL


def test_find_address_before_bytes_that_are_no_text() -> None:
    assert find_address(b"WANDB | url=" + URL.encode() + b"\xff\xfe\n") == URL


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"WANDB | url=\n",
        f"url={URL}\n".encode(),
        b"WANDB | url=ftp://x\n",
        b"WANDB | url=javascript:alert(1)//https://x\n",
        b"WANDB | url=https://\n",
        b"WANDB | url=https:///runs/1\n",
        b"WANDB | url=https:// x\n",
        "WANDB | url=https://x/\u202eruns\n".encode(),
        b"WANDB | url=https://x/" + b"a" * LONGEST_ADDRESS + b"\n",
        b"WANDB\nurl=" + line()[40:],
        f"WANDB\rurl={URL}\n".encode(),
        f"WANDB\nurl={URL}\n".encode(),
        f"wandb: url={URL}\n".encode(),
        b"wandb: View project at: https://wandb.ai/lab/p\n",
        f"wandb: View project at: {URL}\n".encode(),
        b"wandb: View run happy at: https://wandb.ai/lab/p\n",
        f"View run happy at: {URL}\n".encode(),
        f"wandb View run happy at: {URL}\n".encode(),
        b"WANDB " + b"." * (LONGEST_LINE - 40) + f" url={URL}".encode() + b"." * LONGEST_LINE,
    ],
)
def test_find_address_of_anything_else_is_none(text: bytes) -> None:
    assert find_address(text) is None


def test_find_addresses_gives_each_line_s() -> None:
    text = line() + b"step\n" + line("https://other") + f"wandb: Run page: {URL}\n".encode()
    assert list(find_addresses(text)) == [URL, "https://other", URL]


@pytest.mark.parametrize("before", range(0, 2 * LONGEST_LINE, 97))
def test_find_address_in_a_line_without_an_end(before: int) -> None:
    text = b"wandb " + b"." * before + line()[:-1] + b" " + b"." * LONGEST_LINE
    assert find_address(text) == URL


MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    "piece",
    [
        b"WANDB url=",
        b"WANDB url=https://x/",
        b"WANDB\n",
        b"WANDB\r",
        b"WANDB https://\n",
        b"WANDBWANDB" + b"." * 4090,
        b"WANDB://\x1b[",
        b"WANDB://\x1b]",
        b"wandb:",
        b"wandb:://",
        b"wandb: View run https:// ",
        b"wandb: View run https://x/runs/1 \n",
        b"wandb: View run https://x/runs/)))))))",
        b"wandb" + b" " * 4000 + b"://",
        b"://",
    ],
)
def test_find_address_is_linear(piece: bytes) -> None:
    def took(text: bytes) -> float:
        began = time.perf_counter()
        for _ in find_addresses(text):
            pass
        return time.perf_counter() - began

    assert took(piece * (MEGABYTE // len(piece))) < 5


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (b"no end", 0),
        (b"one\ntwo", 4),
        (b"one\rtwo", 4),
        (b"." * (LONGEST_LINE + 1), LONGEST_LINE + 1),
        (b"." * LONGEST_LINE + b"WAN", LONGEST_LINE),
        (b"." * LONGEST_LINE + b"wandb: View", LONGEST_LINE),
        (b"." * LONGEST_LINE + b"wandb: View run at https://wandb", LONGEST_LINE),
        (b"." * LONGEST_LINE + b"WANDB | url=" + b"." * LONGEST_LINE, 2 * LONGEST_LINE + 12),
        (b"WANDB" + b"." * LONGEST_LINE, LONGEST_LINE + 5),
    ],
)
def test_count_searchable_leaves_a_line_that_may_go_on(data: bytes, count: int) -> None:
    assert count_searchable(data) == count
