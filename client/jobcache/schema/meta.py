"""Every field of the hash ``meta``: who writes it, its unit, and what it means."""

from __future__ import annotations

from typing import NamedTuple


def fresh_since(judged_at: float | None, stale_after: float | None) -> float | None:
    """The oldest heartbeat that counts as fresh, in epoch seconds; None if it cannot be told.

    Staleness is judged as of the last completed scan and not by a reader's clock: if the refresher stops, jobs must not
    all turn stale. ``header.lua`` computes the same on the server.

    Args:
        judged_at: end of the last completed scan (``completed_at``), in epoch seconds; before the first, the epoch.
        stale_after: seconds without a heartbeat that make a running job stale.
    """
    return None if judged_at is None or stale_after is None else judged_at - stale_after


class MetaField(NamedTuple):
    """One field of ``meta``; the table in docs/redis.md shows the same."""

    name: str
    written_by: str
    unit: str
    meaning: str


SCHEMA = "schema"
EPOCH = "epoch"
GENERATION = "generation"
WRITTEN = "written"
FENCE = "fence"
STATE = "state"
REASON = "reason"
COMPLETED_AT = "completed_at"
BEAT_AT = "beat_at"
STALE_AFTER = "stale_after"
ACTIVE_CHIPS = "active_chips"
JOBS = "jobs"
ERRORS = "errors"
PROBLEMS = "problems"
HELD = "held"
REREAD = "reread"
VOLUMES = "volumes"
EXAMINED = "examined"
SCAN_SECONDS = "scan_seconds"
OVERDUE_AFTER = "overdue_after"
REPORTED_AT = "reported_at"
SCANNED = "scanned"
TOTAL = "total"
REQUEST_POSITION = "request_position"
DELETED_POSITION = "deleted_position"
REFRESHER = "refresher"
STATUS_DIR = "status_dir"
MODE = "mode"
MODE_REASON = "mode_reason"
POLL_INTERVAL = "poll_interval"
RELIST_INTERVAL = "relist_interval"
POLICY_WARNING = "policy_warning"
AUDITED_AT = "audited_at"
AUDIT_FINDINGS = "audit_findings"
REPAIRED_AT = "repaired_at"
REPAIRED = "repaired"

FIELDS = (
    MetaField(
        SCHEMA,
        "refresher, when it begins an epoch",
        "number",
        "version of the layout of all keys; clients refuse any other",
    ),
    MetaField(
        EPOCH,
        "refresher, when it begins an epoch",
        "epoch seconds",
        "which build of the cache this is; it changes when the cache is built anew",
    ),
    MetaField(
        GENERATION,
        "refresher",
        "number",
        "grows with every write; jumps by a million when a new refresher leads or a reply was lost",
    ),
    MetaField(
        WRITTEN,
        "refresher, with every write",
        "generation",
        "the last write of a refresher; shows that the server went back",
    ),
    MetaField(
        FENCE,
        "refresher, when it takes the lease",
        "number",
        "the newest fencing token; follows the clock in ms, so it grows even after a flush",
    ),
    MetaField(
        STATE,
        "refresher",
        "word",
        "`building`, `ready` or `degraded`",
    ),
    MetaField(
        REASON,
        "refresher",
        "text",
        "why the state is `degraded`; absent otherwise",
    ),
    MetaField(
        COMPLETED_AT,
        "refresher, when a scan completes",
        "epoch seconds",
        "end of the last completed scan; staleness is judged as of this moment",
    ),
    MetaField(
        BEAT_AT,
        "refresher, each third of `lease_ttl`",
        "epoch seconds",
        "the last renewal of the lease",
    ),
    MetaField(
        STALE_AFTER, "refresher", "seconds", "age of a heartbeat from which a running job is stale"
    ),
    MetaField(
        ACTIVE_CHIPS,
        "refresher",
        "chips",
        "sum of `chips` over running jobs with a recent heartbeat",
    ),
    MetaField(
        JOBS,
        "refresher, when a scan completes",
        "jobs",
        "how many jobs there were",
    ),
    MetaField(
        ERRORS,
        "refresher, when a scan completes",
        "files and directories",
        "how many could not be read, or not as a job",
    ),
    MetaField(
        PROBLEMS,
        "refresher, when a scan completes",
        "paths",
        "how many should be read and are not; the hash `problems` holds at most 1,000 of them",
    ),
    MetaField(
        HELD, "refresher, when a scan completes", "jobs", "deletions that wait for an operator"
    ),
    MetaField(
        REREAD,
        "refresher, when a scan completes",
        "runs",
        "how many wait to be read anew, since parser, zone or status words have changed; 0 for none",
    ),
    MetaField(
        VOLUMES,
        "refresher, when a scan completes",
        "JSON list",
        "directories on filesystems of their own: `path`, `type` and, of one that is not read, `fault` (the reason) "
        "and `releasable`; at most 1,000",
    ),
    MetaField(
        EXAMINED, "refresher, when a scan completes", "runs", "how many the last scan looked at"
    ),
    MetaField(
        SCAN_SECONDS,
        "refresher, when a scan completes",
        "seconds",
        "length of the last scan, with what it wrote",
    ),
    MetaField(
        OVERDUE_AFTER,
        "refresher, when a scan completes",
        "seconds",
        "without a completed scan, or a word of one under way, after which readers call the answers `degraded`",
    ),
    MetaField(
        REPORTED_AT,
        "refresher, about each second during a scan",
        "epoch seconds",
        "when the refresher last told that a scan goes on",
    ),
    MetaField(
        SCANNED,
        "refresher, during a scan of everything",
        "runs",
        "how many a scan under way has examined; absent otherwise",
    ),
    MetaField(
        TOTAL,
        "refresher, during a scan of everything",
        "runs",
        "how many a scan under way examines in all; absent otherwise",
    ),
    MetaField(
        REQUEST_POSITION,
        "refresher, when a scan completes",
        "stream id",
        "the last request that it has seen to",
    ),
    MetaField(
        DELETED_POSITION,
        "refresher, when it applies a deletion",
        "stream id",
        "the last request to delete that was applied",
    ),
    MetaField(
        REFRESHER, "refresher", "text", "host, process id and a random part of the one that leads"
    ),
    MetaField(
        STATUS_DIR, "refresher", "path", "the directory that it reads; paths of jobs begin with it"
    ),
    MetaField(
        MODE,
        "refresher",
        "word",
        "how changes are noticed now: `polling` or `watchdog`",
    ),
    MetaField(
        MODE_REASON,
        "refresher",
        "text",
        "why this mode is in effect, where the setting alone does not say it; else absent or empty",
    ),
    MetaField(
        POLL_INTERVAL,
        "refresher",
        "seconds",
        "between two polls, in either mode",
    ),
    MetaField(
        RELIST_INTERVAL,
        "refresher",
        "seconds",
        "the setting",
    ),
    MetaField(
        POLICY_WARNING,
        "refresher",
        "text",
        "a warning that Redis may evict keys of the cache; absent or empty otherwise",
    ),
    MetaField(
        AUDITED_AT,
        "refresher",
        "epoch seconds",
        "when all of Redis was last compared with what was published",
    ),
    MetaField(
        AUDIT_FINDINGS,
        "refresher",
        "findings",
        "how many that comparison found",
    ),
    MetaField(
        REPAIRED_AT, "refresher", "epoch seconds", "when something was last repaired or built anew"
    ),
    MetaField(
        REPAIRED,
        "refresher",
        "text",
        "what was last repaired or built anew",
    ),
)
"""Every field. Times are epoch seconds of the server's clock. Readers ignore fields that they do not know."""
