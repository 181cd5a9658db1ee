"""The filesystem as two hosts see it: the producer's mount, which always works, and the refreshers', which may not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

MARKER = ".jobcache-marker"


class Volume:
    """A status directory, and the path at which refreshers find it.

    ``mount`` is a symbolic link that is switched in one step: to the volume, to an empty directory, to nothing.
    """

    def __init__(self, directory: Path, *, marked: bool) -> None:
        self.marked = marked
        self.lock = threading.RLock()
        """Held by whoever edits the tree, and by whoever hides a part of it."""
        self.hidden_project: str | None = None
        self._directory = directory
        self.status_dir = directory / "volume" / "status"
        """As the producer sees it."""
        self.status_dir.mkdir(parents=True)
        (directory / "hollow" / "status").mkdir(parents=True)
        if marked:
            (self.status_dir / MARKER).touch()
        self.mounted_status_dir = directory / "mount" / "status"
        """As the refreshers see it."""
        self.show()

    def show(self) -> None:
        """Have the refreshers see the tree."""
        self._link("volume")

    def hollow(self) -> None:
        """Have them see an empty directory in its place, as after a lazy unmount."""
        self._link("hollow")

    def vanish(self) -> None:
        """Have them see nothing."""
        os.unlink(self._directory / "mount")

    def hide_project(self, project: str) -> None:
        """Take a project away."""
        with self.lock:
            self.hidden_project = project
            (self.status_dir / project).rename(self._directory / "aside")

    def unhide_project(self) -> None:
        """Bring it back."""
        with self.lock:
            assert self.hidden_project is not None
            (self._directory / "aside").rename(self.status_dir / self.hidden_project)
            self.hidden_project = None

    def _link(self, target: str) -> None:
        fresh = self._directory / "fresh"
        fresh.symlink_to(target)
        fresh.rename(self._directory / "mount")
