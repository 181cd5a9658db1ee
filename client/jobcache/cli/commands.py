"""The commands of the ``jobcache`` program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from jobcache.cli import EXIT_CODES, Exit, complain, printable
from jobcache.cli.checkup import checkup_document, show_checkup
from jobcache.cli.connection import Connection, check_finite, connection_options, pass_connection
from jobcache.cli.listing import job_document, ls
from jobcache.cli.problems import problems, show_problem
from jobcache.cli.tables import show_age, show_facts, show_job
from jobcache.errors import CacheNotReady
from jobcache.ids import JobId, decode_name
from jobcache.models import DashboardStats, Freshness, Problem
from jobcache.schema import meta as fields
from jobcache.transport.endpoint import Endpoint


@click.group(
    epilog=EXIT_CODES.format(failed="get, delete: there is no such job"),
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@connection_options
@click.version_option(package_name="jobcache", message="%(version)s")
def root() -> None:
    """Look at the jobs in a jobcache, and at the cache itself.

    Errors go to stderr, one line each. The options below may also stand after the command.
    """


# The cache itself


@root.command()
@connection_options
@pass_connection
def info(connection: Connection) -> int:
    """Show how fresh the cache is, what it holds and who fills it.

    Also before it is ready, with the progress of the first scan; the exit code is then 4.
    """
    cache = connection.cache()
    fresh, meta = cache.freshness(), cache.meta()
    try:
        stats = cache.get_dashboard_stats()
    except CacheNotReady:
        stats = None
    document = _info(connection, fresh, meta, stats)
    connection.show(document, lambda screen: show_facts(_info_lines(document, fresh), screen))
    return Exit.NOT_READY if stats is None else Exit.OK


@root.command()
@click.option("--wait", is_flag=True, help="Return once a scan that began after now has completed.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    callback=check_finite,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait.",
)
@connection_options
@pass_connection
def refresh(connection: Connection, wait: bool, timeout: float) -> None:
    """Ask the refresher for a scan of the whole tree."""
    fresh = connection.cache().refresh(wait=wait, timeout=timeout)
    said = "scanned" if wait else "asked for a scan; the last one completed"
    connection.show(
        fresh.model_dump(mode="json"),
        lambda _: f"{said} {show_age(fresh.age)}, generation {fresh.generation}\n",
    )


@root.command()
@click.option(
    "--repair", is_flag=True, help="Have the refresher compare everything, and repair it."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    callback=check_finite,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the refresher.",
)
@connection_options
@pass_connection
def doctor(connection: Connection, repair: bool, timeout: float) -> int:
    """Examine whether hashes, indexes and sums agree with each other.

    Only reads, and may run at any time. The exit code is 1 if anything is wrong; with --repair, if anything still is.
    """
    checkup = connection.cache()
    report = checkup.examine()
    document = checkup_document(report)
    if repair:
        audit = checkup.audit(timeout)
        report = checkup.examine()
        document = {"before": document, "audit": audit, **checkup_document(report)}
    connection.show(document, lambda _: show_checkup(document))
    return Exit.FAILED if report.findings else Exit.OK


root.add_command(problems)


# Jobs


root.add_command(ls)


@root.command()
@click.argument("job", nargs=-1, required=True)
@connection_options
@pass_connection
def get(connection: Connection, job: tuple[str, ...]) -> int:
    """Show one job.

    JOB is PROJECT/GROUP/NAME/RUN_ID, or the four names apart.
    """
    names, cache = _job_id(job), connection.cache()
    found = cache.get_job(*names)
    if found is None:
        return _absent(names, cache.problems(_shown(names)))
    connection.show(job_document(found), lambda screen: show_job(found, screen))
    return Exit.OK


@root.command()
@click.argument("job", nargs=-1, required=True)
@connection_options
@pass_connection
def delete(connection: Connection, job: tuple[str, ...]) -> int:
    """Drop a job whose files were removed.

    If they are still there, it comes back with the next scan.
    """
    names = _job_id(job)
    deleted = connection.cache().delete_job(*names)
    if not deleted:
        return _absent(names)
    document = {"id": _shown(names), "deleted": True}
    connection.show(document, lambda _: f"deleted {printable(_shown(names))}\n")
    return Exit.OK


@root.command()
@click.argument("job", nargs=-1, required=True)
@connection_options
@pass_connection
def invalidate(connection: Connection, job: tuple[str, ...]) -> None:
    """Have the refresher read a job again, or discover it."""
    names = _job_id(job)
    connection.cache().invalidate(*names)
    document = {"id": _shown(names), "invalidated": True}
    connection.show(document, lambda _: f"asked to read {printable(_shown(names))} again\n")


def _job_id(names: tuple[str, ...]) -> JobId:
    parts = tuple(names[0].rstrip("/").split("/")) if len(names) == 1 else names
    job = JobId.of(*parts) if len(parts) == 4 else None
    if job is None:
        raise click.UsageError(
            f"JOB={'/'.join(names)!r}: name a job as PROJECT/GROUP/NAME/RUN_ID, or by four names."
        )
    return job


def _shown(job: JobId) -> str:
    return decode_name(job.path)


def _absent(job: JobId, problems: Iterable[Problem] = ()) -> int:
    names = _shown(job)
    why = "; ".join(
        show_problem(one) if one.path == names else f"{one.path}: {show_problem(one)}"
        for one in problems
    )
    complain("jobcache", f"no such job: {names}" + (f": {why}" if why else ""))
    return Exit.FAILED


def _info(
    connection: Connection, fresh: Freshness, meta: dict[str, str], stats: DashboardStats | None
) -> dict[str, Any]:
    counted = {"projects", "total_checkpoints"}
    return {
        "url": Endpoint.find(connection.url).shown,
        "namespace": connection.checked_namespace(),
        **fresh.model_dump(mode="json"),
        "schema": _number(meta, fields.SCHEMA),
        "status_dir": meta.get(fields.STATUS_DIR),
        "mode": meta.get(fields.MODE),
        "policy_warning": meta.get(fields.POLICY_WARNING) or None,
        "repaired": meta.get(fields.REPAIRED),
        "refresher": meta.get(fields.REFRESHER),
        "scan_seconds": _number(meta, fields.SCAN_SECONDS),
        "errors": _number(meta, fields.ERRORS),
        "problems": _number(meta, fields.PROBLEMS),
        "held": _number(meta, fields.HELD),
        "reread": _number(meta, fields.REREAD),
        "scanned": _number(meta, fields.SCANNED),
        "total": _number(meta, fields.TOTAL),
        "projects": None if stats is None else len(stats.projects),
        "counts": None if stats is None else stats.model_dump(mode="json", exclude=counted),
    }


def _number(meta: dict[str, str], field: str) -> float | int | None:
    text = meta.get(field)
    if text is None:
        return None
    return int(text) if text.isdecimal() else float(text)


def _info_lines(document: dict[str, Any], fresh: Freshness) -> dict[str, str]:
    lines = {
        name: str(document[name])
        for name in ("url", "namespace", "state", "reason", "status_dir", "mode", "refresher")
        if document[name]
    }
    if document["policy_warning"]:
        lines["warning"] = document["policy_warning"]
    if document["repaired"]:
        lines["last repair"] = document["repaired"]
    lines["last scan"] = show_age(fresh.age)
    if document["scan_seconds"] is not None:
        lines["last scan"] += f", in {document['scan_seconds']:.1f} s"
    if document["total"] is not None:
        lines["scanning"] = f"{document['scanned']} of {document['total']} runs"
    for name in ("generation", "epoch", "schema"):
        lines[name] = str(document[name] or "-")
    if document["errors"]:
        lines["errors"] = f"{document['errors']} files or directories could not be read"
    if document["reread"]:
        lines["reading anew"] = f"{document['reread']} runs wait for it"
    if document["problems"]:
        lines["problems"] = f"{document['problems']} (jobcache problems)"
    if document["counts"] is not None:
        lines |= _count_lines(document["counts"], document["projects"])
    return lines


def _count_lines(counts: dict[str, int], projects: int) -> dict[str, str]:
    statuses = ("running", "stale", "completed", "failed", "preempted", "unknown")
    return {
        "jobs": f"{counts['total_jobs']} in {projects} projects",
        "by status": ", ".join(f"{counts[name]} {name}" for name in statuses if counts[name]),
        "active chips": str(counts["active_chips"]),
    }
