"""What the refresher knows of the tree: directories as they were last listed whole, runs as they were last read.

Pure bookkeeping, filled from the filesystem by ``discovery`` and ``reading``. What was published of it is in
``records``.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from jobcache_refresher.scan.filesystem import Filesystem
from jobcache_refresher.scan.logs import LogSearch
from jobcache_refresher.scan.tree import Child, Fingerprint

ROOT = b""
RUN_DEPTH = 4
"""A run's directory lies this deep: project, group, name, run id."""

CONFIRMATIONS = 2
"""Observations of an absence before it counts."""

APART = 0.04
"""Seconds that two observations must lie apart; what points at a path may come twice at once."""

PASSING_LOOKS = 4
"""Looks in a row, two a scan, that find a file in the middle of being written before that is a problem."""

NEVER = float("-inf")

NOTHING: Mapping[bytes, str] = MappingProxyType({})
"""No names."""


@dataclass(slots=True)
class KnownDirectory:
    """A directory above the runs."""

    path: bytes
    depth: int
    shown: Child | None = None
    """What tells its state, as its parent's listing last showed it, the root's as its own did; None if not known."""
    shown_at: float = NEVER
    """Monotonic time at which that state was first met."""
    racy: bool = True
    """Whether it must be listed again: it shows another state since, or was listed so soon after its last change that
    an equal state does not yet mean an equal listing."""
    listed_at: float = NEVER
    """Monotonic time at which it was last listed whole; minus infinity if it never was."""
    lost: bool = False
    """Whether it was not found where its parent's listing shows it, when it was last to be listed."""
    filesystem: Filesystem | None = None
    """Which one it lies on, as of when it was last listed; None if it never was."""
    children: dict[bytes, int] = field(default_factory=dict)
    """Names below it, each with how many listings in a row it has been missing from."""
    changed_at: float = NEVER
    """Monotonic time at which a listing last differed from the one before."""
    missed_at: float = NEVER
    """Monotonic time at which missing names were last counted."""
    seen_at: float = NEVER
    """Monotonic time at which the last scan began that listed it whole and missed no name."""
    list_at: float = NEVER
    """Monotonic time at which it is listed again whatever its mtime."""
    trouble: str | None = None
    """Why it could not be listed last time."""
    passed_over: Mapping[bytes, str] | None = None
    """Names in it that are not read, each with the reason, as of when it was last listed whole; None for none."""

    @property
    def has_missing(self) -> bool:
        """Whether a child is missing: that awaits another observation, and while its deletion is held, its return."""
        return any(self.children.values())


@dataclass(slots=True)
class KnownRun:
    """A run's directory, with or without a ``metadata.json`` that could be read."""

    path: bytes
    changed_at: float
    """Wall time of its last change, in epoch seconds: of the file, or of the trouble with it."""
    inode: int = 0
    """Of the directory, as its parent's listing shows it; negative and new with each listing where such numbers prove
    nothing."""
    fingerprint: Fingerprint | None = None
    """Of the file when it was last read well."""
    racy: bool = True
    """Whether it was read so soon after its last change that an equal fingerprint does not yet mean equal content."""
    read_at: float = NEVER
    """Monotonic time at which this fingerprint was first read."""
    beat: float | None = None
    """Last heartbeat in epoch seconds if it says ``running``, else None."""
    trouble: str | None = None
    """Why it could not be read last time."""
    remark: str | None = None
    """What was not taken as it is written when it was read well; None if all was."""
    troubled: int = 0
    """How many looks in a row could not read it, or not find its directory; at least ``PASSING_LOOKS`` if that will not
    pass by itself."""
    file_missed: int = 0
    """How many whole listings of its directory in a row lacked the file."""
    missed_at: float = NEVER
    """Monotonic time at which that was last counted."""
    look_at: float = NEVER
    """Monotonic time at which it is looked at again whatever else."""
    log: LogSearch = field(default_factory=LogSearch)

    @property
    def may_pass(self) -> bool:
        """Whether its trouble is new and may be over at the next look: it was caught while it was written."""
        return 0 < self.troubled < PASSING_LOOKS

    @property
    def is_waiting(self) -> bool:
        """Whether a file that can be read is waited for."""
        return self.fingerprint is None or self.trouble is not None

    def is_live(self, fresh_since: float) -> bool:
        """Whether it says ``running`` and its heartbeat is fresh: it is expected to change."""
        return self.beat is not None and self.beat >= fresh_since


