"""The refresher: the one process that reads the status directory, and writes what it finds into Redis.

The way of a file: ``tree`` (filesystem) -> ``scanner`` (discover, fingerprint, read) -> ``parse`` -> ``diff`` (pure)
-> ``store`` (Redis, fenced by ``lease``). ``reconcile`` is one round of it, ``refresher`` the life around the rounds.
"""

from jobcache_refresher.embedded import EmbeddedServer
from jobcache_refresher.local import LocalJobCache
from jobcache_refresher.refresher import Refresher
from jobcache_refresher.settings import Settings

__all__ = ["EmbeddedServer", "LocalJobCache", "Refresher", "Settings"]
