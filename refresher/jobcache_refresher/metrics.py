"""The refresher's status as Prometheus reads it. Needs ``prometheus-client``, of the extra ``refresher``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from jobcache.errors import ConfigError
from jobcache.models import ChangeKind
from jobcache_refresher.status import Status

_CHANGES = (ChangeKind.ADDED, ChangeKind.MODIFIED, ChangeKind.DELETED)


class StatusCollector(Collector):
    """Turns a status into metrics whenever they are asked for."""

    def __init__(self, status: Callable[[], Status], namespace: str) -> None:
        self._status = status
        self._namespace = namespace

    def collect(self) -> Iterator[Metric]:
        """The metrics, labelled with the namespace."""
        status = self._status()
        gauges = [
            ("leader", "whether this refresher holds the lease", float(status.leads)),
            (
                "degraded",
                "whether answers may be old or not whole",
                float(bool(status.degraded) or status.overdue),
            ),
        ]
        of_last_scan = [
            ("jobs", "jobs published", status.jobs),
            ("errors", "directories and files that cannot be read, or not as a job", status.errors),
            (
                "problems",
                "paths that should be read and are not: see 'jobcache problems'",
                status.problems,
            ),
            ("held_deletions", "deletions that wait for an operator", status.held),
            ("scan_seconds", "length of the last completed scan", status.scan_seconds),
            (
                "completed_timestamp_seconds",
                "end of the last completed scan, by the server's clock",
                status.completed_at,
            ),
        ]
        # Whoever does not lead, or has not completed a scan since it does, has nothing to say of the cache.
        for name, text, value in gauges + (
            of_last_scan if status.leads and status.completed_at else []
        ):
            gauge = GaugeMetricFamily(f"jobcache_{name}", text, labels=["namespace"])
            gauge.add_metric([self._namespace], value)
            yield gauge
        for name, text, value in (
            ("scans", "scans completed", status.scans),
            ("examined", "runs looked at", status.examined),
            ("repairs", "findings in Redis that were repaired in place", status.repairs),
            ("rebuilds", "times the cache was built anew, the first included", status.rebuilds),
            (
                "leadership_lost",
                "times it ceased to lead without being stopped",
                status.leadership_lost,
            ),
        ):
            counter = CounterMetricFamily(f"jobcache_{name}", text, labels=["namespace"])
            counter.add_metric([self._namespace], value)
            yield counter
        changes = CounterMetricFamily(
            "jobcache_changes", "changes applied", labels=["namespace", "kind"]
        )
        for kind in _CHANGES:
            changes.add_metric([self._namespace, kind.value], status.changes[kind])
        yield changes


def serve_metrics(status: Callable[[], Status], namespace: str, port: int) -> Callable[[], None]:
    """Answer on a port, on every path; returns what ends it.

    Raises:
        ConfigError: the port cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(StatusCollector(status, namespace))
    try:
        server, thread = start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigError(f"metrics_port={port}: {error.strerror}") from None
    return lambda: _end(server, thread.join)


def _end(server: WSGIServer, join: Callable[[], None]) -> None:
    server.shutdown()
    server.server_close()
    join()
