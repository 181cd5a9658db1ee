"""What the scripts that read reply, by plain commands: for a user, or a server, that may run no scripts.

Commands that travel together are not one step of the server: others may write in between. So the header is read before
everything else, and epoch and generation once more behind each part. When they are no longer what the header says, all
is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

from jobcache.codec import JOB_FIELDS, REV
from jobcache.numbers import read_float, read_int
from jobcache.plans.header import META_FIELDS
from jobcache.plans.listing import ATTEMPTS
from jobcache.plans.plan import AskAll, Command, Run
from jobcache.plans.scripts import Script

MOST_COMMANDS = 1000
"""Most commands that travel together, beside those for the header."""

SPARE = 32
"""Rows that are read beyond a page's limit, for those of the cursor's score that stand before it."""

PROBES = 100
"""Members that are looked at together, in search of a cursor's place among more rows of its score."""

Reading: TypeAlias = Generator[AskAll, Any, list[Any]]
"""Asks commands, and returns what a script would."""


def can_read_plainly(script: Script) -> bool:
    """Whether plain commands can stand in for a script."""
    return script.read_only and script.name in _READINGS


def read_plainly(step: Run) -> Reading:
    """The reply of a script, by plain commands.

    Of one moment, as the script's is, unless others write all the time: at the last attempt what was read has to do, if
    it is at least of one epoch.
    """
    reading = _READINGS[step.script.name]
    attempt = 1
    while True:
        look = _Look(
            step.keys[0],
            is_first=attempt == 1,
            settles=attempt >= ATTEMPTS,
            renews=step.renews and attempt == 1,
        )
        try:
            return (yield from reading(look, step.keys, step.args))
        except _ChangedError:
            attempt += 1


class _ChangedError(Exception):
    """Somebody wrote meanwhile."""


class _Look:
    """One attempt to see all that an answer takes in one generation.

    Args:
        meta: the key whose fields make the header.
        is_first: whether no other attempt went before.
        settles: whether an answer out of several generations will do.
        renews: whether the deadline begins anew.
    """

    __slots__ = ("_is_first", "_meta", "_renews", "_settles", "head")

    def __init__(self, meta: bytes, *, is_first: bool, settles: bool, renews: bool) -> None:
        self.head: list[Any] = []
        """As ``header.lua`` gives it; empty until something was asked."""
        self._meta = meta
        self._is_first = is_first
        self._settles = settles
        self._renews = renews

    @property
    def oldest_fresh(self) -> bytes:
        """Least score of a fresh heartbeat; more than any score before the first completed scan."""
        completed_at, stale_after = map(read_float, self.head[5:7])
        if completed_at is None or stale_after is None:
            return b"+inf"
        return _format_score(completed_at - stale_after)

    def ask(self, *commands: Command) -> Generator[AskAll, Any, list[Any]]:
        """The replies to some commands.

        Raises:
            _ChangedError: they may be of another moment than the header.
        """
        replies: list[Any] = []
        for start in range(0, len(commands) or 1, MOST_COMMANDS):
            replies += yield from self._ask_together(commands[start : start + MOST_COMMANDS])
        return replies

    def _ask_together(self, commands: Sequence[Command]) -> Generator[AskAll, Any, list[Any]]:
        together = [*commands]
        if not self.head:
            together[:0] = (b"HMGET", self._meta, *META_FIELDS), (b"TIME",)
        if commands:
            together.append((b"HMGET", self._meta, b"epoch", b"generation"))
        if not together:
            return []
        replies: list[Any] = yield AskAll(tuple(together), self._renews)
        self._renews = False
        if not self.head:
            fields, time, *replies = replies
            self.head = [*fields, time]
        if commands:
            epoch, generation = replies.pop()
            if epoch != self.head[1] or (generation != self.head[2] and not self._settles):
                raise _ChangedError
            if (read_int(generation) or 0) < (
                read_int(self.head[2]) or 0
            ):  # of a replica that is behind
                raise _ChangedError
        return replies

    def is_known(self, epoch: bytes, generation: int) -> Generator[AskAll, Any, bool]:
        """Whether a reader was answered in this generation, so that nothing else need travel."""
        if not self._is_first:
            return False  # there was another one since
        yield from self.ask()
        return self._is_in(epoch) and (read_int(self.head[2]) or 0) == generation

    def read_jobs(
        self,
        jobs: Sequence[bytes],
        epoch: bytes,
        generation: int,
        *,
        along: Sequence[Command] = (),
        most: int = MOST_COMMANDS,
    ) -> Generator[AskAll, Any, tuple[list[list[Any]], list[Any]]]:
        """What ``read_job`` of ``reading.lua`` gives for the keys of some jobs; and replies to what travels along.

        Of at most so many the fields.
        """
        rows: list[list[Any]] = [[] for _ in jobs]
        numbers = range(len(jobs))
        wanted: Sequence[int] = numbers[:most]
        others_wanted: Sequence[int] = numbers[most:]
        others: list[Any] = []
        if generation and (not self.head or self._is_in(epoch)):
            replies = yield from self.ask(*along, *((b"HGET", job, REV) for job in jobs))
            others, revisions = replies[: len(along)], replies[len(along) :]
            rows = [[] if revision is None else [revision] for revision in revisions]
            since = generation if self._is_in(epoch) else 0
            changed = [number for number, row in enumerate(rows) if row and int(row[0]) > since]
            wanted, others_wanted, along = changed[:most], (), ()
        if along or wanted or others_wanted:
            replies = yield from self.ask(
                *along,
                *((b"HMGET", jobs[number], REV, *JOB_FIELDS) for number in wanted),
                *((b"HGET", jobs[number], REV) for number in others_wanted),
            )
            others += replies[: len(along)]
            told = replies[len(along) :]
            for number, (revision, *fields) in zip(wanted, told, strict=False):
                rows[number] = [] if revision is None else [revision, fields]
            for number, revision in zip(others_wanted, told[len(wanted) :], strict=True):
                rows[number] = [] if revision is None else [revision]
        return rows, others

    def _is_in(self, epoch: bytes) -> bool:
        return bool(self.head[1] == epoch)


