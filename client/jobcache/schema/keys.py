"""The one place where key names live.

A name is at most the namespace's prefix and what follows it; ``/`` separates names of directories, since no
directory name can hold one, so a hostile project name cannot reach into another key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from jobcache.errors import ConfigError
from jobcache.ids import JobId, encode_name
from jobcache.models import JobStatus

SCHEMA_VERSION = 3
"""Version of everything below, kept in ``meta``. A reader refuses a version from the future."""

NAMESPACE_VARIABLE = "JOBCACHE_NAMESPACE"
DEFAULT_NAMESPACE = "default"

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class KeyRow(NamedTuple):
    """One row of the key table in docs/redis.md."""

    key: str
    type: str
    holds: str


KEY_TABLE = (
    KeyRow("job:<id>", "hash", "one job: its fields, `rev` and `fingerprint`"),
    KeyRow("jobs", "zset", "every id, by start time"),
    KeyRow("status:<s>", "zset", "ids of one status, by start time"),
    KeyRow("project:<p>", "zset", "ids of one project, by start time"),
    KeyRow("project:<p>/status:<s>", "zset", "the same with one status"),
    KeyRow("group:<g>/status:<s>", "zset", "ids of one group name, whatever the project"),
    KeyRow("project:<p>/group:<g>/status:<s>", "zset", "ids of one group of one project"),
    KeyRow("runs:<p>/<g>/<n>", "zset", "run ids of one job name, by start time"),
    KeyRow("running", "zset", "ids whose status is running, by heartbeat time"),
    KeyRow("running:<p>", "zset", "the same within one project"),
    KeyRow("activity:<s>", "zset", "ids of one status other than running, by heartbeat time"),
    KeyRow("projects", "zset", "names of the projects, all with score 0"),
    KeyRow("groups:<p>", "zset", "names of one project's groups, all with score 0"),
    KeyRow("meta", "hash", "schema, epoch, generation, state, times, settings and counts"),
    KeyRow(
        "lease", "string", "holder and fencing token of the refresher that may write; has a TTL"
    ),
    KeyRow("release", "string", "that an operator released held deletions; only a writer may"),
    KeyRow("changes", "stream", "the change feed, capped"),
    KeyRow("requests", "stream", "what clients ask of the refresher, capped"),
    KeyRow("tombstones", "zset", "ids that a client deleted, by the generation of the deletion"),
    KeyRow("problems", "hash", "paths that should be read and are not, each with a JSON; capped"),
)


def find_namespace(
    namespace: str | None,
    setting: str = "namespace",
    environ: Mapping[str, str] = os.environ,
) -> str:
    """The namespace that is meant: the one given, else the variable's unless it is empty, else the default.

    Args:
        namespace: what was given; None for nothing.
        setting: how it was given, for the message.
        environ: where the variable is.

    Raises:
        ConfigError: it cannot be used; the message names the setting or the variable, and the value.
    """
    if namespace is not None:
        return check_namespace(namespace, setting)
    return check_namespace(environ.get(NAMESPACE_VARIABLE) or DEFAULT_NAMESPACE, NAMESPACE_VARIABLE)


def check_namespace(namespace: str, setting: str = "namespace") -> str:
    """Return the namespace, or say what is wrong with it.

    Raises:
        ConfigError: it is not 1 to 64 letters, digits, dots, underscores and hyphens.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigError(
            f"{setting}={namespace!r}: use 1 to 64 letters, digits, '.', '_' and '-', "
            "the first of them a letter or digit"
        )
    return namespace


