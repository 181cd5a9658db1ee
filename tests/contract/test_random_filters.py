"""Filters at random, against a brute-force reading of the tree: whole lists, pages, totals and cursors."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jobcache import AsyncJobCache, JobCache
from jobcache.queries import paging
from tests.contract.compare import names_of
from tests.contract.filtered import Moment, RandomFilters, find, matches
from tests.harness import Rig
from tests.trees import STATUSES, Names, Oracle, delete_run, write_run

COMBINATIONS = 600
"""On each kind of server."""
WALKS = 60

PROJECTS = ["general", "Vision", "p:1", "\udcff", "\u00fc"]
GROUPS = ["default", "g/1"[:1], "status:running", "a b"]
NOON = datetime(2026, 2, 4, 12)


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps so short that a small tree takes many."""
    monkeypatch.setattr(paging, "MEMBERS_PER_STEP", 7)
    monkeypatch.setattr(paging, "CHUNK", 5)


class RandomTree:
    """Runs with few names and few times, so that they collide in every way."""

    def __init__(self, random: Random, root: Path) -> None:
        self._random, self._root = random, root
        self.runs: set[Names] = set()

    def fill(self, runs: int) -> None:
        while len(self.runs) < runs:
            self.write(self._name())

    def write(self, names: Names) -> None:
        choice = self._random.choice
        now = datetime.now()
        beat = choice([0, 0, 10, 400, 5000, 90_000])
        write_run(
            self._root,
            names,
            status=choice([*STATUSES, "running", "running"]),
            start_time=choice(
                [
                    NOON.isoformat(),
                    (NOON + timedelta(seconds=choice(range(5)))).isoformat(),
                    (now - timedelta(hours=choice(range(30)))).isoformat(),
                    "",
                ]
            ),
            last_heartbeat=choice([(now - timedelta(seconds=beat)).isoformat(), "never"])
            if beat
            else NOON.isoformat(),
            slurm_job_id=choice([None, "1234567", "77_12", "77X"]),
        )
        self.runs.add(names)

    def change(self) -> set[Names]:
        """Write, add and delete some runs; returns which."""
        some = set(self._random.sample(sorted(self.runs), k=3)) | {self._name()}
        for names in some:
            if names in self.runs and self._random.random() < 0.3:
                delete_run(self._root, names)
                self.runs.remove(names)
            else:
                self.write(names)
        return some

    def _name(self) -> Names:
        choice = self._random.choice
        number = self._random.randrange(12)
        return choice(PROJECTS), choice(GROUPS), choice(["Train", "eval"]), f"r{number}_7{number}"


def walk(cache: JobCache, wanted: dict[str, Any], limit: int) -> tuple[list[list[Names]], Any]:
    """The pages, and the total of the first."""
    pages, cursor, total = [], None, None
    while True:
        page = cache.page(**wanted, limit=limit, cursor=cursor)
        total = page.total if cursor is None else total
        pages.append(names_of(page.jobs))
        if (cursor := page.cursor) is None:
            return pages, total


@pytest.mark.timeout(300)
def test_random_filters_agree_with_the_tree(rig: Rig, short_steps: None) -> None:
    random = Random(20260204)
    RandomTree(random, rig.status_dir).fill(60)
    rig.settle()
    oracle, moment = Oracle(rig.status_dir), Moment.of(rig)
    filters = RandomFilters(random, oracle, moment)
    matched = 0
    for _ in range(COMBINATIONS):
        wanted = filters.draw()
        expected = find(oracle, wanted, moment)
        matched += bool(expected)
        cache = random.choice([rig.cache, rig.forgetful])
        assert names_of(cache.list_all_jobs(**wanted, limit=None)) == expected, wanted
        limit = random.choice([0, 1, 4, 13])
        assert names_of(cache.list_all_jobs(**wanted, limit=limit)) == expected[:limit], wanted
        size = random.choice([3, 7, 20, 1000])
        for _ in range(random.choice([1, 2])):  # the second time out of what is remembered
            pages, total = walk(cache, wanted, size)
            assert [name for page in pages for name in page] == expected, wanted
            assert all(len(page) == size for page in pages[:-1]), (wanted, "a short page")
            assert pages == [[]] or all(pages), (wanted, "a cursor, and nothing followed")
            assert total in {None, len(expected)}, wanted
            if not {"text", "status", "active_after", "active_before"} & wanted.keys():
                assert total is not None or wanted.get("order") == "activity", wanted
    assert matched > COMBINATIONS / 4, "most filters match nothing: this proves little"


