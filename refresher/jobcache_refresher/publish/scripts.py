"""The refresher's server-side scripts."""

from __future__ import annotations

from functools import cache

from jobcache.schema.scripts import Script, load_script

PACKAGE = "jobcache_refresher"


@cache
def lease_script(name: str) -> Script:
    """A script on the lease itself."""
    return load_script(name, preludes=(), read_only=False, package=PACKAGE)


@cache
def plain_script(name: str) -> Script:
    """A script that only reads, and asks nobody for a lease."""
    return load_script(name, preludes=(), read_only=True, package=PACKAGE)


@cache
def fenced_script(name: str) -> Script:
    """A script that does nothing for whoever lost the lease."""
    preludes = ("header", "entries", "standing", "fence")
    return load_script(name, preludes=preludes, read_only=False, package=PACKAGE)
