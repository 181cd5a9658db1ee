"""How the ``jobcache`` program shows answers to a person. Text goes in escaped: a terminal obeys what it is sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any, Literal, NamedTuple

from rich.console import Console, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from jobcache.cli import printable
from jobcache.ids import decode_name
from jobcache.models import JobMetadata, JobStatus
from jobcache.times import format_duration

PIPE_WIDTH = 10_000
"""Columns of output that is not a terminal: every row is one line, whatever it holds."""
GAP = 2
"""Spaces between two columns."""

_STYLES = {
    JobStatus.RUNNING: "green",
    JobStatus.COMPLETED: "cyan",
    JobStatus.FAILED: "red",
    JobStatus.PREEMPTED: "yellow",
    JobStatus.UNKNOWN: "dim",
}
_NOTHING = "-"


class Screen(NamedTuple):
    """What is written to."""

    width: int
    terminal: bool

    def render(self, *parts: RenderableType) -> str:
        """The parts below one another, styled for a terminal only."""
        console = Console(
            file=StringIO(), width=self.width, force_terminal=self.terminal, highlight=False
        )
        with console.capture() as captured:
            for part in parts:
                console.print(part, soft_wrap=isinstance(part, Text))
        return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")) + "\n"


class _Row(NamedTuple):
    id: str
    status: Text
    start: str
    duration: str
    chips: str
    wandb: Text
    wandb_id: Text


class _Layout(NamedTuple):
    """Which columns stand in a line, and whether the id has a line of its own above them."""

    columns: tuple[str, ...]
    id_above: bool = False


_TITLES = {
    "id": "ID",
    "status": "STATUS",
    "start": "START",
    "duration": "DURATION",
    "chips": "CHIPS",
    "wandb": "W&B",
    "wandb_id": "W&B",
}
_RIGHT = {"duration", "chips"}
_FACTS = ("status", "start", "duration", "chips")
_LAYOUTS = (
    _Layout(("id", *_FACTS, "wandb")),
    _Layout(("id", *_FACTS, "wandb_id")),
    _Layout((*_FACTS, "wandb_id"), id_above=True),
)
"""From the widest to the narrowest. An id is never cut or folded: it is there to be copied."""


class JobTable:
    """A table of jobs that fits the screen, written a page at a time; on a narrow screen, a job takes two lines.

    Columns are as wide as what was shown so far needs.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._widths = {name: len(title) for name, title in _TITLES.items()}
        self._layout: _Layout | None = None
        """Of the page before."""

    def show(self, jobs: Sequence[JobMetadata]) -> str:
        """The next page; the first one has a heading, also if it is empty."""
        rows = [_row(job) for job in jobs]
        for name in _TITLES:
            cells = (_cells(getattr(row, name)) for row in rows)
            self._widths[name] = max([self._widths[name], *cells])
        layout = self._choose_layout() if rows or self._layout is None else self._layout
        heading, self._layout = layout != self._layout, layout
        if not rows and not heading:
            return ""
        if not layout.id_above:
            return self._screen.render(self._table(layout, rows, heading))
        beside = self._screen._replace(width=max(1, self._screen.width - GAP))
        facts = beside.render(self._table(layout, rows, heading)).splitlines()
        ids = [*(["ID"] if heading else []), *(row.id for row in rows)]
        return "".join(
            f"{name}\n{' ' * GAP}{line}\n" for name, line in zip(ids, facts, strict=True)
        )

    def _choose_layout(self) -> _Layout:
        return next(
            (one for one in _LAYOUTS if self._width(one) <= self._screen.width), _LAYOUTS[-1]
        )

    def _width(self, layout: _Layout) -> int:
        columns = [self._widths[name] for name in layout.columns]
        return sum(columns) + GAP * (len(columns) - 1 + layout.id_above)

    def _table(self, layout: _Layout, rows: Iterable[_Row], heading: bool) -> Table:
        table = Table(
            box=None,
            padding=(0, GAP, 0, 0),
            pad_edge=False,
            header_style="bold",
            show_header=heading,
        )
        for name in layout.columns:
            justify: Literal["right", "left"] = "right" if name in _RIGHT else "left"
            width = self._widths[name]
            table.add_column(_TITLES[name], justify=justify, no_wrap=True, min_width=width)
        for row in rows:
            # As Text, since a name may look like markup.
            table.add_row(*(_as_text(getattr(row, name)) for name in layout.columns))
        return table


def show_job(job: JobMetadata, screen: Screen) -> str:
    """One job in full."""
    hardware = job.hardware
    facts: dict[str, str | Text] = {
        "status": _status(job),
        **({"written as": job.status_text} if job.status_text else {}),
        "start": job.start_time or _NOTHING,
        "last heartbeat": job.last_heartbeat or _NOTHING,
        "duration": job.duration or _NOTHING,
        "chips": f"{hardware.total_chips} {hardware.chip or ''}".rstrip(),
        "hosts": ", ".join(hardware.hosts) or _NOTHING,
        "SLURM job": job.slurm_job_id or _NOTHING,
        "job key": job.job_key or _NOTHING,
        "W&B": _link(job.wandb_url, job.wandb_url),
        "metadata": job.metadata_path or _NOTHING,
        "log": job.log_path or _NOTHING,
    }
    title = Text(printable(decode_name(job.id.path)), Style(bold=True))
    extra = _document("extra", job.extra) if job.extra else []
    return screen.render(title, _pairs(facts), *_document("config", job.config), *extra)


def _document(name: str, value: dict[str, Any]) -> list[Text]:
    """A name, and below it what it holds as JSON."""
    lines = json.dumps(value, indent=2, ensure_ascii=False).splitlines()
    return [Text(name), *(Text(f"  {printable(line)}") for line in lines)]


def show_facts(facts: Mapping[str, str], screen: Screen) -> str:
    """Names and values, one a line."""
    return screen.render(_pairs(facts))


def show_age(seconds: float | None) -> str:
    """How long ago something was."""
    return "never" if seconds is None else f"{format_duration(seconds)} ago"


def _row(job: JobMetadata) -> _Row:
    address = job.wandb_url
    run = address.rstrip("/").rpartition("/")[2] if address else None
    return _Row(
        id=printable(decode_name(job.id.path)),
        status=_status(job),
        start=f"{job.started_at.astimezone():%Y-%m-%d %H:%M}" if job.started_at else _NOTHING,
        duration=job.duration or _NOTHING,
        chips=str(job.hardware.total_chips),
        wandb=_link(address, address),
        wandb_id=_link(run, address),
    )


def _status(job: JobMetadata) -> Text:
    if job.is_stale:
        return Text("stale", "yellow bold")
    return Text(job.status.value, _STYLES[job.status])


def _link(text: str | None, address: str | None) -> Text:
    if not text or not address:
        return Text(_NOTHING)
    safe = address.isascii() and address.isprintable()
    return Text(printable(text), Style(link=address) if safe else "")


def _cells(content: str | Text) -> int:
    return (content if isinstance(content, Text) else Text(content)).cell_len


def _pairs(facts: Mapping[str, str | Text]) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, _as_text(value))
    return table


def _as_text(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(printable(value))
