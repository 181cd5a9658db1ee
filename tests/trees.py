"""Runs in a status directory, written as the producer writes them, and their brute-force reading.

``Oracle`` is what every query is compared with: it reads the tree for itself and shares no code with the project.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

STATUSES = ("running", "completed", "failed", "preempted", "unknown")
WORDS = {"RUNNING": "running", "TIMEOUT": "failed", "Succeeded": "completed"}
"""A few words that mean a status."""

Names = tuple[str, str, str, str]


def shown(name: str) -> str:
    """A name, as ``os.fsdecode`` gives it, as the client hands it out."""
    return "".join(_shown_character(ord(character)) for character in name)


def _shown_character(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        return chr(code - 0xDC00 + 0xEF00)
    if 0xEF00 <= code <= 0xEFFF:
        return "".join(chr(0xEF00 + byte) for byte in chr(code).encode())
    return chr(code)


def shown_names(names: Names) -> Names:
    project, group, name, run_id = names
    return shown(project), shown(group), shown(name), shown(run_id)


def shown_value(value: Any) -> Any:
    """A value of a document, as the client hands it out."""
    if isinstance(value, str):
        return "".join(
            f"\\u{ord(character):04x}"
            if 0xD800 <= ord(character) <= 0xDC7F or 0xDD00 <= ord(character) <= 0xDFFF
            else _shown_character(ord(character))
            if ord(character) < 0xE000
            else character
            for character in value
        )
    if isinstance(value, list):
        return [shown_value(item) for item in value]
    if isinstance(value, dict):
        return {shown_value(key): shown_value(item) for key, item in value.items()}
    return value


def metadata(**changes: Any) -> dict[str, Any]:
    """A plausible ``metadata.json``."""
    now = datetime.now()
    return {
        "name": "n",
        "project": None,
        "group": None,
        "job_key": "p/train/n",
        "run_id": "r",
        "start_time": (now - timedelta(hours=1)).isoformat(),
        "last_heartbeat": now.isoformat(),
        "status": "running",
        "slurm_job_id": "1234567",
        "hardware": {"chip": "h100", "total_chips": 8, "hosts": ["node000", "node001"]},
        "config": {"optimization": {"lr": 3e-4}, "job": "p/train/n"},
        **changes,
    }


def run_dir(root: Path, names: Names) -> Path:
    return root.joinpath(*names)


def write_run(root: Path, names: Names, log: str | None = None, **changes: Any) -> Path:
    """Write a run, or write it anew."""
    directory = run_dir(root, names)
    directory.mkdir(parents=True, exist_ok=True)
    write_raw(directory, json.dumps(metadata(**changes), indent=2).encode())
    if log is not None:
        (directory / "output.log").write_text(log)
    return directory


def write_raw(directory: Path, raw: bytes) -> None:
    """Write these bytes as a run's ``metadata.json``, not atomically, as the producer does."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "metadata.json").open("wb") as file:
        file.write(raw)


def delete_run(root: Path, names: Names) -> None:
    shutil.rmtree(run_dir(root, names))


@dataclass(frozen=True)
class OracleJob:
    path: bytes
    document: dict[str, Any]
    mtime: float
    """Of the file, in epoch seconds."""

    @property
    def names(self) -> Names:
        """As the client hands them out."""
        names: Any = os.fsdecode(self.path).split("/")
        return shown_names(names)

    @property
    def status(self) -> str:
        status = self.document.get("status")
        if isinstance(status, str):
            status = WORDS.get(status, status)
        return status if isinstance(status, str) and status in STATUSES else "unknown"

    def time(self, field: str) -> float:
        try:
            moment = datetime.fromisoformat(self.document[field]).astimezone(UTC).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError):
            return float("-inf")
        return min(self.mtime, time.time()) if moment > time.time() + 60 else moment

    @property
    def extra(self) -> dict[str, Any]:
        """The fields that ``metadata`` does not write."""
        return {name: self.document[name] for name in self.document.keys() - metadata().keys()}

    @property
    def chips(self) -> int:
        return int(self.document["hardware"]["total_chips"])


class Oracle:
    """The answers, by brute force."""

    def __init__(self, root: Path) -> None:
        self.jobs = sorted(
            self._read(root), key=lambda job: (job.time("start_time"), job.path), reverse=True
        )

    @staticmethod
    def _read(root: Path) -> Iterator[OracleJob]:
        for file in root.glob("*/*/*/*/metadata.json"):
            path = os.fsencode(file.parent.relative_to(root))
            mtime = file.stat().st_mtime_ns / 1e9
            yield OracleJob(path, json.loads(file.read_bytes()), mtime)

    def list_all_jobs(
        self, project: str | None, group: str | None, status: str | None
    ) -> list[Names]:
        return [
            job.names
            for job in self.jobs
            if project in {None, job.names[0]}
            and group in {None, job.names[1]}
            and status in {None, job.status}
        ]

    def runs(self, project: str, group: str, name: str) -> list[Names]:
        return [job.names for job in self.jobs if job.names[:3] == (project, group, name)]

    def started_since(self, moment: float) -> list[Names]:
        return [job.names for job in self.jobs if job.time("start_time") >= moment]

    def fresh(self, since: float) -> list[OracleJob]:
        return [
            job
            for job in self.jobs
            if job.status == "running" and job.time("last_heartbeat") >= since
        ]

    def projects(self) -> dict[str, set[str]]:
        groups: dict[str, set[str]] = {}
        for job in self.jobs:
            groups.setdefault(job.names[0], set()).add(job.names[1])
        return groups

    def totals(self, since: float, project: str | None = None) -> dict[str, int]:
        mine = [job for job in self.jobs if project in {None, job.names[0]}]
        counts = {status: sum(job.status == status for job in mine) for status in STATUSES}
        fresh = sum(project in {None, job.names[0]} for job in self.fresh(since))
        return {
            **counts,
            "total_jobs": len(mine),
            "stale": counts["running"] - fresh,
            "running": fresh,
        }
