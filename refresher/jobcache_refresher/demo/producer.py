"""A live simulation of training jobs, for demonstrations and tests that need a moving tree.

It writes as the real producer does, so that its files are met in every half-written state:
`open("w")`, then `json.dump`, with no temporary file and no rename.
"""

from __future__ import annotations

import itertools
import json
import random
import shutil
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from jobcache_refresher.demo.runs import (
    FIRST_SLURM_ID,
    PROJECTS,
    Placement,
    bootstrap_line,
    layout,
    local_timestamp,
    make_metadata,
    make_run_id,
    progress_line,
    wandb_line,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

_Fate = Literal["completed", "failed", "preempted", "killed"]
_FATES: Final[tuple[_Fate, ...]] = ("completed", "failed", "preempted", "killed")
_FATE_WEIGHTS: Final = (70, 15, 12, 3)
_SHORTEST_RUN: Final = 30.0
_LONGEST_RUN: Final = 210.0
_STEPS_A_BEAT: Final = 25
_PROJECTS_IN_USE: Final = 6
_LAYOUT_RUNS: Final = 12_000
_FEWEST_NAMES: Final = 8


@dataclass
class _LiveRun:
    """A run that still beats; times in epoch seconds."""

    directory: Path
    metadata: dict[str, Any]
    next_beat: float
    ends_at: float
    fate: _Fate
    beats: int = 0


class Activity(NamedTuple):
    """What one `Producer.step` did, in runs."""

    started: int
    beaten: int
    ended: int
    vanished: int


class Producer:
    """Training jobs that live in a status directory as real ones do, only faster.

    Each run starts, beats, logs, and ends: completed, failed, preempted, or killed, which leaves
    it `running` for ever. `jobs` runs beat at once. Those that ended stay until there are more
    than `jobs` of them (killed ones longer, up to `jobs / 4`, so that they are seen to go stale);
    then the oldest vanish, directory and all. A run whose directory someone else removes is gone.

    `beat_interval` is in seconds (the real producer's is `BEAT_SECONDS`); `pace` divides it and
    the runs' lifetimes of half a minute to three and a half minutes. Raises `ValueError` for a
    `jobs`, `pace` or `beat_interval` that is not positive. Not safe for concurrent use.
    """

    def __init__(
        self,
        root: Path,
        *,
        seed: int = 0,
        jobs: int = 40,
        pace: float = 1.0,
        beat_interval: float = 3.0,
    ) -> None:
        if jobs < 1 or pace <= 0 or beat_interval <= 0:
            raise ValueError("jobs, pace and beat_interval must be positive")
        self._root = root
        self._rng = random.Random(seed)
        self._jobs = jobs
        self._pace = pace
        self._beat_seconds = beat_interval / pace
        self._catalogue = _make_catalogue(self._rng, jobs)
        self._slurm_ids = itertools.count(FIRST_SLURM_ID)
        self._live: list[_LiveRun] = []
        self._ended: deque[Path] = deque()
        self._killed: deque[Path] = deque()

    def step(self, now: float) -> Activity:
        """Do what is due at `now` (epoch seconds, not before the previous step's)."""
        beaten = ended = 0
        still_live: list[_LiveRun] = []
        for run in self._live:
            try:
                if now >= run.ends_at:
                    self._end(run, now)
                    ended += 1
                    continue
                if now >= run.next_beat:
                    self._beat(run, now)
                    beaten += 1
            except FileNotFoundError:  # someone else removed the run
                continue
            still_live.append(run)
        self._live = still_live
        vanished = _remove_oldest(self._ended, keep=self._jobs)
        vanished += _remove_oldest(self._killed, keep=self._jobs // 4)
        missing = self._jobs - len(self._live)
        for _ in range(missing):
            self._live.append(self._start(now))
        return Activity(started=missing, beaten=beaten, ended=ended, vanished=vanished)

    def run(self, stop: threading.Event, clock: Callable[[], float] = time.time) -> None:
        """Step by the `clock` (epoch seconds) until `stop` is set."""
        pause = min(0.5, self._beat_seconds / 4)
        while not stop.is_set():
            self.step(clock())
            stop.wait(pause)

    def _start(self, now: float) -> _LiveRun:
        place = self._rng.choice(self._catalogue)
        slurm_id = None
        if self._rng.random() < 0.5:
            slurm_id = next(self._slurm_ids)
        run_id = make_run_id(now, slurm_id)
        directory = place.directory(self._root) / run_id
        if directory.exists():
            return self._start(now)
        directory.mkdir(parents=True)
        metadata = make_metadata(
            self._rng,
            project=place.project,
            group=place.group,
            name=place.name,
            run_id=run_id,
            started=now,
            heartbeat=now,
            status="running",
        )
        _write_metadata(directory, metadata)
        _append_log(directory, bootstrap_line(run_id, now))
        lifetime = self._rng.uniform(_SHORTEST_RUN, _LONGEST_RUN) / self._pace
        (fate,) = self._rng.choices(_FATES, _FATE_WEIGHTS)
        # The first beat comes at a random phase, else runs that start together beat together.
        first_beat = now + self._rng.uniform(0.1, 1.0) * self._beat_seconds
        return _LiveRun(directory, metadata, first_beat, now + lifetime, fate)

    def _beat(self, run: _LiveRun, now: float) -> None:
        run.next_beat = now + self._beat_seconds
        run.beats += 1
        run.metadata["last_heartbeat"] = local_timestamp(now)
        _write_metadata(run.directory, run.metadata)
        line = progress_line(self._rng, step=run.beats * _STEPS_A_BEAT, at=now)
        if run.beats == 1:
            line = wandb_line(
                self._rng, project=run.metadata["project"], run_id=run.metadata["run_id"]
            )
        _append_log(run.directory, line)

    def _end(self, run: _LiveRun, now: float) -> None:
        if run.fate == "killed":  # with no chance to write
            self._killed.append(run.directory)
            return
        run.metadata["status"] = run.fate
        run.metadata["last_heartbeat"] = local_timestamp(now)
        _write_metadata(run.directory, run.metadata)
        self._ended.append(run.directory)


def _remove_oldest(directories: deque[Path], *, keep: int) -> int:
    excess = max(0, len(directories) - keep)
    for _ in range(excess):
        shutil.rmtree(directories.popleft(), ignore_errors=True)
    return excess


def _make_catalogue(rng: random.Random, jobs: int) -> list[Placement]:
    """Names that have about two running jobs each, in few projects with a few groups each."""
    projects = PROJECTS[:_PROJECTS_IN_USE]
    places = [place for place in layout(rng, _LAYOUT_RUNS) if place.project in projects]
    return rng.sample(places, min(len(places), max(jobs // 2, _FEWEST_NAMES)))


def _write_metadata(directory: Path, metadata: dict[str, Any]) -> None:
    with open(directory / "metadata.json", "w") as file:
        json.dump(metadata, file, indent=2)


def _append_log(directory: Path, line: str) -> None:
    with open(directory / "output.log", "a") as file:
        file.write(line)
