"""The status directory that is measured: built or reused, and kept beating.

The demo's tree has few logs, and short ones. Here every run gets one, as the producer writes it: both sides search
logs, and the baseline reads the head of each in every full scan.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobcache_refresher.demo.runs import bootstrap_line, local_timestamp, wandb_line
from jobcache_refresher.demo.tree import build_tree

LOG_BYTES = 64 << 10
"""Size of a log. Real ones reach gigabytes; no side reads more of one than this, once its W&B address is found."""
LINKS = 10_000
"""Runs that share one log: a hundred thousand of them must fit on a disk."""

_BEAT = re.compile(r'("last_heartbeat": ")[^"]*')
_LOG_LINE = "\x1b[32m[INFO]\x1b[0m step=%07d loss=2.3178 lr=1.8e-04 tokens_per_second=41873\n"


@dataclass(frozen=True, slots=True)
class MeasuredTree:
    """A status directory, and what of it the queries ask for."""

    root: Path
    jobs: int
    running: Sequence[Path]
    """`metadata.json` of every run that says it is running."""
    project: str
    """The project with the most jobs; the names that follow are those with the most jobs in it."""
    group: str
    name: str
    run_id: str

    def beat(self, part: int = 0, parts: int = 1) -> None:
        """Rewrite every `parts`-th running job as its producer does every 30 seconds."""
        for path in self.running[part::parts]:
            text = path.read_text()
            now = local_timestamp(time.time())
            path.write_text(_BEAT.sub(rf"\g<1>{now}", text, count=1))


def prepare_tree(root: Path, jobs: int, running: float, log_bytes: int = LOG_BYTES) -> MeasuredTree:
    """Build a tree at `root` unless one is there, and read all of it once, so that nobody reads it first.

    Raises:
        ValueError: what is there is no tree of runs.
    """
    root.mkdir(parents=True, exist_ok=True)
    if not any(root.iterdir()):
        add_logs(build_tree(root, jobs, running=running), log_bytes)
    found: list[tuple[str, ...]] = []
    beating: list[Path] = []
    for path in _metadata_files(root):
        found.append(path.parent.relative_to(root).parts)
        if '"status": "running"' in path.read_text(errors="replace"):
            beating.append(path)
    if not found:
        raise ValueError(f"tree {root}: there is no run in it")
    names: list[str] = []
    for level in range(4):
        here = Counter(parts[level] for parts in found if parts[:level] == tuple(names))
        names.append(max(sorted(here), key=here.__getitem__))
    return MeasuredTree(root, len(found), beating, *names)


def placeless(jobs: int, names: Sequence[str]) -> MeasuredTree:
    """What stands for jobs that lie in no filesystem; `names` are the four that the queries ask for."""
    project, group, name, run_id = names
    return MeasuredTree(Path("/made/up"), jobs, (), project, group, name, run_id)


def add_logs(runs: Sequence[Path], size: int) -> None:
    """Give every run that has none an `output.log` of about `size` bytes; 0 adds none."""
    if size <= 0:
        return
    text = bootstrap_line("20260101_000000", 0.0)
    text += wandb_line(random.Random(0), project="bench", run_id="20260101_000000")
    text += "".join(_LOG_LINE % step for step in range(max(0, size - len(text)) // len(_LOG_LINE)))
    bare = [run for run in runs if not (run / "output.log").exists()]
    for number, run in enumerate(bare):
        times = run.stat()
        path = run / "output.log"
        if number % LINKS:
            path.hardlink_to(bare[number - number % LINKS] / "output.log")
        else:
            path.write_text(text)
        os.utime(run, ns=(times.st_atime_ns, times.st_mtime_ns))


def _metadata_files(root: Path) -> list[Path]:
    return [
        Path(directory, "metadata.json")
        for directory, _, files in os.walk(root)
        if "metadata.json" in files
    ]
