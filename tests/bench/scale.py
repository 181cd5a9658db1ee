"""The project against itself: the same queries, on a small and on a large number of jobs.

A tree of a million directories would take longer to build than all else takes, so the jobs are made up (`synthetic`),
and published by the refresher's own codec, diff and store. Each size has a server of its own, so that none works in the
other's heap, and it goes before all else on the machine where that may be done.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from jobcache_refresher import EmbeddedServer
from tests.bench.measure import Timing, alternate
from tests.bench.peer import Peer
from tests.bench.queries import WARM_SAMPLES, Query, all_queries, cold_samples
from tests.bench.rows import Row, timing_row
from tests.bench.server import ServerView, SlowCommand
from tests.bench.setting import Effort
from tests.bench.synthetic import Population
from tests.bench.tree import MeasuredTree, placeless
from tests.bench.workers import after_queries

SECTION = "scale"
PREFIX = "scale: "
RUNNING = 0.02
"""Share of the small number of jobs that run; at the large number as many do."""
MORE_GROUPS = 10
BEATS = 3


@dataclass(frozen=True, slots=True)
class Blocks:
    """How long the server was kept by one command, and kept somebody else waiting."""

    slowest: SlowCommand | None
    waits: dict[str, float]

    @property
    def shown(self) -> str:
        """For the note of a row."""
        command = "nothing logged"
        if self.slowest is not None:
            command = f"{self.slowest.command}; {self.slowest.blocks} longer than 10 ms"
        longest, rare = self.waits["longest"] * 1e3, self.waits["p999"] * 1e3
        return f"{command}; PING waited {longest:.1f} ms at most, {rare:.1f} ms one in a thousand"


@dataclass(frozen=True, slots=True)
class Published:
    """One population in a server of its own."""

    population: Population
    server: ServerView
    publisher: Peer
    client: Peer
    pinger: Peer
    tree: MeasuredTree
    seconds: float
    cpu: float
    bytes: float | None
    """That the server grew by, a job."""
    publication: Blocks
    connect: Callable[[], Peer]
    """A further client."""


def measure(effort: Effort, small: int, large: int, say: Callable[[str], None]) -> list[Row]:
    """Every row of the comparison of two numbers of jobs; the large one is a multiple of the small one.

    Raises:
        ValueError: it is not.
    """
    running = max(1, round(small * RUNNING))
    few, many = (Population(jobs, small, running) for jobs in (small, large))
    with _published(few, say) as at_small:
        with _published(many, say) as at_large:
            rows = _publication_rows(at_small, at_large)
            rows += _query_rows(effort, at_small, at_large, say)
            rows += _memory_rows(at_small, at_large)
            rows += _block_rows(at_small, at_large, say)
            dropped = _blocks(at_large, _drop)
        with _published(Population(small, small, running, groups=MORE_GROUPS), say) as grouped:
            rows += _group_rows(effort, at_small, grouped, say)
            rows.append(_block_row("dropping it all", _blocks(grouped, _drop), dropped))
    return rows


@contextlib.contextmanager
def _published(population: Population, say: Callable[[str], None]) -> Iterator[Published]:
    say(f"publishing {population.jobs:,} jobs that are made up")
    namespace = f"bench-{secrets.token_hex(4)}"
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(EmbeddedServer()).url
        server = stack.enter_context(contextlib.closing(ServerView(url)))
        stack.enter_context(server.going_first())
        pinger = stack.enter_context(Peer("pinger", url=url))
        publisher = stack.enter_context(
            Peer("publisher", url=url, namespace=namespace, population=asdict(population))
        )
        before = server.used_memory()
        published, blocks = blocked(server, pinger, partial(publisher.ask, "publish"))
        after = server.used_memory()
        connect = partial(Peer, "client", url=url, namespace=namespace)
        publisher.ask("beat")  # so that none that runs is stale however long publishing took
        yield Published(
            population,
            server,
            publisher,
            stack.enter_context(connect()),
            pinger,
            placeless(population.jobs, published["names"]),
            published["seconds"],
            published["cpu"],
            None if before is None or after is None else (after - before) / population.jobs,
            blocks,
            connect,
        )


def blocked(server: ServerView, pinger: Peer, work: Callable[[], Any]) -> tuple[Any, Blocks]:
    """Do some work: what it returns, and how it blocked the server."""
    with server.slow_log():
        pinger.ask("begin")
        answer = work()
        waits = pinger.ask("end")
        return answer, Blocks(server.slowest(scans=True), waits)


def _publication_rows(small: Published, large: Published) -> list[Row]:
    few, many = (one.seconds / one.population.jobs for one in (small, large))
    note = f"{small.seconds:.0f} s and {large.seconds:.0f} s in all; without a filesystem"
    detail = {"small_cpu": small.cpu, "large_cpu": large.cpu}
    return [
        Row(SECTION, f"{PREFIX}publication, a job", "seconds", few, many, note, detail),
        Row(SECTION, f"{PREFIX}Redis memory per job", "bytes", small.bytes, large.bytes),
    ]


def _query_rows(
    effort: Effort, small: Published, large: Published, say: Callable[[str], None]
) -> list[Row]:
    rows = []
    for query, other in zip(all_queries(small.tree), all_queries(large.tree), strict=True):
        say(f"{PREFIX}{query.name}")
        note = _sizes(query, other, small.client, large.client)
        timings = _time(effort, (query, small.client), (other, large.client))
        rows += [
            timing_row(
                SECTION,
                f"{PREFIX}{query.name}, {mode}",
                timings[f"small {mode}"],
                timings[f"large {mode}"],
                note,
            )
            for mode in ("warm", "cold")
        ]
    return rows


def _time(effort: Effort, *sides: tuple[Query, Peer]) -> dict[str, Timing]:
    contestants: dict[str, Callable[[], list[float]]] = {}
    for size, (query, client) in zip(("small", "large"), sides, strict=True):
        call = {"method": query.method, "arguments": query.arguments}
        contestants[f"{size} cold"] = partial(cold_samples, client, call)
        # The client goes on from the cold call, so that it is warm by now.
        warm = partial(client.ask, "time_after_writes", **call, repeat=WARM_SAMPLES)
        contestants[f"{size} warm"] = warm
    return alternate(contestants, rounds=effort.rounds, seconds=effort.seconds)


def _sizes(query: Query, other: Query, small: Peer, large: Peer) -> str:
    one = small.ask("size", method=query.method, arguments=query.arguments)
    two = large.ask("size", method=other.method, arguments=other.arguments)
    return f"{one} rows" if one == two else f"{one} and {two} rows"


def _memory_rows(small: Published, large: Published) -> list[Row]:
    with Peer("idle") as idle:
        ground = idle.ask("rss")

    def held(one: Published) -> float:
        with one.connect() as client:
            return float(after_queries(client, one.tree) - ground)

    name, note = f"{PREFIX}worker memory", "over an idle worker"
    return [Row(SECTION, name, "bytes", held(small), held(large), note)]


def _block_rows(small: Published, large: Published, say: Callable[[str], None]) -> list[Row]:
    say("how long the server is kept")
    rows = [_block_row("publication", small.publication, large.publication)]
    for name, work in (("heartbeats of all that run", _beat), ("queries", _ask_everything)):
        rows.append(_block_row(name, _blocks(small, work), _blocks(large, work)))
    return rows


def _blocks(one: Published, work: Callable[[Published], object]) -> Blocks:
    return blocked(one.server, one.pinger, partial(work, one))[1]


def _beat(one: Published) -> None:
    for _ in range(BEATS):
        one.publisher.ask("beat")


def _drop(one: Published) -> None:
    one.publisher.ask("clear")


def _ask_everything(one: Published) -> None:
    for query in all_queries(one.tree):
        call = {"method": query.method, "arguments": query.arguments}
        cold_samples(one.client, call)
        one.client.ask("time", **call, repeat=WARM_SAMPLES, number=1)


def _block_row(name: str, small: Blocks, large: Blocks) -> Row:
    """No ratio: the longest of many is a matter of luck, and what counts is whether the bar holds."""
    few, many = (None if one.slowest is None else one.slowest.seconds for one in (small, large))
    detail = {"small": few, "small_shown": small.shown, "waits": large.waits}
    row = f"{PREFIX}longest command, {name}"
    return Row(SECTION, row, "seconds", None, many, large.shown, detail)


def _group_rows(
    effort: Effort, small: Published, grouped: Published, say: Callable[[str], None]
) -> list[Row]:
    """What does grow: the names of groups that an answer holds."""
    rows = []
    for query in all_queries(small.tree):
        if query.method not in {"list_projects", "get_dashboard_stats"}:
            continue
        say(f"{PREFIX}{query.name}, {MORE_GROUPS} times the groups")
        timings = _time(effort, (query, small.client), (query, grouped.client))
        rows.append(
            timing_row(
                SECTION,
                f"{PREFIX}{query.name}, {MORE_GROUPS} times the groups",
                timings["small warm"],
                timings["large warm"],
                f"{small.population.jobs:,} jobs on both sides",
            )
        )
    return rows
