"""Server-side scripts: one short Lua file an operation, run in one step by the server.

Names of fields are told to Lua as constants (``META.epoch``, ``JOB.rev``, ``FEED.change``), so that they stand in this
package alone. A name that does not exist makes the script fail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeAlias

from jobcache.schema import meta
from jobcache.schema.header import HEADER_FIELDS
from jobcache.schema.job import CHIPS, JOB_FIELDS, REV, RUNNING
from jobcache.schema.keys import LEASE, META
from jobcache.schema.streams import DELETE, FEED_CHANGE, FEED_ID, REQUEST, REQUEST_ID

Command: TypeAlias = tuple[bytes | str | float, ...]
"""A plain command and its arguments."""

PACKAGE = __package__ or ""
"""Whose ``lua`` folder holds the scripts of clients, and what all scripts begin with."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, the SHA-1 that names it on the server, and whether it only reads."""

    name: str
    source: str
    sha: str
    read_only: bool


def load_script(
    name: str, *, preludes: tuple[str, ...], read_only: bool, package: str = PACKAGE
) -> Script:
    """Read a script with what stands before it.

    Args:
        name: of the file ``lua/<name>.lua``.
        preludes: names of files that stand before it; those that its own package lacks are of this one.
        read_only: whether the script only reads.
        package: whose file it is.
    """
    parts = [_constants(), *(_read(package, part) for part in (*preludes, name))]
    source = "\n".join(parts)
    digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, digest, read_only)


@cache
def read_script(name: str) -> Script:
    """A script of the client that only reads."""
    return load_script(name, preludes=("header",), read_only=True)


@cache
def read_jobs_script(name: str) -> Script:
    """A script of the client that reads fields of jobs, in the order of ``JOB_FIELDS``."""
    return load_script(name, preludes=("header", "reading"), read_only=True)


@cache
def listing_script(name: str) -> Script:
    """A script of the client that lists jobs out of the union of some indexes."""
    return load_script(name, preludes=("header", "reading", "merge"), read_only=True)


@cache
def _constants() -> str:
    tables = {
        "META": {field.name: field.name for field in meta.FIELDS},
        "JOB": {name.decode(): name.decode() for name in (REV, CHIPS, *JOB_FIELDS)},
        "KEY": {"meta": META.decode(), "lease": LEASE.decode()},
        "FEED": {"change": FEED_CHANGE.decode(), "id": FEED_ID.decode()},
        "REQUEST": {
            "request": REQUEST.decode(),
            "id": REQUEST_ID.decode(),
            "delete": DELETE.decode(),
        },
    }
    lines = [f"local {name} = {_table(entries)}" for name, entries in tables.items()]
    lines.append(f"local JOB_RUNNING = '{RUNNING.decode()}'")
    lines.append(f"local HEADER_FIELDS = {_list(HEADER_FIELDS)}")
    lines.append(f"local JOB_FIELDS = {_list(field.decode() for field in JOB_FIELDS)}\n")
    return "\n".join(lines)


def _list(names: Iterable[str]) -> str:
    return "{" + ", ".join(f"'{name}'" for name in names) + "}"


def _table(entries: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name} = '{value}'" for name, value in entries.items()) + "}"


@cache
def _read(package: str, name: str) -> str:
    for one in (package, PACKAGE):
        file = files(one).joinpath("lua", f"{name}.lua")
        if file.is_file():
            return file.read_text("utf-8")
    raise FileNotFoundError(f"lua/{name}.lua")
