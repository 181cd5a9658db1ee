"""The refresher: the one process that reads the status directory, and writes what it finds into Redis.

The way of a file: ``scan`` (list, fingerprint, read, parse), then ``publish`` (difference, fenced writes). ``cycle``
is one round of that, ``leadership`` says when there is one, ``triggers`` what it is to look at, ``audit`` whether Redis
still holds what was published. docs/architecture.md shows the layers.
"""

from jobcache_refresher.embedded import EmbeddedServer
from jobcache_refresher.local import LocalJobCache
from jobcache_refresher.refresher import Refresher
from jobcache_refresher.settings import Settings

__all__ = ["EmbeddedServer", "LocalJobCache", "Refresher", "Settings"]
