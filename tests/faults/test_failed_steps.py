"""Nothing of a step that failed stays in the refresher's memory, though nobody looks for cycles."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobcache_refresher import Refresher, refresher
from jobcache_refresher.leadership import Leadership
from jobcache_refresher.publish.server import Server
from jobcache_refresher.workers import Workers
from tests.faults.oracle.proxy import Mode, Proxy
from tests.servers import running_server
from tests.trees import write_run

NAMESPACE = "failed"
MARK = "a-mark-that-is-in-no-other-object"
RUNS = 120
STEPS = 6


@pytest.fixture(autouse=True)
def nobody_collects() -> Iterator[None]:
    """As in the program, where it is rare."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def holders() -> int:
    """How many containers hold what was read of a run that bears the mark."""
    mark = MARK.encode()
    found = 0
    for one in gc.get_objects():
        items = one.values() if type(one) is dict else one if type(one) in (list, tuple) else ()
        found += any(type(item) is bytes and mark in item for item in list(items))
    return found


def is_gone(reference: weakref.ref[Any]) -> bool:
    return reference() is None


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


class Disturbed:
    """A refresher's way to Redis that is disturbed whenever a step is applied, and well when a turn begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, disturb: Callable[[bool], None]) -> None:
        self.applied = 0
        self.pause = threading.Event()
        self.paused = threading.Event()
        self.go_on = threading.Event()
        turn, run = Leadership.turn, Server.run

        def begin(leadership: Leadership) -> float:
            if self.pause.is_set():
                self.paused.set()
                self.go_on.wait()
            disturb(False)
            return turn(leadership)

        def apply(server: Server, script: Any, keys: Any, args: Any) -> Any:
            if script.name == "apply":
                self.applied += 1
                if self.applied == STEPS:
                    self.pause.set()
                disturb(True)
            return run(server, script, keys, args)

        monkeypatch.setattr(Leadership, "turn", begin)
        monkeypatch.setattr(Server, "run", apply)
        monkeypatch.setattr(refresher, "RETRY_INTERVAL", 0.02)


@pytest.mark.parametrize("how", ["refuses", "cuts", "resets late", "a bug"])
def test_refresher_while_redis_takes_nothing_keeps_no_jobs_in_memory(
    how: str, status_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server("valkey-9") as server:
        proxy = Proxy(server.url.removeprefix("unix://"))
        proxy.start()

        def disturb(now: bool) -> None:
            match how:
                case "refuses":
                    with server.client() as client:
                        client.config_set("maxmemory", int(now))
                case "a bug" if now:
                    raise ValueError("a bug")
                case "cuts" | "resets late" if now:
                    proxy.set(Mode.CUT if how == "cuts" else Mode.LATE_RESET)
                    time.sleep(0.05)
                case _:
                    proxy.set(Mode.PASS)
                    time.sleep(0.05)

        settings: dict[str, Any] = {"poll_interval": 0.05, "relist_interval": 0.1, "settle": 0.01}
        with Refresher(status_dir, url=proxy.url, namespace=NAMESPACE, **settings):
            disturbed = Disturbed(monkeypatch, disturb)
            for number in range(RUNS):
                write_run(status_dir, ("p", "g", "n", f"r{number}"), config={"of": MARK})
            assert disturbed.paused.wait(30)
            kept = holders()
            disturbed.go_on.set()
        proxy.end()
    assert kept == 0


def test_worker_thread_at_rest_keeps_nothing_of_its_last_call() -> None:
    class Large:
        pass

    def fail(large: Large) -> None:
        raise ValueError(large.__class__)

    def give(large: Large) -> Large:
        return large

    workers = Workers(1, "test")
    for call in (fail, give):
        large = Large()
        gone = weakref.ref(large)
        outcome = workers.submit(partial(call, large))
        del large
        with contextlib.suppress(ValueError):
            outcome.result()
        until(partial(is_gone, gone))
    workers.close()
