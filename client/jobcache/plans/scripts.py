"""Server-side scripts: one short Lua file an operation, run in one step by the server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jobcache.codec import JOB_FIELDS

_HEADER = ("jobcache", "header")


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, the SHA-1 that names it on the server, and whether it only reads."""

    name: str
    source: str
    sha: str
    read_only: bool


def load_script(
    package: str,
    name: str,
    *,
    preludes: tuple[tuple[str, str], ...],
    read_only: bool,
    constants: str = "",
) -> Script:
    """Read ``lua/<name>.lua`` of a package, behind constants and preludes (each of these a package and a name)."""
    source = "\n".join([constants, *(_read(*part) for part in (*preludes, (package, name)))])
    digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, digest, read_only)


@cache
def read_script(name: str) -> Script:
    """A script of the client that only reads."""
    return load_script("jobcache", name, preludes=(_HEADER,), read_only=True)


@cache
def read_jobs_script(name: str) -> Script:
    """A script of the client that reads fields of jobs, in the order of ``JOB_FIELDS``."""
    # A part of the script, since as arguments they would travel with every query.
    fields = ", ".join(f"'{field.decode()}'" for field in JOB_FIELDS)
    return load_script(
        "jobcache",
        name,
        preludes=(_HEADER, ("jobcache", "reading")),
        read_only=True,
        constants=f"local JOB_FIELDS = {{{fields}}}\n",
    )


@cache
def write_script(name: str) -> Script:
    """A script of the client that writes."""
    return load_script(
        "jobcache", name, preludes=(_HEADER, ("jobcache", "entries")), read_only=False
    )


def _read(package: str, name: str) -> str:
    return files(package).joinpath("lua", f"{name}.lua").read_text("utf-8")
