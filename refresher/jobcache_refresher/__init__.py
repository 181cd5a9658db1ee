"""The refresher: the one process that reads the status directory, and writes what it finds into Redis.

The way of a file: ``scan`` (list, fingerprint, read, parse) -> ``publish`` (difference, store, audit).
``watching`` hints where to look. ``reconcile`` is one round of it, ``refresher`` the life around the rounds.
"""

from jobcache_refresher.embedded import EmbeddedServer
from jobcache_refresher.local import LocalJobCache
from jobcache_refresher.refresher import Refresher
from jobcache_refresher.settings import Settings

__all__ = ["EmbeddedServer", "LocalJobCache", "Refresher", "Settings"]
