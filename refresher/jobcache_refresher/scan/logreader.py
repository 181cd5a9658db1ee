"""Looks at the logs of runs, as rarely and as little as will do.

A log of which no more is to be searched costs nothing while its run is live and the same, and one ``lstat`` whenever a
run at rest is looked at. On JuiceFS, where each look-up is a request to its metadata server, the ``lstat`` is of the
run's directory, whose attributes came with the look at ``metadata.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from jobcache.schema.job import LOG_NAME
from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.logs import (
    ABSENT,
    KNOWN_BY,
    NEVER,
    UNKNOWN,
    LogMark,
    LogPart,
    Relation,
    Stage,
    advance,
)
from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.snapshot import KnownRun
from jobcache_refresher.scan.tree import Fingerprint, LinkError, NotRegularError, Tree

LOG = LOG_NAME.encode()
DIRECTORY = b"."
JUICEFS = "fuse.juicefs"
"""Its type in the mount table."""

LOG_CHUNK = 256 << 10
"""Most bytes of one log that one look searches, after its head."""
LOG_HEAD = 16 << 10
"""Bytes of a log that are searched first: the address usually stands early."""


class LogReader:
    """Looks at one log at a time; safe to be called from several threads, for different runs.

    Args:
        tree: the status directory.
        clock: what time it is.
        schedule: how often a log without news is looked at.
        settle: seconds for which the filesystem may show old attributes.
        cap: bytes of a log that are searched in all.
        filesystem_type: tells the tree's filesystem type, or None.
    """

    def __init__(
        self,
        tree: Tree,
        clock: Clock,
        schedule: Schedule,
        *,
        settle: float,
        cap: int,
        filesystem_type: Callable[[], str | None],
    ) -> None:
        self._tree = tree
        self._clock = clock
        self._schedule = schedule
        self._settle = settle
        self._cap = cap
        self._filesystem_type = filesystem_type

    def has_news(self, run: KnownRun, held: int | None = None, *, live: bool) -> bool:
        """Whether the log is to be looked at although ``metadata.json`` is the same.

        A live run's log is looked at until its address is found. The longer nothing is found, the rarer the looks.
        """
        if not live:
            return self._has_changed(run, held, live)
        log, now = run.log, self._clock.monotonic()
        if log.is_done(self._cap) or now < self._next_look(run, log.began_at):
            return False
        if self._has_changed(run, held, live):
            return True
        log.note_look(now, is_new=False, is_news=False)
        return False

    def look(self, run: KnownRun, held: int, stage: Stage, owner: int, *, renewed: bool) -> None:
        """Bring what is known of the log up to date, after ``metadata.json`` was read.

        Args:
            run: whose log it is.
            held: a descriptor of the run's directory.
            stage: of the run.
            owner: which run it is; see ``owner_of``.
            renewed: whether ``metadata.json`` is another than it was.
        """
        log = run.log
        relation = log.relation_to(owner, run.inode)
        if relation is not Relation.SAME or self._is_due(run, held, stage, renewed):
            before = log.known
            try:
                self._search(run, held, stage, relation, renewed=renewed)
                log.problem = None
            except FileNotFoundError:
                log.lose(relation, ABSENT)
                log.problem = None
            except NotRegularError as error:
                log.lose(relation, self._sign(run, held, stage is Stage.LIVE))
                kind = error if isinstance(error, LinkError) else "no regular file"
                log.problem = f"{LOG_NAME} is {kind}"
            except OSError as error:
                log.sign = UNKNOWN
                log.problem = f"{LOG_NAME} cannot be read: {error.strerror or error}"
                return
            if stage is Stage.LIVE:
                is_new = (before is None) != (log.known is None)
                log.note_look(self._clock.monotonic(), is_new=is_new, is_news=before != log.known)
        log.owner, log.directory = owner, run.inode

    def _is_due(self, run: KnownRun, held: int, stage: Stage, renewed: bool) -> bool:
        """Whether the log of a run that is the same as before is to be opened."""
        log = run.log
        if stage is not Stage.LIVE:
            # The end of a run makes a last line whole.
            is_open = stage is Stage.ENDED and not log.is_done(self._cap)
            return renewed or is_open or self._has_changed(run, held, live=False)
        if log.is_done(self._cap):
            return not self._spares_lookups() and self._is_replaced(run, held)
        is_time = self._clock.monotonic() >= self._next_look(run, log.news_at)
        return is_time and self._has_changed(run, held, live=True)

    def _next_look(self, run: KnownRun, since: float) -> float:
        """Monotonic time from which a log without an address is looked at again, as a run without news is."""
        log = run.log
        if NEVER in {log.looked_at, since}:
            return NEVER
        interval = self._schedule.quiet_interval(log.looked_at - since, run.path)
        return log.looked_at + interval - self._schedule.poll

    def _has_changed(self, run: KnownRun, held: int | None, live: bool) -> bool:
        """Whether the log may be another than when it was last looked at."""
        return run.log.sign == UNKNOWN or run.log.sign != self._sign(run, held, live)

    def _sign(self, run: KnownRun, held: int | None, live: bool) -> int:
        by_directory = not live and self._spares_lookups() and run.log.is_done(self._cap)
        name = DIRECTORY if by_directory else LOG
        try:
            return _sign_of(self._tree.fingerprint(run.path, name, held))
        except FileNotFoundError:
            return ABSENT
        except OSError:
            return UNKNOWN  # opening it tells why

    def _is_replaced(self, run: KnownRun, held: int) -> bool:
        """Whether a log that a live run writes to is shorter than before, another file, or gone."""
        mark = run.log.mark
        try:
            found = self._tree.fingerprint(run.path, LOG, held)
        except OSError:
            return True  # opening it tells why
        return mark is None or found.size < mark.offset or found.inode != mark.inode

    def _search(
        self, run: KnownRun, held: int, stage: Stage, relation: Relation, *, renewed: bool
    ) -> None:
        """Search the log as far as is due.

        Raises:
            OSError: it cannot be read. What is known of it stays.
        """
        log = run.log
        # Lines of the run before may stand among those that are searched.
        unlike = log.url if relation is Relation.REQUEUED else None
        known = log.mark or LogMark()
        fingerprint, part = self._read(run, held, known)
        mark = log.resume(part, relation, self._cap)
        if mark != known:
            fingerprint, part = self._read(run, held, mark)
        if renewed:
            mark = mark._replace(border=part.size)
        # What has ended, or was requeued, is not looked at again soon: all of its log is searched at once.
        chunks = 2 if mark.offset == 0 else 1
        while True:
            before, chunks = mark.searched, chunks - 1
            mark, url = advance(mark, part, self._cap, stage, unlike)
            log.url = url or log.url
            enough = chunks <= 0 and stage is not Stage.ENDED and relation is Relation.SAME
            is_over = mark.offset >= part.size or not mark.wants(self._cap)
            if enough or is_over or mark.searched == before:
                break
            fingerprint, part = self._read(run, held, mark)
        log.keep(mark, self._sign_after(run, held, stage, mark, fingerprint))

    def _read(self, run: KnownRun, held: int, mark: LogMark) -> tuple[Fingerprint, LogPart]:
        """What follows a mark, and what its log is known by."""
        before = min(KNOWN_BY, mark.offset)
        wanted = min(mark.wants(self._cap), LOG_CHUNK if mark.offset else LOG_HEAD)
        fingerprint, head, data = self._tree.read_part(
            run.path,
            LOG,
            mark.offset - before,
            before + wanted,
            held,
            head=KNOWN_BY if mark.offset > KNOWN_BY else 0,
        )
        head = head or data[:KNOWN_BY]
        return fingerprint, LogPart(
            fingerprint.size, fingerprint.inode, head, data[:before], data[before:]
        )

    def _sign_after(
        self,
        run: KnownRun,
        held: int,
        stage: Stage,
        mark: LogMark,
        fingerprint: Fingerprint,
    ) -> int:
        """What shows whether the log changes after it was searched up to a mark."""
        if not mark.wants(self._cap) and self._spares_lookups():
            if stage is Stage.LIVE:
                return UNKNOWN  # it is looked at when the run has ended
            fingerprint = self._tree.fingerprint(run.path, DIRECTORY, held)
        # What changed just now may change once more without another time.
        age = self._clock.time() - fingerprint.mtime_ns / 1e9
        is_racy = stage is not Stage.LIVE and abs(age) <= self._settle
        return UNKNOWN if is_racy else _sign_of(fingerprint)

    def _spares_lookups(self) -> bool:
        return self._filesystem_type() == JUICEFS


def _sign_of(fingerprint: Fingerprint) -> int:
    """Equal for equal fingerprints; neither ``ABSENT`` nor ``UNKNOWN``."""
    return 1 + crc32(fingerprint.encode())
