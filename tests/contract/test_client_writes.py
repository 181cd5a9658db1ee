"""Deletions, invalidation and the change feed, on every kind of server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from jobcache import ChangeKind, JobCache, JobStatus
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Fingerprint, Tree
from tests.contract.client_runs import OTHER, RUN
from tests.contract.compare import assert_agrees, names_of
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import delete_run, metadata, write_raw, write_run


class HookedTree(Tree):
    """Calls a hook after each file that was read, while the scan is still in flight."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.after_read: Any = lambda: None

    def read_whole(
        self, path: bytes, name: bytes, cap: int, held: int | None = None
    ) -> tuple[Fingerprint, bytes]:
        result = super().read_whole(path, name, cap, held)
        self.after_read()
        return result


class TestDelete:
    def test_delete_job_is_gone_for_everybody_when_it_returns(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        with JobCache(rig.url, namespace=rig.namespace) as other:
            delete_run(rig.status_dir, RUN)
            assert rig.cache.delete_job(*RUN) is True
            assert other.get_job(*RUN) is None
            assert other.list_all_jobs() == []
            assert other.list_projects() == []
        assert rig.cache.delete_job(*RUN) is False
        rig.settle()
        assert_agrees(rig)

    def test_delete_job_is_not_undone_by_a_scan_in_flight(
        self, server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        tree = HookedTree(str(status_dir))
        write_run(status_dir, RUN)
        with Rig(server.url, status_dir, namespace, tree=tree) as rig:
            write_run(status_dir, OTHER)
            rig.refresh()
            write_run(status_dir, RUN, status="failed")

            def delete() -> None:
                tree.after_read = lambda: None
                rig.cache.delete_job(*RUN)
                delete_run(status_dir, RUN)

            tree.after_read = delete
            rig.refresh()
            assert rig.cache.get_job(*RUN) is None
            assert names_of(rig.cache.list_all_jobs()) == [OTHER]
            rig.settle()
            assert_agrees(rig)

    def test_delete_job_of_one_never_published_keeps_it_away(
        self, server: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        tree = HookedTree(str(status_dir))
        with Rig(server.url, status_dir, namespace, tree=tree) as rig:
            rig.refresh()
            write_run(status_dir, RUN)

            def delete() -> None:
                tree.after_read = lambda: None
                assert rig.cache.delete_job(*RUN) is False
                delete_run(status_dir, RUN)

            tree.after_read = delete
            rig.refresh()
            assert rig.cache.get_job(*RUN) is None
            rig.settle()
            assert rig.cache.list_all_jobs() == []

    def test_deleted_job_returns_if_its_files_are_still_there(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        rig.cache.delete_job(*RUN)
        rig.refresh(Scope.POLL)
        assert rig.cache.get_job(*RUN) is None, "what another host removed may still show"
        rig.refresher.outwait_quarantines()
        rig.refresh(Scope.POLL)
        assert rig.cache.get_job(*RUN) is not None
        assert_agrees(rig)

    def test_tombstones_do_not_pile_up(self, rig: Rig, server: RunningServer) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        delete_run(rig.status_dir, RUN)
        rig.cache.delete_job(*RUN)
        with server.client() as redis:
            assert redis.zcard(rig.refresher.keys.tombstones) == 1
            rig.settle()
            assert redis.zcard(rig.refresher.keys.tombstones) == 0


class TestInvalidate:
    def test_invalidate_reads_again_though_the_fingerprint_is_equal(self, rig: Rig) -> None:
        directory = write_run(rig.status_dir, RUN, status="running")
        old = datetime.now().timestamp() - 3600
        os.utime(directory / "metadata.json", (old, old))
        rig.refresh()
        rig.refresher.time.advance(30)
        rig.refresh()
        run = rig.refresher.scanner.snapshot.runs["/".join(RUN).encode()]
        assert not run.racy
        write_raw(directory, json.dumps(metadata(status="failed")).encode())
        run.fingerprint = rig.refresher.tree.fingerprint(run.path, b"metadata.json")
        rig.refresh()
        assert rig.cache.list_all_jobs()[0].status is JobStatus.RUNNING, "the forgery did not work"
        rig.refresh(Scope.HINTS, hints=frozenset({run.path}))
        assert rig.cache.list_all_jobs()[0].status is JobStatus.FAILED

    def test_invalidate_discovers_a_run_that_was_unknown(self, rig: Rig) -> None:
        write_run(rig.status_dir, ("p", "g", "n", "old"))
        rig.refresh()
        for names in (RUN, ("q", "new", "new", "new")):
            write_run(rig.status_dir, names)
            rig.refresh(Scope.HINTS, hints=frozenset({"/".join(names).encode()}))
            assert rig.cache.get_job(*names) is not None

    def test_invalidate_of_an_absent_run_changes_nothing(self, rig: Rig) -> None:
        write_run(rig.status_dir, RUN)
        rig.refresh()
        rig.refresh(Scope.HINTS, hints=frozenset({b"a/b/c/d", b"p/g/n/x"}))
        assert_agrees(rig)


class TestChanges:
    def test_changes_tell_added_modified_and_deleted(self, rig: Rig) -> None:
        rig.refresh()
        feed = iter(rig.cache.changes(wait=0.0))
        assert list(feed) == []
        start = _position(rig)
        write_run(rig.status_dir, RUN)
        rig.refresh()
        write_run(rig.status_dir, RUN, status="failed")
        rig.refresh()
        rig.refresh()
        delete_run(rig.status_dir, RUN)
        rig.settle()
        seen = list(rig.cache.changes(start, wait=0.0))
        kinds = [ChangeKind.ADDED, ChangeKind.MODIFIED, ChangeKind.DELETED]
        assert [change.kind for change in seen] == kinds
        assert {change.id for change in seen} == {RUN}
        assert [change.kind for change in rig.cache.changes(seen[0].position, wait=0)] == kinds[1:]

    def test_a_rebuilt_cache_asks_for_a_resync(self, rig: Rig) -> None:
        rig.refresh()
        start = _position(rig)
        rig.refresher.rebuild()
        rig.refresh()
        (change,) = rig.cache.changes(start, wait=0)
        assert change.kind is ChangeKind.RESYNC
        assert list(rig.cache.changes(change.position, wait=0)) == []

    def test_a_trimmed_feed_asks_for_a_resync(self, rig: Rig, server: RunningServer) -> None:
        rig.refresh()
        start = _position(rig)
        for number in range(3):
            write_run(rig.status_dir, ("p", "g", "n", f"r{number}"))
            rig.refresh()
        with server.client() as redis:
            redis.xtrim(rig.refresher.keys.changes, maxlen=1, approximate=False)
        (change,) = rig.cache.changes(start, wait=0)
        assert change.kind is ChangeKind.RESYNC

    def test_changes_since_a_bad_position_is_a_value_error(self, rig: Rig) -> None:
        with pytest.raises(ValueError, match="since='x'"):
            next(iter(rig.cache.changes("x")))


def _position(rig: Rig) -> str:
    """The present end of the feed: that of a change made for the purpose."""
    marker = ("marker", "g", "n", "r")
    follow: Iterator[Any] = iter(rig.cache.changes(wait=5))

    write_run(rig.status_dir, marker)
    position: str | None = None
    timer = Timer(0.3, rig.refresh)
    timer.start()
    for change in follow:
        position = change.position
        break
    timer.join()
    assert position is not None
    return position