def _freshness(look: _Look, _keys: Sequence[bytes], _args: Sequence[Any]) -> Reading:
    yield from look.ask()
    return [look.head]


def _job(look: _Look, keys: Sequence[bytes], args: Sequence[Any]) -> Reading:
    (known,) = args
    if known:
        (revision,) = yield from look.ask((b"HGET", keys[1], REV))
        if revision is None or revision == known:
            return [look.head, [] if revision is None else [revision]]
    rows, _ = yield from look.read_jobs([keys[1]], b"", 0)
    return [look.head, rows[0]]


def _jobs(look: _Look, _keys: Sequence[bytes], args: Sequence[Any]) -> Reading:
    epoch, generation, prefix, *paths = args
    rows, _ = yield from look.read_jobs([prefix + path for path in paths], epoch, generation)
    return [look.head, rows]


def _running(look: _Look, keys: Sequence[bytes], args: Sequence[Any]) -> Reading:
    epoch, generation, whole, most, most_with_fields, prefix = args
    if whole and (yield from look.is_known(epoch, generation)):
        return [look.head]
    paths = yield from _fresh(look, keys[1], most)
    told = [prefix + path for path in paths[:most]]
    rows, _ = yield from look.read_jobs(told, epoch, generation, most=most_with_fields)
    return [look.head, paths, rows]


def _fresh(look: _Look, index: bytes, most: int) -> Generator[AskAll, Any, list[bytes]]:
    """Members with a fresh heartbeat, the oldest first."""
    if not look.head:
        # Since when one is fresh comes with the header, so the latest ones are a guess, and mostly enough.
        (flat,) = yield from look.ask((b"ZREVRANGE", index, 0, most, b"WITHSCORES"))
        oldest = float(look.oldest_fresh)
        paths = [path for path, score in _pairs(flat) if float(score) >= oldest]
        if len(paths) <= most:
            return paths[::-1]
    (members,) = yield from look.ask((b"ZRANGEBYSCORE", index, look.oldest_fresh, b"+inf"))
    return list(members)


def _summary(look: _Look, keys: Sequence[bytes], args: Sequence[Any]) -> Reading:
    meta, jobs, running, listing, *by_status = keys
    epoch, generation, of_project, of_running, of_groups, status_part, *statuses = args
    if epoch and (yield from look.is_known(epoch, generation)):
        return [look.head]
    chips, names, *totals = yield from look.ask(
        (b"HGET", meta, b"active_chips"),
        (b"ZRANGE", listing, 0, -1),
        *((b"ZCARD", index) for index in (jobs, *by_status)),
    )
    commands: list[Command] = [(b"ZCOUNT", running, look.oldest_fresh, b"+inf")]
    for name in names:
        index = of_project + name
        commands += [
            (b"ZRANGE", of_groups + name, 0, -1),
            (b"ZCARD", index),
            (b"ZCOUNT", of_running + name, look.oldest_fresh, b"+inf"),
            *((b"ZCARD", index + status_part + status.encode()) for status in statuses),
        ]
    fresh, *replies = yield from look.ask(*commands)
    each = len(statuses) + 3
    projects = [
        [name, replies[start + 1 : start + each], replies[start]]
        for name, start in zip(names, range(0, len(replies), each), strict=True)
    ]
    return [look.head, chips, [totals[0], fresh, *totals[1:]], projects]


