"""Training-job metadata out of Redis, for any number of web workers.

``JobCache`` (sync, or ``await start()``) and ``AsyncJobCache`` answer the queries; ``jobcache.models`` holds what they
answer with. ``jobcache.schema`` alone says what stands in Redis. A query (``jobcache.queries``) is a generator without
I/O, which both clients drive over ``jobcache.transport``. Importing this package brings redis-py, pydantic and orjson,
nothing else.
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
    Problem,
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
    "Problem",
    "ProjectSummary",
    "SchemaMismatch",
]
