"""Made-up jobs without a filesystem: as many as a tree would be too slow for.

Every document is written, parsed and encoded as one that the refresher read. Two sizes differ in nothing but the number
of jobs: the same projects and groups, the same runs a name and as many running jobs, but more names.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from jobcache.ids import JobId
from jobcache.schema.job import FINGERPRINT, encode_description
from jobcache_refresher.demo.runs import (
    BEAT_SECONDS,
    FIRST_SLURM_ID,
    Placement,
    Status,
    layout,
    local_timestamp,
    make_ending,
    make_run_id,
    metadata_format,
    wandb_line,
)
from jobcache_refresher.records import Fields
from jobcache_refresher.scan.address import find_address
from jobcache_refresher.scan.identity import encode
from jobcache_refresher.scan.parse import parse_metadata
from jobcache_refresher.scan.tree import Fingerprint

_HOUR = 3600.0
_DAY = 24 * _HOUR
_HISTORY = 90 * _DAY
_PER_RUN = (
    *("project", "group", "name", "run_id", "start_time", "last_heartbeat"),
    *("status", "slurm_job_id"),
)


@dataclass(frozen=True, slots=True)
class Population:
    """How many jobs, and how they lie.

    Raises:
        ValueError: `jobs` is no multiple of `laid_out`.
    """

    jobs: int
    laid_out: int
    """Jobs of the layout that is repeated, under other names, until there are enough."""
    running: int
    """Jobs that run, however many there are."""
    groups: int = 1
    """Groups that take the place of each group."""

    def __post_init__(self) -> None:
        if self.laid_out < 1 or self.jobs % self.laid_out:
            raise ValueError(f"{self.jobs} jobs are no multiple of {self.laid_out}")

    def places(self) -> Iterator[Placement]:
        """Where the runs of each name lie."""
        for copy in range(self.jobs // self.laid_out):
            placements = layout(random.Random(0), self.laid_out)
            for number, place in enumerate(placements):
                name = f"{place.name}_v{copy}" if copy else place.name
                group = place.group
                if self.groups > 1:
                    group = f"{group or 'default'}_part{number % self.groups}"
                yield place._replace(name=name, group=group)


class MadeUpJob(NamedTuple):
    """A run, and all that its document says."""

    number: int
    job: JobId
    text: str
    """The document, as a %-format with the heartbeat left open."""
    heartbeat: float
    """Epoch seconds."""
    url: str
    is_running: bool

    def fields(self, heartbeat: float | None = None) -> Fields:
        """The fields of its hash, by way of the document; with a later heartbeat, if one is given."""
        beat = self.heartbeat if heartbeat is None else heartbeat
        raw = (self.text % local_timestamp(beat)).encode()
        described = parse_metadata(raw, None).job
        fields = encode_description(described, wandb_url=self.url, log_scanned=LOG_SCANNED)
        moment = int(beat * 1e9)
        fields[FINGERPRINT] = encode(Fingerprint(moment, moment, len(raw), self.number), TAG)
        return fields


TAG = b"made"
"""How the jobs were read, as if a refresher had."""
LOG_SCANNED = b"65536:65536:65536:1:12345678:1234567890:1234567890"
"""How far the search in the log has come, by the hash of each job."""


def made_up_jobs(population: Population) -> Iterator[MadeUpJob]:
    """The same jobs each time, but for the moment from which their times count back."""
    rng = random.Random(1)
    now = time.time()
    beating = frozenset(rng.sample(range(population.laid_out), population.running))
    templates: dict[str, str] = {}
    number = 0
    for place in population.places():
        if place.name not in templates:
            templates[place.name] = metadata_format(rng, place.name, _PER_RUN)
        template = templates[place.name]
        starts = sorted(rng.uniform(2 * _DAY, _HISTORY) for _ in range(place.runs))
        for ago in starts:
            yield _made_up(rng, place, template, number, now, ago, is_running=number in beating)
            number += 1


def busiest(population: Population) -> tuple[str, str, str]:
    """The project, group and name with the most jobs, each within the one before; the same at every size."""
    by_names: Counter[tuple[str, ...]] = Counter()
    for place in replace(population, jobs=population.laid_out).places():
        names = place.names
        for level in range(1, 4):
            by_names[names[:level]] += place.runs
    chosen: tuple[str, ...] = ()
    for level in range(1, 4):
        here = [names for names in by_names if len(names) == level and names[:-1] == chosen]
        chosen = max(sorted(here), key=by_names.__getitem__)
    project, group, name = chosen
    return project, group, name


def _made_up(
    rng: random.Random,
    place: Placement,
    template: str,
    number: int,
    now: float,
    ago: float,
    *,
    is_running: bool,
) -> MadeUpJob:
    if is_running:
        started, heartbeat = now - rng.uniform(BEAT_SECONDS, 12 * _HOUR), now
        status: Status = "running"
    else:
        started = now - ago
        heartbeat = started + rng.uniform(60.0, 1.9 * _DAY)
        status = make_ending(rng)
    # Every other job has a SLURM id. Those that run do, so that two that start in one second stay apart.
    slurm_id = FIRST_SLURM_ID + number if is_running or number % 2 else None
    run_id = make_run_id(started, slurm_id)
    values = {
        "project": place.project,
        "group": place.group,
        "name": place.name,
        "run_id": run_id,
        "start_time": local_timestamp(started),
        "status": status,
        "slurm_job_id": slurm_id,
    }
    literals = {name: "null" if value is None else f'"{value}"' for name, value in values.items()}
    text = template % {**literals, "last_heartbeat": '"%s"'}
    url = find_address(wandb_line(rng, project=place.project, run_id=run_id).encode())
    assert url is not None
    job = JobId(*place.names, run_id)
    return MadeUpJob(number, job, text, heartbeat, url, is_running)
