"""The bench against servers and processes of its own, and one small run from end to end."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from redis import Redis

from jobcache_refresher import EmbeddedServer
from tests.bench import __main__ as bench
from tests.bench import encodings
from tests.bench.bars import BARS
from tests.bench.peer import Peer, PeerError
from tests.bench.server import ServerView
from tests.bench.synthetic import Population

JOBS = 200


def test_server_view_of_a_server_that_refuses_to_tell_knows_nothing() -> None:
    with EmbeddedServer() as embedded:
        with Redis.from_url(embedded.url, protocol=2) as admin:
            refused = ["-info", "-config", "-memory", "-slowlog"]
            admin.execute_command("ACL", "SETUSER", "web", "on", ">pw", "~*", "+@all", *refused)
            admin.set("x", 1)
        url = embedded.url.replace("unix://", "unix://web:pw@")
        with contextlib.closing(ServerView(url)) as server, server.slow_log():
            assert server.version() == "unknown"
            answers = [server.used_memory(), server.traffic(), server.slowest(), server.weigh(b"")]
            assert answers == [None] * 4
            assert (server.script_time(), server.key_name_bytes(b"", "x")) == (None, None)
            with server.going_first() as is_first:
                assert not is_first


def test_peer_error_reaches_its_parent() -> None:
    with Peer("idle") as peer:
        assert peer.ask("rss") > 1_000_000
        with pytest.raises(PeerError, match="AttributeError"):
            peer.ask("no_such_method")
        assert peer.ask("cpu") > 0


def test_encodings_listpack_takes_less_than_a_hashtable() -> None:
    population = Population(100, 100, 2)
    limits = encodings.needed_limits(population)
    assert limits["hash-max-listpack-value"] > 64, "else the defaults would do"
    rows = [
        encodings.measure_one(
            population, "valkey-9", name, encodings.VARIANTS[name], limits, reads=3
        )
        for name in (encodings.DEFAULTS, "hashes as listpacks")
    ]
    assert [list(row.detail["encodings"]["job"]) for row in rows] == [["hashtable"], ["listpack"]]
    table, packed = (row.detail["by_kind"]["job"] for row in rows)
    assert packed < table
    assert all(seconds > 0 for row in rows for seconds in row.detail["server_seconds"].values())
    assert 50 < rows[0].detail["key_name"] < 200


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "result.json"
    size = ["--jobs", str(JOBS), "--scans", "1", "--rounds", "3", "--poll-interval", "0.2"]
    size += ["--app-seconds", "0.6", "--app-workers", "1", "--scale", "50", "100"]
    size += ["--only", "tree", "app", "scale"]
    assert bench.main([*size, "--json", str(path)]) == 0
    return path


@pytest.mark.timeout(300)  # all of it: on a busy machine that takes long
def test_bench_run_gives_every_row(result: Path) -> None:
    content = json.loads(result.read_text())
    rows = {row["name"]: row for row in content["rows"]}
    assert content["jobs"] == JOBS
    assert len(rows) == len(content["rows"])
    assert rows.keys() >= BARS.keys()
    assert content["scale"] == [50, 100]
    unknown = {name for name, row in rows.items() if row["project"] is None}
    assert all("longest command" in name for name in unknown), "a quick server logs none"
    assert {row["section"] for row in content["rows"]} == {
        *("start-up", "memory", "server", "steady", "queries", "traffic", "app", "scale")
    }
    assert rows["app: memory of all workers"]["baseline"] > 1_000_000
    for name, bar in BARS.items():
        assert rows[name]["bar"] == {"text": bar.text, "source": bar.source}
        assert (rows[name]["met"] is None) == (rows[name]["project"] is None)
        if bar.least_ratio is not None:
            assert rows[name]["ratio"] > 0
    assert not [
        row for row in content["rows"] if "DIFFER" in row["note"] or "FAILED" in row["note"]
    ]
