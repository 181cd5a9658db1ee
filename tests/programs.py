"""The project's programs as a shell runs them: as processes, also on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

JOBCACHE = (sys.executable, "-c", "from jobcache.cli import main; main()")
REFRESHER = (sys.executable, "-c", "from jobcache_refresher.cli import main; main()")
TIMEOUT = 20.0

Args = Sequence[str | bytes]
Result = subprocess.CompletedProcess[str]


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without settings of the project, plus these variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("JOBCACHE_") and name not in {"REDIS_URL", "COLUMNS", "NO_COLOR"}
    }
    return {**kept, "TERM": "xterm-256color", "TZ": "UTC", **variables}


def run(program: Args, *args: str | bytes, env: Mapping[str, str] | None = None) -> Result:
    """Run a program to its end."""
    return subprocess.run(
        [*program, *args],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
        env=environment(**(env or {})),
        timeout=TIMEOUT,
        check=False,
    )


def run_on_terminal(program: Args, *args: str | bytes, columns: int = 80) -> tuple[int, str]:
    """Run a program with stdout and stderr on a terminal; its exit code, and all that it wrote."""
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [*program, *args],
            stdin=subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            env=environment(),
        )
        os.close(slave)
        written = b"".join(_read_all(master))
        return process.wait(TIMEOUT), written.decode().replace("\r\n", "\n")
    finally:
        os.close(master)


def _read_all(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # EIO: the other side is closed
            return
        if not data:
            return
        yield data


@contextmanager
def started(
    program: Args, *args: str | bytes, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program that runs beside the test, and is killed at its end if need be."""
    with subprocess.Popen(
        [*program, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**(env or {})),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(stream: IO[str] | None, text: str) -> str:
    """Read lines up to the one that holds a text, and return them all."""
    assert stream is not None
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} is not in {lines}")


def wait_for(what: Callable[[], bool], timeout: float = 10.0) -> None:
    """Return once something holds."""
    ends = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second if it ends between open and read
        return False


def assert_one_line(result: Result, program: str, *parts: str, code: int) -> None:
    """The program ended with this code and one line on stderr that holds these parts, and nothing on stdout."""
    assert result.returncode == code, result
    assert result.stderr.startswith(f"{program}: "), result
    assert result.stderr.count("\n") == 1, result
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr
    assert result.stdout == ""
    for part in parts:
        assert part in result.stderr
