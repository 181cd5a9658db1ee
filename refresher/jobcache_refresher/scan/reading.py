"""From a run's directory to the fields of its hash: fingerprint, read if it changed, parse, search the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TypeAlias

from jobcache.models import JobStatus
from jobcache.schema.job import FINGERPRINT, LOG_NAME, METADATA_NAME, RUNNING, encode_description
from jobcache_refresher.clock import Clock
from jobcache_refresher.records import Fields
from jobcache_refresher.scan.descriptors import DescriptorCache, Descriptors
from jobcache_refresher.scan.identity import encode
from jobcache_refresher.scan.parse import UnparsableError, parse_metadata
from jobcache_refresher.scan.racy import is_racy
from jobcache_refresher.scan.rules import Rules
from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.snapshot import NEVER, KnownRun
from jobcache_refresher.scan.tree import ElsewhereError, Fingerprint, TornReadError, Tree

log = logging.getLogger(__name__)

METADATA = METADATA_NAME.encode()
LOG = LOG_NAME.encode()

LOG_CHUNK = 256 << 10
"""Most bytes of one log that one look searches, after its head."""
LOG_HEAD = 16 << 10
"""Bytes of a log that are searched first: the address usually stands early."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A run as it was just read: the fields of its hash, the fingerprint among them."""

    fields: Fields
    fingerprint: Fingerprint
    racy: bool
    beat: float | None
    """Last heartbeat in epoch seconds if it says ``running``, else None."""
    remark: str | None
    """What was not taken as it is written, in one line; None if all was."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A run that could not be read."""

    reason: str
    passing: bool
    """Whether the file was caught in the middle of being written, so that a second look may do."""


class Unchanged:
    """A run whose fingerprint is the same, or that has no file yet."""


UNCHANGED = Unchanged()


class FileMissing:
    """A run's directory, listed whole, lacks the file that it had."""


class DirectoryMissing:
    """A run's directory is not where it was."""


Finding: TypeAlias = Reading | Trouble | Unchanged | FileMissing | DirectoryMissing


