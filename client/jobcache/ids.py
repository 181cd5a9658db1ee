"""A job's identity: the path of its directory, whatever bytes the names hold.

A name is handed out as valid Unicode, so that it can be written as JSON, put into a link and found again. A byte XX
that is no UTF-8 stands as U+EF00+XX, a code point for private use. So does each byte of a real code point of U+EF00 to
U+EFFF, so that no two names look alike. A name is taken in that form, and as ``os.fsdecode`` gives it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from jobcache.arguments import require_type

LONGEST_NAME = 255
"""Bytes of the longest name that a directory can bear."""
_RESERVED = frozenset({"", ".", ".."})
_BYTES = range(0x80, 0x100)
_SHOWN_BYTES = {0xDC00 + byte: 0xEF00 + byte for byte in _BYTES}
"""From the lone surrogates that ``surrogateescape`` makes (PEP 383) to what is handed out."""
_ESCAPED_BYTES = {shown: escaped for escaped, shown in _SHOWN_BYTES.items()}
_AMBIGUOUS = re.compile("[\uef00-\uefff]")


class JobId(NamedTuple):
    """Project, group, name and run id: the four directory names below the status directory.

    ``str`` gives them as one text with slashes, which a link may hold once it is quoted. Every name survives the round
    trip to text and back; see this module for names that are no UTF-8.
    """

    project: str
    group: str
    name: str
    run_id: str

    def __str__(self) -> str:
        return "/".join(self)

    @property
    def path(self) -> bytes:
        """The path relative to the status directory. ``/`` cannot occur in a name, so no id can be forged."""
        return encode_name("/".join(self))

    @classmethod
    def of(cls, project: str, group: str, name: str, run_id: str) -> JobId | None:
        """The id with these names, as they are handed out; None when no directory can bear one of them.

        Raises:
            TypeError: one of them is no text.
        """
        job = cls(project, group, name, run_id)
        try:
            if not _RESERVED.isdisjoint(job):
                return None
            path = job.path
        except UnicodeEncodeError:
            return None
        except TypeError:
            for argument, value in zip(cls._fields, job, strict=True):
                require_type(argument, value, str)
            raise
        if path.count(b"/") != 3 or b"\0" in path:
            return None
        return job if path.isascii() else cls.from_path(path)

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
    """A directory name, or a path, as the filesystem holds it.

    Raises:
        UnicodeEncodeError: it holds a lone surrogate that stands for no byte.
    """
    if name.isascii():
        return name.encode()
    return name.translate(_ESCAPED_BYTES).encode("utf-8", "surrogateescape")


def decode_name(name: bytes) -> str:
    """The ``str`` form of a directory name, or of a path."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return _AMBIGUOUS.sub(_bytes_of, text).translate(_SHOWN_BYTES)


def _bytes_of(ambiguous: re.Match[str]) -> str:
    return "".join(chr(0xEF00 + byte) for byte in ambiguous[0].encode())


def valid_text(text: str) -> str:
    """Text out of a JSON document, which may hold any lone surrogate, as valid Unicode.

    One that stands for a byte becomes what it is in a name, any other the escape that JSON has for it.
    """
    return text.translate(_SHOWN_BYTES).encode("utf-8", "backslashreplace").decode()


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
