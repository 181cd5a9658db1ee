"""What is known of a run's log, and what a change of it means. Pure.

A log is known again by a digest: of its first bytes, and of the bytes before the place where the search goes on. A log
that is shorter than the place where the search goes on, or whose digest differs, is another log: it was cut, replaced,
or rotated. Inode, size and modification time only say when to look. An inode alone proves nothing, since some
filesystems give a new one each time.

The run is requeued if ``start_time`` or ``slurm_job_id`` in its ``metadata.json`` changed. It is remade if only its
directory has another inode: then it may be another run, or the same one that was moved and copied back.

========== ======================= ================================ =============================================
run        log                     the search                       the address that was found
========== ======================= ================================ =============================================
same       same, or grown          goes on until one is found       stays
same       another one (rotated)   from its head                    stays until the new log names one
same       gone                    waits for a log                  stays
requeued   same, or grown          from its size when the run was   stays until the log names another one there,
                                   last read (``LogMark.border``)   since W&B may continue the same run, or until
                                                                    the log is another one, or gone
requeued   another one             from its head                    goes
requeued   gone                    waits for a log                  goes
remade     same, or grown          goes on until one is found       stays
remade     another one             from its head                    goes
remade     gone                    waits for a log                  goes
========== ======================= ================================ =============================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import NamedTuple
from zlib import crc32

from jobcache_refresher.scan.address import count_searchable, find_addresses

_PUBLISHED = re.compile(rb"(\d+:){3}[0-2](:\d+){2}:(?P<sign>-?\d+)")
"""A mark, and the sign of the log, as a job's hash holds them."""

KNOWN_BY = 256
"""Bytes from the head of a log, and bytes before the place where the search goes on, that it is known by."""

NEVER = float("-inf")
NOBODY = 0
"""The owner of a log before its run was read."""
ABSENT = 0
"""The sign of a log that is not there."""
UNKNOWN = -1
"""The sign of a log that must be looked at again."""


class Relation(Enum):
    """What a run is to the one whose log was looked at before."""

    SAME = auto()
    REQUEUED = auto()
    REMADE = auto()


class Stage(Enum):
    """What may still become of a log."""

    LIVE = auto()
    """It is written to, and so is ``metadata.json``."""
    SILENT = auto()
    """The run says ``running``, but there is no recent heartbeat."""
    ENDED = auto()
    """The run has ended. Its last line counts as whole, also without a line end."""


class Address(IntEnum):
    """Where the address that a run has was found."""

    ELSEWHERE = 0
    """Nowhere yet, or in an earlier log of the run."""
    HERE = 1
    """In this log, for this run."""
    EARLIER_RUN = 2
    """In this log, for the run before a requeued one. It stays until this log, or another one, tells more."""


class LogMark(NamedTuple):
    """How far the search in one log has come, and what the log is known by."""

    searched: int = 0
    """Bytes of this log that were searched for this run."""
    offset: int = 0
    """Where in the log the search goes on, in bytes."""
    border: int = 0
    """The log's size in bytes when the run's changed ``metadata.json`` was last read. A later run's lines follow it."""
    address: Address = Address.ELSEWHERE
    inode: int = 0
    digest: int = 0
    """CRC-32 of the log's head and of the bytes before ``offset``."""

    @classmethod
    def parse(cls, text: bytes) -> LogMark | None:
        """The mark that ``encode`` wrote, or None."""
        try:
            numbers = [int(number) for number in text.split(b":")[:6]]
            searched, offset, border, address, inode, digest = numbers
            mark = cls(searched, offset, border, Address(address), inode, digest)
        except ValueError:
            return None
        return mark if min(numbers) >= 0 else None

    def encode(self) -> bytes:
        """The mark as text."""
        return b"%d:%d:%d:%d:%d:%d" % self

    def wants(self, cap: int) -> int:
        """How many more bytes may be searched, of ``cap`` in all."""
        return 0 if self.address is Address.HERE else max(0, cap - self.searched)


class LogPart(NamedTuple):
    """What was read of a log."""

    size: int
    inode: int
    head: bytes
    """The first ``KNOWN_BY`` bytes, or all that there are."""
    before: bytes
    """The ``KNOWN_BY`` bytes before ``data``, or all that there are."""
    data: bytes
    """What follows the mark's offset."""

    def is_of(self, mark: LogMark) -> bool:
        """Whether this is the log that the mark was made of."""
        if mark.offset == 0:
            return True
        whole = self.size >= mark.offset
        return whole and _digest_of(self.head[: mark.offset], self.before) == mark.digest


