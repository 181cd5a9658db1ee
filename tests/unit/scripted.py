"""A status directory in memory and a clock that only a test moves: what a filesystem shows is what the test says."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobcache_refresher.clock import Clock
from jobcache_refresher.scan.scanner import Scan, Scanner
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import (
    Child,
    CutListingError,
    Directory,
    ElsewhereError,
    Fingerprint,
    Tree,
)
from jobcache_refresher.settings import Settings

SECOND = 1_000_000_000
POLL, RELIST, RESYNC, SETTLE = 10.0, 60.0, 900.0, 2.0


class HandClock:
    """A wall clock and a monotonic one that stand still."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.5

    @property
    def clock(self) -> Clock:
        return Clock(time=lambda: self.now, monotonic=lambda: self.now - 1_000_000.0)


@dataclass(eq=False)
class Node:
    """A file or directory."""

    inode: int
    times: tuple[int, int]
    """Mtime and ctime in nanoseconds."""
    raw: bytes | None = None
    """What a file holds; None for a directory."""
    below: dict[bytes, Node] = field(default_factory=dict)


class ScriptedTree(Tree):
    """Keeps times and numbers as most filesystems do, unless a test replaces one of the ``..._for``."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__("/status")
        self.clock = clock
        self.offset = 0.0
        """Seconds for which the filesystem's clock is ahead."""
        self.tick = 1
        """Nanoseconds between two times that it knows."""
        self.listed: list[bytes] = []
        self.looked_at: list[bytes] = []
        self.read: list[bytes] = []
        self.failures: dict[bytes, int] = {}
        """Error number by path, for whatever is asked of it."""
        self.cuts: dict[bytes, int] = {}
        """After how many names the listing of a directory fails."""
        self._inodes = itertools.count(10)
        self._held: dict[int, Node] = {}
        self.root_node = self._new()

    # What a test does

    def write(self, path: bytes, **document: object) -> None:
        """Write a run's file, and make every directory above it that is missing."""
        raw = json.dumps({"status": "completed", **document}).encode().ljust(200)
        node = self.make(path)
        file = node.below.get(b"metadata.json")
        if file is None:
            file = node.below[b"metadata.json"] = self._new(raw)
            self.touch(node)
        else:
            file.raw = raw
            self.touch(file)

    def make(self, path: bytes) -> Node:
        """Make a directory, and every one above it that is missing."""
        node = self.root_node
        for name in path.split(b"/"):
            if name not in node.below:
                node.below[name] = self._new()
                self.touch(node)
            node = node.below[name]
        return node

    def remove(self, path: bytes) -> Node:
        parent, _, name = path.rpartition(b"/")
        node = self.node(parent).below.pop(name)
        self.touch(self.node(parent))
        return node

    def node(self, path: bytes) -> Node:
        node = self.root_node
        for name in path.split(b"/") if path else ():
            if name not in node.below:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            node = node.below[name]
        return node

    def touch(self, node: Node) -> None:
        now = int((self.clock.now + self.offset) * SECOND) // self.tick * self.tick
        node.times = (now, now)

    def times_for(self, node: Node) -> tuple[int, int]:
        """A directory's times, as the filesystem shows them."""
        return node.times

    def inode_for(self, node: Node) -> int:
        """The inode that ``stat`` gives."""
        return node.inode

    def number_for(self, node: Node) -> int:
        """The inode that a listing gives."""
        return node.inode

    def _new(self, raw: bytes | None = None) -> Node:
        node = Node(next(self._inodes), (0, 0), raw)
        self.touch(node)
        return node

    # What the refresher asks

    def _find(self, path: bytes) -> Node:
        self._strike(path)
        return self.node(path)

    def _strike(self, path: bytes) -> None:
        for above in _prefixes(path):
            if above in self.failures:
                number = self.failures[above]
                raise OSError(number, os.strerror(number))

    def list_directory(self, path: bytes, *, with_mtimes: bool = False) -> Directory:
        self.listed.append(path)
        node = self._find(path)
        if node.raw is not None:
            raise ElsewhereError("no directory")
        mtime_ns, ctime_ns = self.times_for(node)
        names = list(node.below.items())
        cut = self.cuts.get(path)
        error = OSError(errno.EIO, os.strerror(errno.EIO))
        listing = Directory(
            mtime_ns=mtime_ns,
            device=1,
            subdirectories={
                name: Child(self.inode_for(below), self.times_for(below))
                if with_mtimes
                else Child(self.number_for(below), None)
                for name, below in names[:cut]
                if below.raw is None
            },
            others=frozenset(name for name, below in names[:cut] if below.raw is not None),
            ctime_ns=ctime_ns,
            cut=None if cut is None else error.strerror,
        )
        if cut is not None:
            raise CutListingError(error, listing)
        return listing

    def fingerprint(self, path: bytes, name: bytes, held: int | None = None) -> Fingerprint:
        if held is None:
            self.looked_at.append(path)
            return self._fingerprint(self._find(path + b"/" + name))
        return self._fingerprint(self._below(held, name))

    def read_whole(
        self, path: bytes, name: bytes, cap: int, held: int | None = None
    ) -> tuple[Fingerprint, bytes]:
        self.looked_at.append(path)
        self._strike(path + b"/" + name)
        file = self._find(path + b"/" + name) if held is None else self._below(held, name)
        self.read.append(path)
        assert file.raw is not None
        return self._fingerprint(file), file.raw

    def read_part(
        self,
        path: bytes,
        name: bytes,
        offset: int,
        length: int,
        held: int | None = None,
        *,
        head: int = 0,
    ) -> tuple[Fingerprint, bytes, bytes]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def directory_descriptor(self, path: bytes) -> int:
        return self._hold(self._find(path))

    def file_descriptor(self, name: bytes, held: int) -> int:
        return self._hold(self._below(held, name))

    def descriptor_fingerprint(self, held: int) -> Fingerprint:
        return self._fingerprint(self._held[held])

    def release(self, held: int) -> None:
        del self._held[held]

    def _hold(self, node: Node) -> int:
        handle = next(self._inodes)
        self._held[handle] = node
        return handle

    def _below(self, held: int, name: bytes) -> Node:
        try:
            return self._held[held].below[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None

    def _fingerprint(self, file: Node) -> Fingerprint:
        return Fingerprint(*file.times, len(file.raw or b""), self.inode_for(file))


class Scanned:
    """A scanner of a scripted tree, and how it is polled."""

    def __init__(self, tree: ScriptedTree, clock: HandClock, **settings: object) -> None:
        self.tree, self.time = tree, clock
        self.stale_after = 300.0
        self.published: dict[bytes, dict[bytes, bytes]] = {}
        self.scanner = Scanner(
            tree,
            Settings.create(
                status_dir="/status",
                scan_threads=1,
                **{
                    "poll_interval": POLL,
                    "relist_interval": RELIST,
                    "resync_interval": RESYNC,
                    "settle": SETTLE,
                    **settings,
                },
            ),
            clock.clock,
        )

    def scan(self, scope: Scope = Scope.POLL, hints: Iterable[bytes] = ()) -> Scan:
        """One scan; what the tree was asked before it is forgotten."""
        for asked in (self.tree.listed, self.tree.looked_at, self.tree.read):
            asked.clear()
        return self.scanner.scan(
            scope,
            hints,
            fresh_since=self.time.now - self.stale_after,
            give=self.published.update,
        )

    def poll(self, times: int = 1) -> Scan:
        """Some scans, a poll apart."""
        for _ in range(times):
            self.time.now += POLL
            scan = self.scan()
        return scan

    def quieten(self) -> None:
        """Scan until nothing is racy and no group is busy."""
        self.scan(Scope.RELIST)
        self.time.now += 3600
        self.scan(Scope.RELIST)
        self.poll()

    def found_after(self, path: bytes, at_most: int) -> int | None:
        """The number of polls after which a run was read."""
        for number in range(1, at_most + 1):
            self.poll()
            run = self.scanner.snapshot.runs.get(path)
            if run is not None and run.fingerprint is not None:
                return number
        return None


def gone(scan: Scan) -> set[bytes]:
    """Runs whose absence a scan confirmed."""
    return {path for path, absence in scan.missing.items() if absence.confirmed}


def _prefixes(path: bytes) -> list[bytes]:
    names = path.split(b"/")
    return [b"/".join(names[:depth]) for depth in range(1, len(names) + 1)]
