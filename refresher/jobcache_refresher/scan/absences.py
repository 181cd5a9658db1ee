"""Which runs are not where they were. Pure: it reads what the last listings showed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from jobcache_refresher.scan.snapshot import (
    CONFIRMATIONS,
    KnownDirectory,
    KnownRun,
    Snapshot,
    join,
)


class Absence(NamedTuple):
    """A path that is missing, and so is every run at or below it."""

    top: bytes
    """The path. Nothing above it is missing."""
    seen_at: float
    """Monotonic time of the start of the last scan that found it, in seconds. It may be too early, never too late.
    Infinite if only the file is missing from a run's directory."""
    confirmed: bool
    """Whether two listings in a row did not show it."""


def missing_paths(directories: Iterable[KnownDirectory]) -> list[Absence]:
    """What some directories lacked when they were last listed, from the root down."""
    missing = [
        Absence(join(directory.path, name), directory.seen_at, missed >= CONFIRMATIONS)
        for directory in directories
        for name, missed in directory.children.items()
        if missed
    ]
    return sorted(missing, key=lambda absence: absence.top.count(b"/"))


def missing_runs(
    snapshot: Snapshot, runs: Iterable[KnownRun], missing: Iterable[Absence]
) -> dict[bytes, Absence]:
    """Runs that were read once and are absent now, each with the topmost missing path.

    Args:
        snapshot: what is known of the tree.
        runs: runs whose files may be missing.
        missing: what is missing of directories, from the root down.
    """
    absent = {
        run.path: Absence(run.path, float("inf"), run.file_missed >= CONFIRMATIONS)
        for run in runs
        if run.file_missed
    }
    for absence in missing:
        for run in snapshot.runs_below(absence.top):
            if run.fingerprint is None:
                continue
            known = absent.get(run.path)
            if known is None or known.top == run.path:
                absent[run.path] = absence
            elif absence.confirmed:
                absent[run.path] = known._replace(confirmed=True)
    return absent