class Reader:
    """Looks at one run at a time; safe to be called from several threads, for different runs.

    Args:
        tree: the status directory.
        descriptors: descriptors of the directories of live runs.
        rules: how files are read.
        clock: what time it is.
        schedule: how often a log without news is looked at.
        settle: seconds for which the filesystem may show old attributes.
        metadata_cap: largest ``metadata.json`` that is read, in bytes.
        log_cap: bytes of a log that are searched in all.
    """

    def __init__(
        self,
        tree: Tree,
        descriptors: DescriptorCache,
        rules: Rules,
        clock: Clock,
        schedule: Schedule,
        *,
        settle: float,
        metadata_cap: int,
        log_cap: int,
    ) -> None:
        self._tree = tree
        self._descriptors = descriptors
        self._rules = rules
        self._clock = clock
        self._schedule = schedule
        self._settle = settle
        self._metadata_cap = metadata_cap
        self._log_cap = log_cap
        self.behind = 0.0
        """Seconds, none or more, by which this machine's clock is behind the one by which staleness is judged."""

    def examine(self, run: KnownRun, *, forced: bool, live: bool, inodes: bool = True) -> Finding:
        """Look at a run; read it if its fingerprint changed or cannot be trusted yet, or if that is forced.

        ``inodes`` is False where inode numbers prove nothing.
        """
        try:
            return self._look(run, forced, live, inodes)
        except FileNotFoundError:
            return self._look_for_file(run)
        except (NotADirectoryError, ElsewhereError):
            return DirectoryMissing()
        except TornReadError as error:
            return Trouble(f"cannot be read: {error}", passing=True)
        except OSError as error:
            return Trouble(f"cannot be read: {error.strerror or error}", passing=False)
        except UnparsableError as error:
            return Trouble(f"{METADATA_NAME} is no job: {error}", passing=True)
        except Exception as error:
            return Trouble(f"{METADATA_NAME} cannot be kept: {error!r}", passing=False)

    def _look(self, run: KnownRun, forced: bool, live: bool, inodes: bool) -> Finding:
        trusted = run.fingerprint is not None and not run.racy and run.trouble is None
        known = run.fingerprint if trusted and not forced else None
        if not live:
            self._descriptors.drop(run.path)
        elif descriptors := self._descriptors.of(run.path, run.inode):
            try:
                return self._look_through(run, known, descriptors, inodes)
            except OSError:
                # What a held directory says may be of the past; the path decides.
                self._descriptors.drop(run.path)
        same = known is not None and self._tree.fingerprint(run.path, METADATA).matches(
            known, inodes=inodes
        )
        # A live run writes its file again, and its log is searched then.
        if same and (live or not self._log_changed(run)):
            return UNCHANGED
        return self._read(run, None, live, inodes)

    def _look_through(
        self, run: KnownRun, known: Fingerprint | None, descriptors: Descriptors, inodes: bool
    ) -> Finding:
        if known is not None:
            held = self._descriptors.fingerprint(descriptors)
            if held is not None and held.matches(known, inodes=inodes):
                return UNCHANGED
            if held is None and self._tree.fingerprint(
                run.path, METADATA, descriptors.directory
            ).matches(known, inodes=inodes):
                self._descriptors.renew(descriptors, METADATA)
                return UNCHANGED
        reading = self._read(run, descriptors.directory, True, inodes)
        self._descriptors.renew(descriptors, METADATA)
        return reading

    def _read(self, run: KnownRun, held: int | None, live: bool, inodes: bool) -> Reading:
        read_at = self._clock.time()
        fingerprint, raw = self._tree.read_whole(run.path, METADATA, self._metadata_cap, held)
        job, remark = parse_metadata(
            raw,
            self._rules.zone,
            fingerprint.mtime_ns / 1e9,
            now=read_at + self.behind,
            words=self._rules.words,
        )
        runs = job.status is JobStatus.RUNNING
        self._search_log(run, held, ended=not runs)
        fields = encode_description(job, wandb_url=run.log.url, log_scanned=run.log.scanned)
        racy = self._is_racy(run, fingerprint, read_at, live, inodes)
        # A live run writes its file again soon: that it has settled is not worth a write of its own.
        settled_only = live and run.racy and fingerprint == run.fingerprint
        # A remark is not published. So the next leader reads the run again, as one that was read otherwise.
        tag = b"" if remark else self._rules.tag
        fields[FINGERPRINT] = encode(fingerprint, tag, racy or settled_only)
        return Reading(fields, fingerprint, racy, job.heartbeat_at if runs else None, remark)

    def _is_racy(
        self, run: KnownRun, fingerprint: Fingerprint, read_at: float, live: bool, inodes: bool
    ) -> bool:
        met_before = fingerprint.matches(run.fingerprint, inodes=inodes)
        # A live run was looked at in the poll before; a poll may begin late.
        witnessed = live and run.fingerprint is not None and not met_before
        return is_racy(
            (fingerprint.mtime_ns, fingerprint.ctime_ns),
            seen_at=read_at,
            known_for=self._clock.monotonic() - run.read_at if met_before else 0.0,
            not_before=read_at - 2 * self._schedule.poll if witnessed else NEVER,
            settle=self._settle,
        )

    def _search_log(self, run: KnownRun, held: int | None, *, ended: bool) -> None:
        wanted = run.log.wants(self._log_cap)
        now = self._clock.monotonic()
        if (not wanted and run.log.scanned is not None) or (now < run.log_at and not ended):
            return
        before = run.log.scanned
        chunk = LOG_CHUNK if before else LOG_HEAD
        while self._search_chunk(run, held, min(wanted, chunk), ended=ended):
            # A run that has ended is not looked at again soon: all of its log is searched at once.
            if chunk == LOG_CHUNK and not ended:
                break
            wanted, chunk = run.log.wants(self._log_cap), LOG_CHUNK
        if run.log.url is not None:
            return
        if run.log.scanned != before or run.log_since == NEVER:
            run.log_since = now
        # A log without news is looked at the more rarely, as a run without is.
        quiet_for = now - run.log_since
        run.log_at = now + self._schedule.quiet_interval(quiet_for, run.path) - self._schedule.poll

    def _log_changed(self, run: KnownRun) -> bool:
        """Whether a log in which no address was found yet may hold one by now."""
        if run.log.scanned is not None and not run.log.wants(self._log_cap):
            return False
        try:
            return self._tree.fingerprint(run.path, LOG).size != run.log.size
        except OSError:
            return False  # no log, or not now

    def _search_chunk(self, run: KnownRun, held: int | None, wanted: int, *, ended: bool) -> bool:
        """Search a piece of the log; whether that led on, and there may be more."""
        before = run.log.scanned or 0
        try:
            size, data = self._tree.read_part(run.path, LOG, before, wanted, held)
        except OSError:
            return False  # no log, or not now
        run.log.feed(size, data, ended=ended)
        # A log that was cut or replaced starts over.
        moved = before != (run.log.scanned or 0) < size
        return moved and run.log.wants(self._log_cap) > 0

    def _look_for_file(self, run: KnownRun) -> Finding:
        if run.fingerprint is None:
            return UNCHANGED
        try:
            listing = self._tree.list_directory(run.path)
        except (FileNotFoundError, NotADirectoryError, ElsewhereError):
            return DirectoryMissing()
        except OSError as error:
            return Trouble(f"cannot be listed: {error.strerror or error}", passing=False)
        there = METADATA in listing.others or METADATA in listing.unknown
        if there:
            return Trouble(
                f"{METADATA_NAME} cannot be found, though a listing holds it", passing=True
            )
        return FileMissing()


def beat_of(fields: Fields) -> float | None:
    """The heartbeat of a running job in epoch seconds; None for any other job, or an unreadable one."""
    beat = fields.get(b"heartbeat_at")
    return float(beat) if beat is not None and fields[b"status"] == RUNNING else None
