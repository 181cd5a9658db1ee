"""The command ``jobcache problems``: what the refresher should read and does not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from jobcache.cli import printable
from jobcache.cli.connection import Connection, connection_options, pass_connection
from jobcache.cli.tables import GAP, Screen
from jobcache.models import Freshness, Problem

LEAST_REASON = 30
"""Columns that a reason has at least beside the path; on a narrower screen it stands below."""


@click.command()
@click.argument("prefix", default="")
@connection_options
@pass_connection
def problems(connection: Connection, prefix: str) -> None:
    """Show why runs are missing: what the refresher should read and does not.

    With PREFIX, such as PROJECT/GROUP or a whole job, only what concerns that path.
    """
    cache = connection.cache()
    found = cache.problems(prefix, None)
    fresh = cache.last_freshness
    assert fresh is not None
    total = len(found) if prefix else cache.counts().problems
    document = {
        "problems": [problem.model_dump(mode="json") for problem in found],
        "total": total,
        "freshness": fresh.model_dump(mode="json"),
    }
    connection.show(document, lambda screen: _show(found, total, fresh, screen))


def show_problem(problem: Problem) -> str:
    """Why something is not read, within a line."""
    return f"{printable(problem.reason)} (since {_time(problem.since)})"


def _show(found: Sequence[Problem], total: int, fresh: Freshness, screen: Screen) -> str:
    reason = f": {printable(fresh.reason)}" if fresh.reason else ""
    as_of = "" if fresh.completed_at is None else f"as of {_time(fresh.completed_at)}{reason}"
    if not found:
        return f"none, {as_of}\n"
    more = total - len(found)
    footer = [f"and {more} more, which are only counted"] if more > 0 else []
    footer += [as_of] if screen.terminal else []
    return show_problems(found, screen) + "".join(f"{line}\n" for line in footer)


def show_problems(found: Sequence[Problem], screen: Screen) -> str:
    """A table of some problems, a line each; on a narrow screen, the path has a line of its own."""
    paths = [printable(problem.path) for problem in found]
    times = [_time(problem.since) for problem in found]
    reasons = [printable(problem.reason) for problem in found]
    gap = " " * GAP
    beside = max(map(cell_len, paths)) + GAP + len(times[0]) + GAP
    if beside + LEAST_REASON > screen.width:
        rows = zip(paths, times, reasons, strict=True)
        return "".join(f"{path}\n{gap}{time}{gap}{reason}\n" for path, time, reason in rows)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("PATH", no_wrap=True)
    table.add_column("SINCE", no_wrap=True)
    table.add_column("REASON", overflow="fold")
    for row in zip(paths, times, reasons, strict=True):
        table.add_row(*map(Text, row))  # as Text, since any of it may look like markup
    return screen.render(table)


def _time(moment: datetime) -> str:
    """A time in this machine's zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
