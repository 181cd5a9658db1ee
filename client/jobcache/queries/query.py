"""A query: what is asked of the server, step by step, without the I/O.

A query is a generator: it yields what to ask and is sent the reply, until it returns the answer. The sync and the
async client drive the same queries.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from jobcache.schema.scripts import Command, Script

T = TypeVar("T")


class Run(NamedTuple):
    """Run a script in one step on the server; the reply is what the script returns."""

    script: Script
    keys: tuple[bytes, ...]
    args: tuple[bytes | str | int, ...] = ()
    renews: bool = False
    """Whether another part of a long answer begins, for which the deadline begins anew."""


class Ask(NamedTuple):
    """Send one plain command."""

    args: Command
    renews: bool = False
    """As of ``Run``."""


class Pause(NamedTuple):
    """Wait some seconds; the reply is how many have passed since the query began. The deadline begins anew."""

    seconds: float


Step: TypeAlias = Run | Ask | Pause
Query: TypeAlias = Generator[Step, Any, T]
