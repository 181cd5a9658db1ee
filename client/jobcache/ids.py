"""A job's identity: the path of its directory, whatever bytes the names hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LONGEST_NAME = 255
"""Bytes of the longest name that a directory can bear."""
_RESERVED = frozenset({"", ".", ".."})


class JobId(NamedTuple):
    """Project, group, name and run id: the four directory names below the status directory.

    The names are ``str`` as ``os.fsdecode`` gives them on a UTF-8 system: a byte that is no UTF-8 stands
    as a lone surrogate (PEP 383), so every name survives the round trip.
    """

    project: str
    group: str
    name: str
    run_id: str

    @property
    def path(self) -> bytes:
        """The path relative to the status directory. ``/`` cannot occur in a name, so no id can be forged."""
        return "/".join(self).encode("utf-8", "surrogateescape")

    @classmethod
    def of(cls, project: str, group: str, name: str, run_id: str) -> JobId | None:
        """The id with these names, or None when no directory can bear one of them."""
        job = cls(project, group, name, run_id)
        if not _RESERVED.isdisjoint(job):
            return None
        try:
            path = job.path
        except UnicodeEncodeError:
            return None
        return None if path.count(b"/") != 3 or b"\0" in path else job

    @classmethod
    def read(cls, path: bytes) -> JobId | None:
        """The id of a path that anybody may have written, or None when no directory can be there."""
        names = path.split(b"/")
        if len(names) != 4 or any(len(name) > LONGEST_NAME for name in names):
            return None
        return cls.of(*map(decode_name, names))

    @classmethod
    def from_path(cls, path: bytes) -> JobId:
        """The id of a relative path of four names.

        Raises:
            ValueError: the path does not have four names.
        """
        project, group, name, run_id = decode_name(path).split("/")
        return cls(project, group, name, run_id)


def encode_name(name: str) -> bytes:
    """A directory name as the filesystem holds it."""
    return name.encode("utf-8", "surrogateescape")


def decode_name(name: bytes) -> str:
    """The ``str`` form of a directory name."""
    return name.decode("utf-8", "surrogateescape")


def decode_names(names: Sequence[bytes]) -> list[str]:
    """``decode_name`` of each, in one piece: half the time. No name holds a slash."""
    return decode_name(b"/".join(names)).split("/") if names else []


def is_name(name: str) -> bool:
    """Whether a directory can bear this name."""
    if name in _RESERVED or "/" in name or "\0" in name:
        return False
    try:
        encode_name(name)
    except UnicodeEncodeError:
        return False
    return True
