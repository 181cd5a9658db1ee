"""What a job's hash says of the file that it was read from: which state of the file, and how it was read. Pure.

As text it is ``mtime:ctime:size:inode[:tag[:racy]]``. The tag names the way in which files are read (program, zone,
settings); it is missing in what an older program wrote. The last field is ``~`` if an equal fingerprint does not prove
equal content. Fields after these are for programs to come, and are passed over.
"""

from __future__ import annotations

from typing import NamedTuple

from jobcache_refresher.scan.tree import Fingerprint

RACY = b"~"


class Identity(NamedTuple):
    """Which state of a file was read, and how."""

    fingerprint: Fingerprint | None
    """None if the text names none."""
    tag: bytes
    """Names the way in which it was read; empty if that is not known."""
    racy: bool
    """Whether the file changed so shortly before it was read that an equal fingerprint proves nothing."""


def encode(fingerprint: Fingerprint, tag: bytes, racy: bool = False) -> bytes:
    """The identity as text; ``tag`` holds no colon."""
    text = fingerprint.encode()
    if racy:
        return b"%b:%b:%b" % (text, tag, RACY)
    return b"%b:%b" % (text, tag) if tag else text


def decode(text: bytes) -> Identity:
    """The identity that ``encode`` wrote. Nothing is raised: what cannot be read is unknown, and racy."""
    fingerprint = Fingerprint.parse(text)
    if fingerprint is None:
        return Identity(None, b"", True)
    tag, racy = [*text.split(b":")[4:6], b"", b""][:2]
    return Identity(fingerprint, tag, racy == RACY)
