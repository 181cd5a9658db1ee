"""A JSON API over the cache, for as many workers as you like: ``gunicorn jobcache.web:app -k asgi -w 4``.

Configured by ``JOBCACHE_REDIS_URL`` (else ``REDIS_URL``), ``JOBCACHE_NAMESPACE`` and ``JOBCACHE_STALE_IF_ERROR``. A
worker starts also while Redis is down or no refresher has run yet, and answers 503 until then. While Redis is away
later on, it answers 503, or, with the last of those, for so many seconds what it answered before
(``X-Jobcache-Last-Good``).

Every answer says in headers which worker gave it and how fresh it is (``X-Jobcache-*``), so that the workers can be
compared: equal epoch and generation, equal answer. A name in a path or a query may hold any byte, percent-encoded.
"""

from jobcache.web.api import JobApi

__all__ = ["JobApi", "app"]

app = JobApi()
"""The application that the environment configures."""
