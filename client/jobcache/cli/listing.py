"""``jobcache ls``: which jobs it lists, and how."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import click

from jobcache.cache import JobCache
from jobcache.cli import emit, printable
from jobcache.cli.connection import Connection, check_finite, connection_options, pass_connection
from jobcache.cli.tables import JobTable, show_age
from jobcache.ids import decode_name
from jobcache.jsontext import dumps_for_web
from jobcache.models import Freshness, JobMetadata, JobStatus
from jobcache.queries.fetch import CHUNK
from jobcache.queries.filters import LIVE, STATUS_WORDS, Filters, Order, Time, read_time

DEFAULT_LIMIT = 20
MOST_HOURS = 24 * 366 * 10_000
"""Of ``--recent``; longer is all the time there is."""


class _ChoiceOrNone(click.Choice[str]):
    """One of the choices, or empty text, which is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(value, param, ctx) if value else ""


class _Time(click.ParamType[Any]):
    """``24h``, which is before the last scan, or an ISO time; empty text is none."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Time:
        try:
            return read_time((param and param.name) or self.name, value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


@click.command()
@click.option("--project", multiple=True, help="Only of this project; may be repeated.")
@click.option("--group", multiple=True, help="Only of groups with this name; may be repeated.")
@click.option(
    "--status",
    type=_ChoiceOrNone(STATUS_WORDS),
    multiple=True,
    help="Only with this status; may be repeated. A live one runs with a fresh heartbeat, a stale one without.",
)
@click.option("--text", metavar="WORDS", help="Only with all these words in the path or SLURM id.")
@click.option("--started-after", type=_Time(), help="Only those that started then or later.")
@click.option("--started-before", type=_Time(), help="Only those that started before.")
@click.option("--active-after", type=_Time(), help="Only with a heartbeat then or later.")
@click.option("--active-before", type=_Time(), help="Only with the last heartbeat before.")
@click.option(
    "--order",
    type=_ChoiceOrNone([order.value for order in Order]),
    default=Order.STARTED.value,
    show_default=True,
    help="By start or by last heartbeat, newest first.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="At most that many.",
)
@click.option("--all", "every", is_flag=True, help="No limit.")
@click.option("--running", is_flag=True, help="Only running ones with a fresh heartbeat.")
@click.option(
    "--recent",
    type=click.FloatRange(min=0),
    callback=check_finite,
    metavar="HOURS",
    help="Only those that started within so many hours before the last scan.",
)
@connection_options
@pass_connection
def ls(connection: Connection, /, limit: int, every: bool, **filters: Any) -> None:
    """List jobs, newest first. A stale one says it runs, but is not heard of any more.

    A time is 30m, 24h or 7d before the last scan, or a time with its zone, as 2026-02-04T09:44:35Z.
    """
    wanted = _read_filters(**filters)
    found = _list_pages(connection.cache(), wanted, None if every else limit)
    if connection.json:
        _emit_listing(found)
        return
    screen = connection.screen()
    table = JobTable(screen)
    for page in found:
        if shown := table.show(page.jobs):
            emit(shown)
    if screen.terminal:
        emit(_footer(page.more, page.freshness))


class Listed(NamedTuple):
    """A page of ``ls``."""

    jobs: list[JobMetadata]
    more: int | None
    """How many jobs the limit left out; None if that is not known."""
    freshness: Freshness


def _read_filters(running: bool, recent: float | None, **filters: Any) -> dict[str, Any]:
    """The filters of ``page`` that the options mean. Empty text is no filter.

    Raises:
        click.UsageError: the options contradict each other, or one cannot be used.
    """
    wanted: dict[str, Any] = {
        name: [one for one in value if one] or None if isinstance(value, tuple) else value
        for name, value in filters.items()
    }
    if running:
        others = [one for one in wanted["status"] or () if one not in _RUNNING]
        if others:
            raise click.UsageError(f"--running excludes --status {others[0]}.")
        wanted["status"] = [LIVE]
    if recent is not None:
        if wanted["started_after"] is not None:
            raise click.UsageError("--recent excludes --started-after.")
        wanted["started_after"] = timedelta(hours=min(recent, MOST_HOURS))
    try:
        Filters.of(**wanted)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    return wanted


_RUNNING = (JobStatus.RUNNING.value, LIVE)


def _list_pages(cache: JobCache, filters: dict[str, Any], limit: int | None) -> Iterator[Listed]:
    """The jobs a page at a time: at least one, which may be empty."""
    listed, cursor = 0, None
    while True:
        left = CHUNK if limit is None else limit - listed
        page = cache.page(limit=max(1, min(CHUNK, left)), cursor=cursor, **filters)
        jobs = page.jobs[:left]
        listed += len(jobs)
        cursor, full = page.cursor, listed == limit
        more = 0 if page.total is None and cursor is None else page.total
        yield Listed(jobs, more and more - listed if full else 0, page.freshness)
        if cursor is None or full:
            return


def _emit_listing(pages: Iterable[Listed]) -> None:
    """Write the pages as one JSON document, of which never more than a page is in memory."""
    opening = between = '{"jobs":['
    for page in pages:
        for job in page.jobs:
            emit(between + dumps_for_web(job_document(job)).decode())
            between = ","
    freshness = dumps_for_web(page.freshness.model_dump(mode="json")).decode()
    emit(f'{"" if between == "," else opening}],"freshness":{freshness}}}\n')


def job_document(job: JobMetadata) -> dict[str, Any]:
    """A job as JSON."""
    return {
        **job.model_dump(mode="json"),
        "id": decode_name(job.id.path),
        "duration": job.duration,
        "is_stale": job.is_stale,
    }


def _footer(more: int | None, fresh: Freshness) -> str:
    lines = [] if more == 0 else [f"and {'perhaps' if more is None else more} more: --limit, --all"]
    if fresh.reason:
        lines.append(f"last scan {show_age(fresh.age)}: {printable(fresh.reason)}")
    return "".join(f"{line}\n" for line in lines)