class Snapshot:
    """Directories and runs by path."""

    def __init__(self) -> None:
        self.directories: dict[bytes, KnownDirectory] = {ROOT: KnownDirectory(ROOT, 0)}
        self.runs: dict[bytes, KnownRun] = {}
        self.outdated: set[bytes] = set()
        """Runs that are published as they were read in another way than now (``scan.rules``)."""

    def doubt_all(self) -> None:
        """Have everything listed and looked at once more, whatever its times say."""
        for directory in self.directories.values():
            directory.racy = True
        for run in self.runs.values():
            run.look_at = NEVER

    def expect(self, path: bytes, changed_at: float) -> KnownRun:
        """The run at a path, made known with every directory above it if need be."""
        parent, _, name = path.rpartition(b"/")
        self._expect_directory(parent).children.setdefault(name, 0)
        run = self.runs.get(path)
        if run is None:
            run = self.runs[path] = KnownRun(path, changed_at)
        return run

    def _expect_directory(self, path: bytes) -> KnownDirectory:
        directory = self.directories.get(path)
        if directory is None:
            parent, _, name = path.rpartition(b"/")
            above = self._expect_directory(parent)
            above.children.setdefault(name, 0)
            directory = self.directories[path] = KnownDirectory(path, above.depth + 1)
        return directory

    def present_below(self, path: bytes) -> list[KnownDirectory]:
        """The directories right below one that were there when it was last listed."""
        directory = self.directories[path]
        if directory.depth + 1 == RUN_DEPTH:
            return []
        return [
            self.directories[join(path, name)]
            for name, missed in directory.children.items()
            if missed == 0
        ]

    def busy_groups(self, fresh_since: float, changed_since: float) -> set[bytes]:
        """Groups with a live run, or in which something changed lately; a project or the root itself if it did.

        Args:
            fresh_since: oldest heartbeat of a live run, in epoch seconds.
            changed_since: monotonic time from which on a change counts.
        """
        busy = {
            run.path.rsplit(b"/", 2)[0] for run in self.runs.values() if run.is_live(fresh_since)
        }
        for directory in self.directories.values():
            if directory.changed_at > changed_since:
                is_name = directory.depth + 1 == RUN_DEPTH
                busy.add(directory.path.rpartition(b"/")[0] if is_name else directory.path)
        return busy

    def runs_below(self, path: bytes) -> Iterator[KnownRun]:
        """Every run at or below a path."""
        if run := self.runs.get(path):
            yield run
        elif directory := self.directories.get(path):
            for name in list(directory.children):
                yield from self.runs_below(join(path, name))

    def names_with_jobs(self, path: bytes) -> set[bytes]:
        """Names in a directory at or below which there is a run whose file was read."""
        directory = self.directories.get(path)
        return {
            name
            for name in (directory.children if directory else ())
            if any(run.fingerprint is not None for run in self.runs_below(join(path, name)))
        }

    def expect_missing(self, path: bytes) -> None:
        """Have one more look confirm that a run or directory, or whatever is in it, is absent."""
        parent, _, name = path.rpartition(b"/")
        if name in (children := self.directories[parent].children):
            children[name] = CONFIRMATIONS - 1
        if directory := self.directories.get(path):
            directory.children = dict.fromkeys(directory.children, CONFIRMATIONS - 1)
        if run := self.runs.get(path):
            run.file_missed, run.look_at = CONFIRMATIONS - 1, NEVER

    def forget(self, path: bytes) -> None:
        """Drop a run, and every directory above it that is gone itself and has nothing left below."""
        self.runs.pop(path, None)
        self.outdated.discard(path)
        while path:
            self.directories.pop(path, None)
            gone = self.is_gone(path)
            parent, _, name = path.rpartition(b"/")
            directory = self.directories.get(parent)
            if directory is None:
                return
            directory.children.pop(name, None)
            if directory.children or not gone:
                return
            path = parent if self.is_gone(parent) else b""

    def prune(self, path: bytes) -> None:
        """Drop a directory that is gone, with every directory below it; no run may be left there."""
        directory = self.directories.get(path)
        for name in directory.children if directory else ():
            self._drop_directories(join(path, name))
        self.forget(path)

    def _drop_directories(self, path: bytes) -> None:
        directory = self.directories.pop(path, None)
        for name in directory.children if directory else ():
            self._drop_directories(join(path, name))

    def present(self, runs: Iterable[KnownRun]) -> list[KnownRun]:
        """Those runs for which ``is_gone`` does not hold; together they are told faster."""
        missing: dict[bytes, Collection[bytes] | None] = {}
        present = []
        for run in runs:
            parent, _, name = run.path.rpartition(b"/")
            if parent not in missing:
                missing[parent] = self._missing_below(parent)
            names = missing[parent]
            if names is not None and name not in names:
                present.append(run)
        return present

    def _missing_below(self, path: bytes) -> Collection[bytes] | None:
        """Names missing from a directory; None when it is gone itself."""
        if self.is_gone(path):
            return None
        directory = self.directories.get(path)
        return {name for name, missed in directory.children.items() if missed} if directory else ()

    def problems(self, known: Container[bytes] = ()) -> Iterator[tuple[bytes, str]]:
        """Every path that is not read as it should be, with the reason; nothing of what is gone.

        Trouble that may pass is no problem, unless the path is among the ``known`` problems: those of a refresher that
        has looked at it once since it started.
        """
        for directory in self.directories.values():
            if directory.trouble is not None and not self.is_gone(directory.path):
                yield directory.path, directory.trouble
            for name, reason in (directory.passed_over or NOTHING).items():
                yield join(directory.path, name), reason
        for run in self.runs.values():
            told = run.trouble or run.remark or run.log.problem
            if told is None or self.is_gone(run.path):
                continue
            if run.trouble is None or not run.may_pass or run.path in known:
                yield run.path, told

    def is_gone(self, path: bytes) -> bool:
        """Whether a path, or a directory above it, was missing when it was last looked for."""
        while path:
            parent, _, name = path.rpartition(b"/")
            directory = self.directories.get(parent)
            if directory is not None and directory.children.get(name, 0) > 0:
                return True
            path = parent
        return False


def join(parent: bytes, name: bytes) -> bytes:
    """The path of a name below a directory."""
    return parent + b"/" + name if parent else name
