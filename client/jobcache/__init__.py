"""Training-job metadata out of Redis, for any number of web workers.

``JobCache`` (sync, or ``await start()``) and ``AsyncJobCache`` answer the queries; ``jobcache.models`` holds what they
answer with. Keys are named in ``jobcache.keys`` alone; a query is a plan (``jobcache.plans``) that the two shells drive
over a ``jobcache.connection``. Importing this package brings redis-py, pydantic and orjson, nothing else.
"""

from jobcache.aio import AsyncJobCache
from jobcache.cache import JobCache
from jobcache.errors import (
    CacheNotReady,
    CacheUnavailable,
    ConfigError,
    JobCacheError,
    SchemaMismatch,
)
from jobcache.ids import JobId
from jobcache.models import (
    CacheState,
    Change,
    ChangeKind,
    DashboardStats,
    Freshness,
    HardwareInfo,
    JobCounts,
    JobMetadata,
    JobPage,
    JobStatus,
    ProjectSummary,
)

__all__ = [
    "AsyncJobCache",
    "CacheNotReady",
    "CacheState",
    "CacheUnavailable",
    "Change",
    "ChangeKind",
    "ConfigError",
    "DashboardStats",
    "Freshness",
    "HardwareInfo",
    "JobCache",
    "JobCacheError",
    "JobCounts",
    "JobId",
    "JobMetadata",
    "JobPage",
    "JobStatus",
    "ProjectSummary",
    "SchemaMismatch",
]
