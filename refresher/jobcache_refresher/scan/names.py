"""Names of a listing that are not read: those that systems make, silently; links and misplaced files, told."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from fnmatch import translate

from jobcache.schema.job import METADATA_NAME
from jobcache_refresher.scan.tree import Directory

SYSTEM_NAMES = (
    # filesystems
    *("lost+found", ".trash", ".nfs*", ".fuse_hidden*", ".glusterfs", ".lustre", ".mmSharedTmpDir"),
    # snapshots
    *(".snapshot", ".snapshots", ".snap", ".zfs", "~snapshot", ".ckpt"),
    # trash of desktops
    *(".Trash", ".Trash-*", ".Trashes", "$RECYCLE.BIN", "$Recycle.Bin"),
    # storage servers
    *("@eaDir", "@tmp", "@Recycle", "@Recently-Snapshot", "@sharebin", "#recycle", "#snapshot"),
    # other systems that mount it
    *(".AppleDB", ".AppleDesktop", ".AppleDouble", ".TemporaryItems", ".fseventsd"),
    *(".Spotlight-V100", ".DocumentRevisions-V100", "Network Trash Folder", "Temporary Items"),
    "System Volume Information",
    # programs that copy or edit
    *(".rsync-partial", ".~tmp~", ".stfolder", ".stversions", ".ipynb_checkpoints"),
)
"""Shell patterns of names that no job bears."""

METADATA = METADATA_NAME.encode()

UNTOLD = "cannot be looked at"
LINK = "is a link, which is not followed"
MISPLACED = "lies too high: a run's directory is PROJECT/GROUP/NAME/RUN_ID"


def ignored_names(more: str = "") -> Callable[[bytes], bool]:
    """A function that tells whether a name is passed over.

    Args:
        more: further shell patterns, separated by commas. ``?`` stands for one byte.
    """
    patterns = (*SYSTEM_NAMES, *(one for part in more.split(",") if (one := part.strip())))
    found = re.compile(b"|".join(map(_compile, patterns))).match
    return lambda name: found(name) is not None


def _compile(pattern: str) -> bytes:
    # As fnmatch does it for bytes: each byte stands as one character meanwhile.
    raw = pattern.encode("utf-8", "surrogateescape")
    return translate(raw.decode("latin-1")).encode("latin-1")


def without_ignored(
    listing: Directory, was_met: Callable[[bytes], bool], is_ignored: Callable[[bytes], bool]
) -> Directory:
    """A listing without the directories that are passed over.

    Args:
        listing: of any directory.
        was_met: tells which names were met before, and so need not be matched again.
        is_ignored: tells which names are passed over.
    """
    names = listing.subdirectories.keys() | listing.unknown
    ignored = {name for name in names if not was_met(name) and is_ignored(name)}
    if not ignored:
        return listing
    found = listing.subdirectories.items()
    return replace(
        listing,
        subdirectories={name: child for name, child in found if name not in ignored},
        unknown=listing.unknown - ignored,
    )


def passed_over(
    listing: Directory, is_ignored: Callable[[bytes], bool], leads_away: Callable[[bytes], bool]
) -> dict[bytes, str]:
    """Names in a listing that somebody may take for jobs and that are not read, with the reason.

    Args:
        listing: of a directory above the runs.
        is_ignored: tells which names are passed over without a word.
        leads_away: whether a link is more than another name of what lies beside it, as ``latest`` often is.
    """
    told = dict.fromkeys(listing.unknown, UNTOLD)
    told |= {name: LINK for name in listing.links if not is_ignored(name) and leads_away(name)}
    if METADATA in listing.others:
        told[METADATA] = MISPLACED
    return told
