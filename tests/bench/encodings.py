"""What a job costs each kind of server, piece by piece, and what other encodings would change.

A small hash or sorted set is a listpack: one string that is searched from its head. The server's `*-max-listpack-*`
settings say how small. Beside the defaults, each is raised so far that it makes a difference, and the server's own time
for reading and writing is measured along with the bytes.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from statistics import median

from jobcache.schema.keys import Keys
from tests.bench import servers
from tests.bench.peer import Peer
from tests.bench.queries import Query, all_queries
from tests.bench.rows import Row
from tests.bench.server import Encoded, ServerView
from tests.bench.synthetic import Population, made_up_jobs
from tests.bench.tree import MeasuredTree, placeless

SECTION = "encodings"
JOBS = 20_000
RUNNING = 0.02
READS = 20
"""Of each kind in a batch."""
BATCHES = 7
"""Of which the median is taken."""
DEFAULTS = "defaults"
VARIANTS: dict[str, tuple[str, ...]] = {
    DEFAULTS: (),
    "hashes as listpacks": ("--hash-max-listpack-value", "8192"),
    "small indexes as listpacks": ("--zset-max-listpack-value", "256"),
    "indexes up to 1,024 as listpacks": (
        *("--zset-max-listpack-value", "256"),
        *("--zset-max-listpack-entries", "1024"),
    ),
}
"""Options of the server by the name of what they bring about."""


def measure(jobs: int, say: Callable[[str], None]) -> list[Row]:
    """A row for each server that is installed, and for each of the variants."""
    population = Population(jobs, jobs, max(1, round(jobs * RUNNING)))
    limits = needed_limits(population)
    rows = []
    for kind, shown in servers.KINDS.items():
        for variant, options in VARIANTS.items():
            say(f"memory of {jobs:,} jobs: {shown}, {variant}")
            try:
                rows.append(measure_one(population, kind, variant, options, limits))
            except servers.MissingServerError as missing:
                rows.append(
                    Row(SECTION, _name(kind, variant), "bytes", None, None, f"{missing}: skipped")
                )
    return rows


def needed_limits(population: Population) -> dict[str, int]:
    """What the settings must at least be for every hash, and every member of an index, to fit into a listpack."""
    most_fields = longest_value = longest_member = 0
    for one in made_up_jobs(population):
        fields = one.fields()
        most_fields = max(most_fields, len(fields) + 1)  # the revision comes on top
        longest_value = max(longest_value, *map(len, fields.values()))
        longest_member = max(longest_member, len(one.job.path))
    return {
        "hash-max-listpack-entries": most_fields,
        "hash-max-listpack-value": longest_value,
        "zset-max-listpack-value": longest_member,
    }


def _name(kind: str, variant: str) -> str:
    return f"encodings: {servers.KINDS[kind]}, {variant}"


def measure_one(
    population: Population,
    kind: str,
    variant: str,
    options: tuple[str, ...],
    limits: dict[str, int],
    *,
    reads: int = READS,
) -> Row:
    """The row of one server with some options.

    Raises:
        MissingServerError: it is not installed.
    """
    namespace = f"bench-{secrets.token_hex(4)}"
    prefix = Keys(namespace).prefix
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(servers.running(kind, *options))
        server = stack.enter_context(contextlib.closing(ServerView(url)))
        stack.enter_context(server.going_first())
        publisher = stack.enter_context(
            Peer("publisher", url=url, namespace=namespace, population=asdict(population))
        )
        before = server.used_memory()
        names = publisher.ask("publish")["names"]
        after = server.used_memory()
        assert before is not None
        assert after is not None
        whole = (after - before) / population.jobs
        client = stack.enter_context(Peer("client", url=url, namespace=namespace))
        tree = placeless(population.jobs, names)
        times = _server_times(server, client, publisher, tree, reads)
        weights = server.weigh(prefix) or {}
        encodings = server.encodings(prefix) or {}
        by_kind = {one: weight / population.jobs for one, weight in sorted(weights.items())}
        detail = {
            "jobs": population.jobs,
            "version": server.version(),
            "by_kind": by_kind,
            "key_name": server.key_name_bytes(prefix, "job"),
            "encodings": {
                one: {part.encoding: [part.keys, part.members] for part in parts}
                for one, parts in encodings.items()
            },
            "limits_needed": limits,
            "server_seconds": times,
        }
    return Row(
        *(SECTION, _name(kind, variant), "bytes", None, whole),
        note=_note(by_kind, encodings, times),
        detail=detail,
    )


def _server_times(
    server: ServerView, client: Peer, publisher: Peer, tree: MeasuredTree, reads: int
) -> dict[str, float]:
    """Seconds of the server for one call: a cold page, a warm one, and one job; and for one heartbeat."""
    queries = {query.name: query for query in all_queries(tree)}
    page, job = queries["list_all_jobs(limit=100)"], queries["get_job"]
    running = client.ask("size", method="get_running_jobs", arguments={})

    def cold(query: Query) -> None:
        for _ in range(reads):
            client.ask("renew")
            client.ask("time", method=query.method, arguments=query.arguments, repeat=1, number=1)

    def warm(query: Query) -> None:
        client.ask("time", method=query.method, arguments=query.arguments, repeat=reads, number=1)

    def of_one(work: Callable[[], object], count: int) -> float:
        return median(_script_seconds(server, work) / count for _ in range(BATCHES))

    return {
        "cold page": of_one(partial(cold, page), reads),
        "warm page": of_one(partial(warm, page), reads),
        "cold job": of_one(partial(cold, job), reads),
        "heartbeat": of_one(lambda: publisher.ask("beat"), max(1, running)),
    }


def _script_seconds(server: ServerView, work: Callable[[], object]) -> float:
    before = server.script_time()
    work()
    after = server.script_time()
    assert before is not None
    assert after is not None
    return after.seconds - before.seconds


def _note(
    by_kind: dict[str, float], encodings: dict[str, list[Encoded]], times: dict[str, float]
) -> str:
    hashes = "/".join(one.encoding for one in encodings.get("job", ()))
    packed = sum(
        one.members for parts in encodings.values() for one in parts if one.encoding == "listpack"
    )
    every = sum(one.members for parts in encodings.values() for one in parts)
    rest = sum(by_kind.values()) - by_kind.get("job", 0.0)
    taken = ", ".join(f"{name} {seconds * 1e6:.0f} us" for name, seconds in times.items())
    return (
        f"hash {by_kind.get('job', 0.0):.0f} ({hashes}), the rest {rest:.0f} "
        f"({packed / max(1, every):.0%} of its members in listpacks); server: {taken}"
    )