class Keys:
    """Key names of one namespace. Names are bytes, since names of directories are."""

    def __init__(self, namespace: str) -> None:
        self.namespace = check_namespace(namespace)
        # The braces put a namespace into one slot of a Redis Cluster.
        self.prefix = f"jobcache:{{{namespace}}}:".encode()
        self.meta = self.full(META)
        self.lease = self.full(LEASE)
        self.release = self.full(b"release")
        self.changes = self.full(b"changes")
        self.requests = self.full(b"requests")
        self.tombstones = self.full(b"tombstones")
        self.problems = self.full(b"problems")
        self.jobs = self.full(JOBS)
        self.running = self.full(RUNNING)
        self.projects = self.full(PROJECTS)

    def full(self, suffix: bytes) -> bytes:
        """The whole key of a name without its prefix."""
        return self.prefix + suffix

    def job(self, job: JobId) -> bytes:
        """The hash of one job."""
        return self.full(job_key(job.path))


META = b"meta"
LEASE = b"lease"
JOB_PREFIX = b"job:"
JOBS = b"jobs"
RUNNING = b"running"
PROJECTS = b"projects"
PROJECT_PREFIX = b"project:"
GROUPS_PREFIX = b"groups:"
RUNNING_PREFIX = b"running:"
RUNS_PREFIX = b"runs:"
STATUS_PART = b"/status:"


def job_key(path: bytes) -> bytes:
    """Name of the hash of the job with this path."""
    return JOB_PREFIX + path


def status_index(status: JobStatus) -> bytes:
    """Every job with one status."""
    return b"status:" + status.value.encode()


def project_index(project: str) -> bytes:
    """Every job of one project."""
    return PROJECT_PREFIX + encode_name(project)


def project_status_index(project: str, status: JobStatus) -> bytes:
    """Jobs of one project with one status."""
    return project_index(project) + STATUS_PART + status.value.encode()


def group_status_index(group: str, status: JobStatus) -> bytes:
    """Jobs of the groups with one name, in whatever project, with one status."""
    return b"group:" + encode_name(group) + STATUS_PART + status.value.encode()


def project_group_status_index(project: str, group: str, status: JobStatus) -> bytes:
    """Jobs of one group of one project with one status."""
    return (
        b"%b/group:%b" % (project_index(project), encode_name(group))
        + STATUS_PART
        + status.value.encode()
    )


def runs_index(project: str, group: str, name: str) -> bytes:
    """Run ids of one job name."""
    return RUNS_PREFIX + runs_prefix(project, group, name)[:-1]


def runs_index_of(path: bytes) -> bytes:
    """Run ids of the job name at a path."""
    return RUNS_PREFIX + path


def runs_prefix(project: str, group: str, name: str) -> bytes:
    """What stands before the run id in the path of every run of one job name."""
    return encode_name("/".join((project, group, name, "")))


def running_index(project: str) -> bytes:
    """Running jobs of one project."""
    return RUNNING_PREFIX + encode_name(project)


def activity_index(status: JobStatus) -> bytes:
    """Every job with one status, by heartbeat."""
    return RUNNING if status is JobStatus.RUNNING else b"activity:" + status.value.encode()


def groups_listing(project: str) -> bytes:
    """Names of the groups of one project."""
    return GROUPS_PREFIX + encode_name(project)


def member_path(index: bytes, member: bytes) -> bytes:
    """The path of the job that a member of an index stands for; no path of four names if it stands for none."""
    if index.startswith(RUNS_PREFIX):
        return b"%b/%b" % (index.removeprefix(RUNS_PREFIX), member)
    return member


def type_of(key: bytes) -> str | None:
    """The type that the key table gives a key without its namespace's prefix; None for a key that it doesn't know."""
    return next((kind for pattern, kind in _patterns() if pattern.fullmatch(key)), None)


@cache
def _patterns() -> tuple[tuple[re.Pattern[bytes], str], ...]:
    patterns = []
    for row in KEY_TABLE:
        parts = re.split(r"<(\w+)>", row.key)
        text = re.escape(parts[0])
        for placeholder, rest in zip(parts[1::2], parts[2::2], strict=True):
            text += r"[^/]+(/[^/]+){3}" if placeholder == "id" else r"[^/]+"
            text += re.escape(rest)
        patterns.append((re.compile(text.encode(), re.DOTALL), row.type))
    return tuple(patterns)
