"""From a run's directory to the fields of its hash: fingerprint, read if it changed, parse, search the log."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TypeAlias

from jobcache.models import JobStatus
from jobcache.schema.job import FINGERPRINT, METADATA_NAME, RUNNING, encode_description
from jobcache_refresher.clock import Clock
from jobcache_refresher.records import Fields
from jobcache_refresher.scan.descriptors import DescriptorCache, Descriptors
from jobcache_refresher.scan.identity import encode
from jobcache_refresher.scan.logreader import LogReader
from jobcache_refresher.scan.logs import Stage, owner_of
from jobcache_refresher.scan.parse import UnparsableError, parse_metadata
from jobcache_refresher.scan.racy import is_racy
from jobcache_refresher.scan.rules import Rules
from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.snapshot import NEVER, KnownRun
from jobcache_refresher.scan.tree import ElsewhereError, Fingerprint, TornReadError, Tree

log = logging.getLogger(__name__)

METADATA = METADATA_NAME.encode()


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
        logs: looks at their logs.
        clock: what time it is.
        schedule: how often a live run is looked at.
        settle: seconds for which the filesystem may show old attributes.
        metadata_cap: largest ``metadata.json`` that is read, in bytes.
    """

    def __init__(
        self,
        tree: Tree,
        descriptors: DescriptorCache,
        rules: Rules,
        logs: LogReader,
        clock: Clock,
        schedule: Schedule,
        *,
        settle: float,
        metadata_cap: int,
    ) -> None:
        self._tree = tree
        self._descriptors = descriptors
        self._rules = rules
        self._logs = logs
        self._clock = clock
        self._schedule = schedule
        self._settle = settle
        self._metadata_cap = metadata_cap
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
        if same and not self._logs.has_news(run, live=live):
            return UNCHANGED
        held = self._tree.directory_descriptor(run.path)
        try:
            return self._read(run, held, live, inodes)
        finally:
            self._tree.release(held)

    def _look_through(
        self, run: KnownRun, known: Fingerprint | None, descriptors: Descriptors, inodes: bool
    ) -> Finding:
        same = known is not None and self._is_same(run, known, descriptors, inodes)
        if same and not self._logs.has_news(run, descriptors.directory, live=True):
            return UNCHANGED
        self._tree.check_place(run.path, descriptors.directory)
        reading = self._read(run, descriptors.directory, True, inodes)
        self._descriptors.renew(descriptors, METADATA)
        return reading

    def _is_same(
        self, run: KnownRun, known: Fingerprint, descriptors: Descriptors, inodes: bool
    ) -> bool:
        held = self._descriptors.fingerprint(descriptors)
        if held is not None:
            return held.matches(known, inodes=inodes)
        named = self._tree.fingerprint(run.path, METADATA, descriptors.directory)
        if not named.matches(known, inodes=inodes):
            return False
        self._descriptors.renew(descriptors, METADATA)
        return True

    def _read(self, run: KnownRun, held: int, live: bool, inodes: bool) -> Reading:
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
        fields = encode_description(job)
        stage = Stage.ENDED if not runs else Stage.LIVE if live else Stage.SILENT
        self._logs.look(run, held, stage, owner_of(fields), renewed=fingerprint != run.fingerprint)
        fields |= run.log.fields()
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