@dataclass(slots=True)
class LogSearch:
    """What is known of the log of one run."""

    known: bytes | None = None
    """The mark of the log as text; None while there is no log."""
    url: bytes | None = None
    """The address, as UTF-8."""
    sign: int = ABSENT
    """What shows that the log, or its directory, may have changed since it was last looked at: equal or not."""
    owner: int = NOBODY
    """Which run wrote it; see ``owner_of``."""
    directory: int = 0
    """Inode of the directory that it was last looked at in; 0 if that is not known."""
    problem: str | None = None
    """Why the log is not read, or could not be; None if that is well."""
    began_at: float = NEVER
    """Monotonic time at which the search began: when the log came, or was first missed."""
    news_at: float = NEVER
    """Monotonic time at which a look last told something new."""
    looked_at: float = NEVER
    """Monotonic time of the last look."""

    @property
    def mark(self) -> LogMark | None:
        """The mark of the log; None while there is no log."""
        return None if self.known is None else LogMark.parse(self.known)

    def is_done(self, cap: int) -> bool:
        """Whether the address was found, or as much was searched as may be."""
        mark = self.mark
        return mark is not None and mark.wants(cap) == 0

    def fields(self) -> dict[bytes, bytes]:
        """What a job's hash says of it."""
        fields = {}
        if self.url is not None:
            fields[b"wandb_url"] = self.url
        if self.known is not None:
            fields[b"log_scanned"] = self.known
        return fields

    def recall(self, fields: Mapping[bytes, bytes]) -> None:
        """Take over what a job's hash says of it."""
        self.url, known = fields.get(b"wandb_url"), fields.get(b"log_scanned")
        self.owner = owner_of(fields)
        if known is None:
            return
        published = _PUBLISHED.fullmatch(known)
        if published:
            self.known, self.sign = known, int(published["sign"])
        else:
            self.sign = UNKNOWN  # another program wrote it

    def relation_to(self, owner: int, directory: int) -> Relation:
        """What the run that owns the directory now is to the one whose log was looked at before."""
        if self.owner not in {NOBODY, owner}:
            return Relation.REQUEUED
        return Relation.SAME if self.directory in {0, directory} else Relation.REMADE

    def resume(self, part: LogPart, relation: Relation, cap: int) -> LogMark:
        """Where the search goes on, and drop an address that is another run's: the table of this module."""
        mark = self.mark
        if mark is None or not part.is_of(mark):
            self._leave_log(relation)
            return LogMark()
        if relation is Relation.REQUEUED:
            # What was written before the border is the earlier run's. More than the cap is not searched.
            border = mark.border if part.size - mark.border <= cap else part.size - cap
            return LogMark(offset=max(0, border), address=Address.EARLIER_RUN)
        return mark

    def keep(self, mark: LogMark, sign: int) -> None:
        """Take over what a look at the log made of it."""
        self.known, self.sign = b"%b:%d" % (mark.encode(), sign), sign

    def lose(self, relation: Relation, sign: int) -> None:
        """There is no log, or none that is read: the table of this module."""
        self._leave_log(relation)
        self.known, self.sign = None, sign

    def _leave_log(self, relation: Relation) -> None:
        mark = self.mark
        is_of_earlier_run = mark is not None and mark.address is Address.EARLIER_RUN
        if relation is not Relation.SAME or is_of_earlier_run:
            self.url = None

    def note_look(self, now: float, *, is_new: bool, is_news: bool) -> None:
        """Note when it was looked at, whether that was the first look at this log, and whether it told anything new."""
        self.looked_at = now
        if is_new or self.began_at == NEVER:
            self.began_at = self.news_at = now
        elif is_news:
            self.news_at = now


def owner_of(fields: Mapping[bytes, bytes]) -> int:
    """What tells one run of a directory from the next, by the fields of its hash: never ``NOBODY``."""
    names = (fields.get(b"start_time", b""), fields.get(b"slurm_job_id", b""))
    return 1 + crc32(b"\0".join(names))


def advance(
    mark: LogMark, part: LogPart, cap: int, stage: Stage, unlike: bytes | None = None
) -> tuple[LogMark, bytes | None]:
    """Search what was read of a log; returns the mark after it, and the address that was found or None.

    Args:
        mark: of the same log.
        part: what was read of it, at most as much as the mark wants.
        cap: bytes that are searched in all.
        stage: of the run.
        unlike: an address that is passed over, since it is an earlier run's.
    """
    data = part.data
    at_end = mark.offset + len(data) >= part.size
    searchable = len(data) if stage is Stage.ENDED and at_end else count_searchable(data)
    # Of the last line before the cap, the rest will not be read.
    passed = len(data) if len(data) >= mark.wants(cap) else searchable
    url = next(
        (
            found
            for address in find_addresses(data[:searchable])
            if (found := address.encode()) != unlike
        ),
        None,
    )
    offset = mark.offset + passed
    last = data[max(0, passed - KNOWN_BY) : passed]
    before = last if len(last) == KNOWN_BY else (part.before + last)[-KNOWN_BY:]
    return (
        LogMark(
            mark.searched + passed,
            offset,
            mark.border,
            mark.address if url is None else Address.HERE,
            part.inode,
            _digest_of(part.head[:offset], before),
        ),
        url,
    )


def _digest_of(head: bytes, before: bytes) -> int:
    return crc32(before, crc32(head))
