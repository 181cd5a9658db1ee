"""The brute-force reading of filters: which jobs of a tree match, in which order. It shares no code with the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from jobcache_refresher.settings import Settings
from tests.harness import Rig
from tests.trees import Names, Oracle, OracleJob

Wanted = Mapping[str, Any]
"""Arguments of ``list_all_jobs`` but for the limit."""
UNREAD = float("-inf")


@dataclass(frozen=True)
class Moment:
    """As of when times are judged, in epoch seconds."""

    completed_at: float
    fresh_since: float

    @classmethod
    def of(cls, rig: Rig) -> Moment:
        completed_at = rig.cache.freshness().completed_at
        assert completed_at is not None
        settings: Settings = rig.refresher.settings
        return cls(completed_at.timestamp(), completed_at.timestamp() - settings.stale_after)

    def seconds(self, time: Any) -> float | None:
        if isinstance(time, timedelta):
            return self.completed_at - time.total_seconds()
        return None if time is None else time.timestamp()


def find(oracle: Oracle, wanted: Wanted, moment: Moment) -> list[Names]:
    """The jobs that match, newest first."""
    field = "last_heartbeat" if wanted.get("order") == "activity" else "start_time"
    found = [job for job in oracle.jobs if matches(job, wanted, moment)]
    found.sort(key=lambda job: (job.time(field), job.path), reverse=True)
    return [job.names for job in found]


def matches(job: OracleJob, wanted: Wanted, moment: Moment) -> bool:
    """Whether a job passes every filter."""
    fresh = job.time("last_heartbeat") >= moment.fresh_since
    said = {job.status, ("live" if fresh else "stale") if job.status == "running" else ""} - {""}
    return (
        _is_among({job.names[0]}, wanted.get("project"))
        and _is_among({job.names[1]}, wanted.get("group"))
        and _is_among(said, wanted.get("status"))
        and all(_has_word(job, word) for word in (wanted.get("text") or "").split())
        and _is_within(job.time("start_time"), wanted, "started", moment)
        and _is_within(job.time("last_heartbeat"), wanted, "active", moment)
    )


def _is_among(own: set[str], values: Any) -> bool:
    several = [values] if isinstance(values, str | None) else list(values)
    if several and not any(several):
        return True
    return any(value in own for value in several)


def _has_word(job: OracleJob, word: str) -> bool:
    lower = word.encode().lower()
    slurm = job.document["slurm_job_id"] if lower[:1].isdigit() else None
    return lower in job.path.lower() or lower in (slurm or "").encode().lower()


def _is_within(seconds: float, wanted: Wanted, name: str, moment: Moment) -> bool:
    after, before = (moment.seconds(wanted.get(f"{name}_{which}")) for which in ("after", "before"))
    if after is None and before is None:
        return True
    return (
        seconds != UNREAD
        and (after is None or seconds >= after)
        and (before is None or seconds < before)
    )


_CASES: list[Callable[[str], str]] = [str.upper, str.lower, str]


class RandomFilters:
    """Filters at random, of values that the jobs of a tree have and of some that they do not have."""

    def __init__(self, random: Random, oracle: Oracle, moment: Moment) -> None:
        self._random = random
        names = [job.names for job in oracle.jobs]
        self._values = {
            "project": [*{one[0] for one in names}, "absent", "a/b"],
            "group": [*{one[1] for one in names}, "absent"],
            "status": ["running", "completed", "failed", "preempted", "unknown", "live", "stale"],
        }
        self._words = [
            *{part for one in names for part in one},
            "absent",
            "7",
            "77x",
            "1234567",
            "12",
            "G",
            "/",
        ]
        fields = ("start_time", "last_heartbeat")
        self._times = [job.time(field) for job in oracle.jobs for field in fields]
        self._moment = moment

    def draw(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        for name, values in self._values.items():
            if self._random.random() < 0.4:
                wanted[name] = self._several(values)
        if self._random.random() < 0.35:
            words = self._random.choices(self._words, k=self._random.choice([1, 1, 2]))
            wanted["text"] = self._random.choice([" ", "\t "]).join(
                self._random.choice(_CASES)(_part(self._random, word))
                for word in words
                if word.isascii()
            )
        for name in ("started_after", "started_before", "active_after", "active_before"):
            if self._random.random() < 0.15:
                wanted[name] = self._time()
        if self._random.random() < 0.4:
            wanted["order"] = "activity"
        return wanted

    def _several(self, values: list[str]) -> Any:
        chance = self._random.random()
        if chance < 0.4:
            return self._random.choice(values)
        if chance < 0.5:
            return self._random.choice(["", None, [], [""], ()])
        chosen = self._random.choices([*values, ""], k=self._random.randint(1, 4))
        return self._random.choice([list, tuple, set])(chosen)

    def _time(self) -> Any:
        seconds = self._random.choice([one for one in self._times if one != UNREAD])
        moment = datetime.fromtimestamp(seconds, UTC)
        if self._random.random() < 0.7 or seconds > self._moment.completed_at:
            return moment
        return timedelta(seconds=round(self._moment.completed_at - seconds) + 0.5)


def _part(random: Random, word: str) -> str:
    first = random.randrange(len(word))
    return word[first : first + random.randint(1, 6)]
