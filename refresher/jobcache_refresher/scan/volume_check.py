"""Looks at the roots of volumes below the status directory, as ``root`` looks at the root of all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set

from jobcache.schema.job import METADATA_NAME
from jobcache_refresher.scan.snapshot import NEVER, KnownRun, Snapshot
from jobcache_refresher.scan.tree import Directory, ElsewhereError, Tree
from jobcache_refresher.scan.volumes import Volumes
from jobcache_refresher.text import shown
from jobcache_refresher.workers import Workers

log = logging.getLogger(__name__)

METADATA = METADATA_NAME.encode()


class VolumeCheck:
    """Has listings of volumes believed or not.

    Args:
        tree: the status directory.
        mount_types: tells the filesystem type of whatever is mounted below an absolute path, by relative path.
        workers: what lists several directories at once.
    """

    def __init__(
        self, tree: Tree, mount_types: Callable[[bytes], Mapping[bytes, str]], workers: Workers
    ) -> None:
        self.volumes = Volumes()
        self._tree = tree
        self._mount_types = mount_types
        self._workers = workers

    def begin(self, root_device: int, *, is_brief: bool) -> None:
        """A scan begins, and the root was listed.

        Args:
            root_device: of the root.
            is_brief: whether scans like it come often. The mount table may be long, so such a scan looks at it only if
                there are volumes already; of a new one the device tells.
        """
        types = None
        if self.volumes.known or not is_brief:
            types = self._mount_types(self._tree.place)
        self.volumes.begin(root_device, types)

    def doubt(self, path: bytes, listing: Directory | OSError, snapshot: Snapshot) -> str | None:
        """Why a directory above the runs is not believed, whether it could be listed or not; None if it is.

        A directory that is not there is an absence, and believed, unless it is a volume.
        """
        if isinstance(listing, Directory):
            if not self.volumes.concern(path, listing.device):
                return None
            names = listing.subdirectories.keys() | listing.unknown
            known = snapshot.names_with_jobs(path)
            if listing.cut is not None:
                names |= known  # what it did not name may be there
            return self.volumes.judge(path, listing.device, names, known)
        if isinstance(listing, FileNotFoundError | NotADirectoryError | ElsewhereError):
            return self.volumes.miss(path)
        reason = f"cannot be listed: {listing.strerror or listing}"
        self.volumes.fail(path, reason)
        return reason

    def look_at_runs(self, snapshot: Snapshot, among: Set[bytes] | None) -> None:
        """Look at runs that are volumes, of some paths or all; of other runs no directory is listed."""
        paths = self.volumes.paths if among is None else self.volumes.paths & among
        runs = [run for path in paths if (run := snapshot.runs.get(path)) is not None]
        for run, listing in zip(runs, self._workers.map(self._list_run, runs), strict=True):
            if isinstance(listing, Directory):
                names = listing.subdirectories.keys() | listing.others | listing.unknown
                known = {METADATA} if run.fingerprint else set()
                doubt = self.volumes.judge(run.path, listing.device, names, known)
            else:
                doubt = self.doubt(run.path, listing, snapshot)
            if doubt is not None:
                run.trouble, run.look_at = doubt, NEVER

    def _list_run(self, run: KnownRun) -> Directory | OSError:
        try:
            return self._tree.list_directory(run.path)
        except OSError as error:
            return error

    def release(self, snapshot: Snapshot) -> None:
        """An operator says that the volumes that are not believed are meant to be as they are."""
        for path in self.volumes.release():
            log.info("%s: taken as it is now", shown(path))
            snapshot.expect_missing(path)
