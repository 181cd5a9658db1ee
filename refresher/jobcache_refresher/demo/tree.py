"""A static status directory full of made-up runs, written fast: 100,000 of them in seconds."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Final, NamedTuple

from jobcache_refresher.demo.runs import (
    BEAT_SECONDS,
    FIRST_SLURM_ID,
    Placement,
    Status,
    bootstrap_line,
    layout,
    local_timestamp,
    make_ending,
    make_run_id,
    metadata_format,
    wandb_line,
)

_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
_HISTORY_SLOTS: Final = 1000
_SLOT_SECONDS: Final = 2 * _HOUR
_LOGGED_SHARE: Final = 0.1
_PER_RUN_FIELDS: Final = (
    *("project", "group", "run_id", "start_time", "last_heartbeat", "status", "slurm_job_id"),
)


def build_tree(
    root: Path, jobs: int, *, running: float = 0.02, seed: int = 0, now: float | None = None
) -> list[Path]:
    """Write `jobs` runs under `root`, and return their run directories.

    The fraction `running` of them beat within the 30 seconds before `now` (epoch seconds, by
    default the clock's); the rest ended in the three months before that, with the modification
    times of files and directories to match. One run in ten has an `output.log`. The same
    arguments in the same time zone give the same tree, byte for byte.

    Raises `ValueError` for arguments out of range, `FileExistsError` where a run exists already.
    """
    if jobs < 0 or not 0.0 <= running <= 1.0:
        raise ValueError(f"cannot build {jobs} runs of which the fraction {running} is running")
    rng = random.Random(seed)
    moment = time.time() if now is None else now
    beating = frozenset(rng.sample(range(jobs), round(jobs * running)))
    templates: dict[str, _Template] = {}
    newest_start: dict[str, float] = {}  # of the runs below each directory
    written: list[Path] = []

    for place in layout(rng, jobs):
        if place.name not in templates:
            templates[place.name] = _make_template(rng, place.name)
        template = templates[place.name]
        job_directory = place.directory(root)
        job_directory.mkdir(parents=True, exist_ok=True)
        for slot in rng.sample(range(_HISTORY_SLOTS), place.runs):
            number = len(written)
            span = _make_span(rng, moment, slot, is_running=number in beating)
            # A running job has a SLURM id, which keeps two that start in one second apart.
            is_queued = span.status == "running" or rng.random() < 0.5
            slurm_id = FIRST_SLURM_ID + number if is_queued else None
            run_id = make_run_id(span.started, slurm_id)
            run_directory = os.path.join(job_directory, run_id)
            text = _render(template, place, run_id, slurm_id, span)
            os.mkdir(run_directory)
            _write_aged(os.path.join(run_directory, "metadata.json"), text, span.heartbeat)
            if rng.random() < _LOGGED_SHARE:
                log = bootstrap_line(run_id, span.started)
                log += wandb_line(rng, project=place.project, run_id=run_id)
                _write_aged(os.path.join(run_directory, "output.log"), log, span.heartbeat)
            os.utime(run_directory, (span.started, span.started))
            written.append(Path(run_directory))
            for parent in (job_directory, job_directory.parent, job_directory.parent.parent):
                key = str(parent)
                newest_start[key] = max(span.started, newest_start.get(key, span.started))

    for directory, started in newest_start.items():
        os.utime(directory, (started, started))
    return written


class _Span(NamedTuple):
    """When a run began and last beat (epoch seconds), and how it stands."""

    started: float
    heartbeat: float
    status: Status


class _Template(NamedTuple):
    """One `metadata.json`, encoded once."""

    head: str  # a %-format with the JSON of `_PER_RUN_FIELDS` left open
    tail: str  # the config


def _make_span(rng: random.Random, now: float, slot: int, *, is_running: bool) -> _Span:
    if is_running:
        started = now - rng.uniform(BEAT_SECONDS, 12 * _HOUR)
        return _Span(started, now - rng.uniform(0.0, BEAT_SECONDS), "running")
    # Over an hour lies between the starts of two slots: run ids differ across a clock change.
    started = now - 2 * _DAY - slot * _SLOT_SECONDS - rng.uniform(0.0, 0.45 * _SLOT_SECONDS)
    status = make_ending(rng)
    return _Span(started, started + rng.uniform(60.0, 1.9 * _DAY), status)


def _make_template(rng: random.Random, name: str) -> _Template:
    head, mark, config = metadata_format(rng, name, _PER_RUN_FIELDS).partition('"config": ')
    return _Template(head, mark + config)


def _render(
    template: _Template, place: Placement, run_id: str, slurm_id: int | None, span: _Span
) -> str:
    values = (
        place.project,
        place.group,
        run_id,
        local_timestamp(span.started),
        local_timestamp(span.heartbeat),
        span.status,
        slurm_id,
    )
    # None of these words needs escaping in JSON.
    literals = ["null" if value is None else f'"{value}"' for value in values]
    return template.head % dict(zip(_PER_RUN_FIELDS, literals, strict=True)) + template.tail


def _write_aged(path: str, text: str, modified: float) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, text.encode())
        os.utime(descriptor, (modified, modified))
    finally:
        os.close(descriptor)
