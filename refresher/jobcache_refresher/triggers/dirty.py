"""What may have changed, as far as events tell."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_DIRTY = 100_000
"""Paths beyond which looking at everything is cheaper than holding them."""


@dataclass(slots=True)
class Dirty:
    """What may have changed. Paths are relative to the status directory."""

    runs: set[bytes] = field(default_factory=set)
    """Runs that appeared, or whose ``metadata.json`` was written, put in place or removed."""
    directories: set[bytes] = field(default_factory=set)
    """Directories above the runs in which a name appeared or vanished; the root is the empty path."""
    resync: bool = False
    """Whether anything may have changed, since events were lost or none was listened for until now."""

    def __bool__(self) -> bool:
        return bool(self.runs or self.directories or self.resync)

    def add(self, other: Dirty) -> None:
        """Take in another; beyond ``MOST_DIRTY`` paths it becomes a resync."""
        self.runs |= other.runs
        self.directories |= other.directories
        self.resync |= other.resync
        if self.resync or len(self.runs) + len(self.directories) > MOST_DIRTY:
            self.runs, self.directories, self.resync = set(), set(), True
