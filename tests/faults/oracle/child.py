"""``jobcache-refresher`` with the constants of its modules scaled down, on a status directory that fails on demand.

Arguments: a directory of flags; seconds of an exchange, of a retry, of a standby's turn; then the program's own. While
the file ``hang`` is among the flags every operation on the tree hangs; while ``eio`` is, those below the
path that it holds fail.
"""

from __future__ import annotations

import errno
import os
import sys
import time

from jobcache_refresher import cli, refresher
from jobcache_refresher.publish import server
from tests.faults.faulty import FaultyTree

HANG = "hang"
EIO = "eio"


class FlaggedTree(FaultyTree):
    """Looks at the flags before every operation."""

    flags = ""

    def _strike(self, path: bytes) -> None:
        while os.path.exists(f"{self.flags}/{HANG}"):
            time.sleep(0.02)
        try:
            with open(f"{self.flags}/{EIO}", "rb") as flag:
                struck = flag.read()
        except FileNotFoundError:
            return
        if struck and (path == struck or path.startswith(struck + b"/")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def main() -> None:
    """Run the program."""
    FlaggedTree.flags, deadline, retry, standby, *rest = sys.argv[1:]
    vars(server).update(DEADLINE=float(deadline))
    vars(refresher).update(
        Tree=FlaggedTree, RETRY_INTERVAL=float(retry), STANDBY_INTERVAL=float(standby)
    )
    sys.argv = ["jobcache-refresher", *rest]
    cli.main()


if __name__ == "__main__":
    main()