def _changes(look: _Look, keys: Sequence[bytes], args: Sequence[Any]) -> Reading:
    position, most = args
    feed = keys[1]
    # Entries first: what is cut off behind them shows as one of the oldest then. With the position itself, since the
    # server takes it for an error to ask for what follows the largest there is.
    after = ((b"XRANGE", feed, position, b"+", b"COUNT", most + 1),) if position else ()
    *entries, oldest, newest = yield from look.ask(
        *after,
        (b"XRANGE", feed, b"-", b"+", b"COUNT", 1),
        (b"XREVRANGE", feed, b"+", b"-", b"COUNT", 1),
    )
    first, last = (some[0][0] if some else b"0-0" for some in (oldest, newest))
    later = [entry for entry in entries[0] if entry[0] != position] if entries else []
    return [look.head, last, first, later[:most]]


# Pages


def _page(look: _Look, keys: Sequence[bytes], args: Sequence[Any]) -> Reading:
    epoch, generation, whole, limit, score, member, window, member_prefix, job_prefix = args
    if whole and (yield from look.is_known(epoch, generation)):
        return [look.head]
    indexes = keys[1:]
    found = yield from (
        _after(look, indexes, limit, score, member) if score else _first(look, indexes, limit)
    )
    oldest = _oldest(look, window)
    in_window = {row[1]: row for row in found if row[0] >= float(oldest)}
    rows = sorted(in_window.values(), reverse=True)[:limit]
    prefix = job_prefix + member_prefix
    counts = [(b"ZCOUNT", index, oldest, b"+inf") for index in indexes]
    jobs, totals = yield from look.read_jobs(
        [prefix + row[1] for row in rows], epoch, generation, along=counts
    )
    page = [[row[1], row[2], job] for row, job in zip(rows, jobs, strict=True)]
    return [look.head, sum(totals), page]


_Row: TypeAlias = tuple[float, bytes, bytes]
"""Score, member, and the score as the server writes it."""


def _oldest(look: _Look, window: bytes) -> bytes:
    """Least score of a page's rows."""
    completed_at = look.head[5]
    if not window or completed_at is None:
        return b"-inf"
    return _format_score((read_float(completed_at) or 0.0) - float(window))


def _first(look: _Look, indexes: Sequence[bytes], limit: int) -> Generator[AskAll, Any, list[_Row]]:
    """The first rows of each index."""
    wanted = indexes if limit else ()
    replies = yield from look.ask(*(_range_of(index, 0, limit) for index in wanted))
    return [row for flat in replies for row in _rows(flat)]


def _after(
    look: _Look, indexes: Sequence[bytes], limit: int, score: bytes, member: bytes
) -> Generator[AskAll, Any, list[_Row]]:
    """The first rows of each index that stand behind a cursor."""
    cursor = float(score), member
    wanted = indexes if limit else ()
    most = limit + SPARE
    replies = yield from look.ask(
        *(
            (b"ZRANGE", index, score, b"-inf", b"BYSCORE", b"REV")
            + (b"LIMIT", 0, most, b"WITHSCORES")
            for index in wanted
        )
    )
    found: list[_Row] = []
    for index, flat in zip(wanted, replies, strict=True):
        rows = _rows(flat)
        behind = [row for row in rows if row[:2] < cursor]
        if len(behind) < limit and len(rows) == most:
            place = yield from _find(look, index, score, member)
            (flat,) = yield from look.ask(_range_of(index, place, limit))
            behind = _rows(flat)
        found += behind
    return found


def _find(look: _Look, index: bytes, score: bytes, member: bytes) -> Generator[AskAll, Any, int]:
    """How many members of an index stand before or at a cursor: closer and closer looks at those of its score."""
    low, equal = yield from look.ask(
        (b"ZCOUNT", index, b"(" + score, b"+inf"), (b"ZCOUNT", index, score, score)
    )
    high = low + equal
    while low < high:
        ranks = range(low, high, 1 + (high - low) // PROBES)
        probes = yield from look.ask(*((b"ZREVRANGE", index, rank, rank) for rank in ranks))
        for rank, found in zip(ranks, probes, strict=True):
            if not found or found[0] < member:
                high = rank
                break
            low = rank + 1
    return int(low)


def _range_of(index: bytes, first: int, limit: int) -> Command:
    return (b"ZREVRANGE", index, first, first + limit - 1, b"WITHSCORES")


def _rows(flat: Sequence[bytes]) -> list[_Row]:
    return [(float(score), member, score) for member, score in _pairs(flat)]


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return [*zip(flat[::2], flat[1::2], strict=True)]


def _format_score(number: float) -> bytes:
    return b"%.17g" % number


_READINGS: dict[str, Callable[[_Look, Sequence[bytes], Sequence[Any]], Reading]] = {
    "changes": _changes,
    "freshness": _freshness,
    "job": _job,
    "jobs": _jobs,
    "page": _page,
    "running": _running,
    "summary": _summary,
}
