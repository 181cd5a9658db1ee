"""The refresher's server-side scripts."""

from __future__ import annotations

from functools import cache

from jobcache.plans.scripts import Script, load_script

_HEADER = ("jobcache", "header")
_ENTRIES = ("jobcache", "entries")
_STANDING = ("jobcache", "standing")
_FENCE = ("jobcache_refresher", "fence")


@cache
def lease_script(name: str) -> Script:
    """A script on the lease itself."""
    return load_script("jobcache_refresher", name, preludes=(), read_only=False)


@cache
def plain_script(name: str) -> Script:
    """A script that only reads, and asks nobody for a lease."""
    return load_script("jobcache_refresher", name, preludes=(), read_only=True)


@cache
def fenced_script(name: str) -> Script:
    """A script that does nothing for whoever lost the lease."""
    preludes = (_HEADER, _ENTRIES, _STANDING, _FENCE)
    return load_script("jobcache_refresher", name, preludes=preludes, read_only=False)
