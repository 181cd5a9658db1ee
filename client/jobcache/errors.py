"""What a caller may have to handle. No exception of redis-py leaves this package."""

from __future__ import annotations


class JobCacheError(Exception):
    """Base of every error that jobcache raises on purpose."""


class ConfigError(JobCacheError, ValueError):
    """A setting cannot be used; the message names the setting and the value."""


class CacheUnavailable(JobCacheError):
    """Redis did not give an answer within the deadline, or refused to give one."""


class CacheNotReady(JobCacheError):
    """Redis answers, but no refresher has completed a scan for this namespace.

    Never to be read as "there are no jobs".
    """


class SchemaMismatch(JobCacheError):
    """The keys were written by another, incompatible version of jobcache."""
