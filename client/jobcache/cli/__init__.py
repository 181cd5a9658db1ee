"""The entry of the ``jobcache`` program, and what every program of this project does alike.

One rule of errors: one line on stderr, ``<program>: <what>``, never a traceback or a password, and an exit code of
``Exit``. The commands themselves need the extra ``cli``; this module does not, so that a base install can say so.
"""

from __future__ import annotations

import os
import re
import sys
from enum import IntEnum
from importlib import import_module
from typing import Any, NoReturn

from jobcache.errors import (
    CacheNotReady,
    CacheUnavailable,
    ConfigError,
    JobCacheError,
    SchemaMismatch,
)


class Exit(IntEnum):
    """Exit codes of the programs."""

    OK = 0
    FAILED = 1
    """``get`` or ``delete`` of an absent job, a failed ``check``, or anything without a code of its own."""
    USAGE = 2
    UNAVAILABLE = 3
    NOT_READY = 4
    SCHEMA = 5
    INTERRUPTED = 130


EXIT_CODES = """\b
Exit codes:
  0  ok
  1  {failed}
  2  usage or configuration
  3  Redis unavailable
  4  no refresher has completed a scan
  5  the cache is of another schema version
"""
"""Part of the help of every program; ``\\b`` keeps its lines apart."""

_CODES: tuple[tuple[type[JobCacheError], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (CacheUnavailable, Exit.UNAVAILABLE),
    (CacheNotReady, Exit.NOT_READY),
    (SchemaMismatch, Exit.SCHEMA),
)
_LIBRARIES = {"click", "rich"}
_PASSWORD = re.compile(r"(://[^\s:@/]*):[^\s@]+@")


def main() -> NoReturn:
    """Run ``jobcache``."""
    run_program("jobcache", "jobcache.cli.commands", extra="cli")


def run_program(program: str, module: str, *, extra: str) -> NoReturn:
    """Run the click group ``root`` of a module, and exit.

    Args:
        program: its name, for messages.
        module: where ``root`` is; it may need what ``extra`` installs.
        extra: the extra to name when that is missing.
    """
    try:
        code = _invoke(program, import_module(module).root)
    except ModuleNotFoundError as missing:
        library = (missing.name or "").partition(".")[0]
        if library not in _LIBRARIES:
            raise
        complain(program, f"{library} is not installed: install jobcache with the extra '{extra}'")
        code = Exit.USAGE
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    sys.exit(code)


def complain(program: str, message: str) -> None:
    """Say what is wrong, in one line on stderr."""
    masked = _PASSWORD.sub(r"\1:***@", message)
    sys.stderr.write(f"{program}: {printable(' '.join(masked.splitlines()))}\n")


def emit(text: str) -> None:
    """Write to stdout.

    Raises:
        SystemExit: the reader has closed the pipe; it had what it wanted.
    """
    try:
        sys.stdout.buffer.write(text.encode(sys.stdout.encoding, "backslashreplace"))
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.OK)


def printable(text: str) -> str:
    """The text with everything escaped that a terminal might act on, or could not show.

    Names of directories and fields of JSON are whatever somebody wrote: line ends, escape sequences, marks that turn
    the direction of writing, bytes that are no UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF or 0xEF80 <= code <= 0xEFFF:  # a byte of a file name: see ids
        return f"\\x{code & 0xFF:02x}"
    return char.encode("unicode_escape").decode()


def exit_code(error: JobCacheError) -> Exit:
    """The exit code that an error stands for."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILED)


def _invoke(program: str, root: Any) -> int:
    import click

    try:
        return int(root.main(prog_name=program, standalone_mode=False) or Exit.OK)
    except click.Abort:
        return Exit.INTERRUPTED
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = program if context is None else context.command_path
        complain(program, f"{error.format_message()} See '{command} --help'.")
        return Exit.USAGE
    except JobCacheError as error:
        complain(program, str(error))
        return exit_code(error)