@pytest.mark.timeout(300)
def test_random_walks_while_jobs_change_neither_repeat_nor_skip_what_did_not(
    rig: Rig, short_steps: None
) -> None:
    random = Random(20260205)
    tree = RandomTree(random, rig.status_dir)
    tree.fill(40)
    rig.settle()
    for _ in range(WALKS if rig.url.startswith("unix") else WALKS // 4):
        before, moment = Oracle(rig.status_dir), Moment.of(rig)
        wanted = RandomFilters(random, before, moment).draw()
        seen: list[Names] = []
        changed: set[Names] = set()
        cursor = None
        while True:
            page = rig.cache.page(**wanted, limit=4, cursor=cursor)
            seen += names_of(page.jobs)
            if (cursor := page.cursor) is None:
                break
            changed |= tree.change()
            rig.settle()
        assert len(seen) == len(set(seen)) or set(_repeated(seen)) <= _shown(changed), wanted
        late = Moment.of(rig)
        for job in before.jobs:
            if job.names in _shown(changed):
                continue
            then, now = matches(job, wanted, moment), matches(job, wanted, late)
            if then and now:
                assert job.names in seen, (wanted, job.names, "skipped")
            elif not then and not now:
                assert job.names not in seen, (wanted, job.names, "does not match")


def _repeated(seen: list[Names]) -> list[Names]:
    return [names for number, names in enumerate(seen) if names in seen[:number]]


def _shown(some: set[Names]) -> set[Names]:
    return {
        (project.replace("\udcff", "\uefff"), group, name, run_id)
        for project, group, name, run_id in some
    }


def test_search_looks_at_few_jobs_a_step_and_asks_once_if_nothing_changed(
    rig: Rig, short_steps: None
) -> None:
    RandomTree(Random(20260207), rig.status_dir).fill(60)
    rig.settle()
    for expected in (range(-(-60 // 7), 61), [1]):
        before = len(rig.replies)
        assert rig.cache.page(text="absent").total == 0
        assert len(rig.replies) - before in expected
    rig.settle()  # a new generation
    before = len(rig.replies)
    assert rig.cache.page(text="absent").total == 0
    assert len(rig.replies) - before >= 60 // 7


def test_both_clients_filter_alike(rig: Rig) -> None:
    random = Random(20260206)
    RandomTree(random, rig.status_dir).fill(30)
    rig.settle()
    filters = RandomFilters(random, Oracle(rig.status_dir), Moment.of(rig))
    several = [filters.draw() for _ in range(30)]

    async def ask() -> list[Any]:
        async with AsyncJobCache(rig.url, namespace=rig.namespace) as cache:
            return [
                (await cache.list_all_jobs(**wanted), await cache.page(**wanted, limit=3))
                for wanted in several
            ]

    for wanted, (listed, page) in zip(several, asyncio.run(ask()), strict=True):
        assert listed == rig.cache.list_all_jobs(**wanted)
        same = rig.cache.page(**wanted, limit=3)
        assert (page.jobs, page.total, page.cursor) == (same.jobs, same.total, same.cursor)


def test_by_activity_a_run_that_beats_between_pages_is_not_repeated(rig: Rig) -> None:
    for number in range(9):
        beat = (datetime.now() - timedelta(minutes=number + 1)).isoformat()
        write_run(rig.status_dir, ("p", "g", "n", f"r{number}"), last_heartbeat=beat)
    rig.settle()
    page = rig.cache.page(order="activity", limit=3)
    seen = [job.run_id for job in page.jobs]
    for number in (1, 5):  # one that was shown, and one that was not yet
        beat = datetime.now().isoformat()
        write_run(rig.status_dir, ("p", "g", "n", f"r{number}"), last_heartbeat=beat)
    rig.settle()
    while page.cursor is not None:
        page = rig.cache.page(order="activity", limit=3, cursor=page.cursor)
        seen += [job.run_id for job in page.jobs]
    assert seen == ["r0", "r1", "r2", "r3", "r4", "r6", "r7", "r8"]
