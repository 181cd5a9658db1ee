"""Projects, groups, names and runs that are real filesystems of their own: mounted, taken away, replaced."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from jobcache import CacheState, JobCache
from jobcache_refresher.refresher import Refresher
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import Directory, Tree
from tests.contract.compare import assert_agrees, names_of
from tests.faults.faulty import FaultyTree, under
from tests.harness import Rig, StepRefresher
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_run
from tests.volumes import Volumes, volumes

__all__ = ["volumes"]

OUTSIDE: Names = ("plain", "g", "n", "r")
INSIDE: Names = ("vol", "g", "n", "r")
ALL_SCOPES = (Scope.HINTS, Scope.POLL, Scope.RELIST, Scope.POLL, Scope.RELIST)
DEPTHS = pytest.mark.parametrize("depth", [1, 2, 3, 4])


def shown(rig: Rig) -> set[Names]:
    return set(names_of(rig.cache.list_all_jobs()))


def look(rig: Rig) -> None:
    """Scan in every way, hinted at everything that was ever there."""
    for scope in ALL_SCOPES:
        rig.refresh(scope, hints=["/".join(INSIDE).encode()] if scope is Scope.HINTS else ())


def assert_guarded(rig: Rig, path: str, why: str, jobs: set[Names]) -> None:
    """Nothing is deleted, new jobs elsewhere show, and readers are told why."""
    new: Names = ("plain", "g", "n", f"new {why}"[:40])
    write_run(rig.status_dir, new)
    look(rig)
    assert shown(rig) == jobs | {new}
    freshness = rig.cache.freshness()
    assert freshness.state is CacheState.DEGRADED
    assert f"'{path}' {why}" in (freshness.reason or "")
    assert (path.encode(), why) in dict(rig.refresher.scanner.snapshot.problems()).items()
    delete_run(rig.status_dir, new)
    rig.settle()


def assert_ready(rig: Rig) -> None:
    rig.settle()
    assert rig.cache.freshness().state is CacheState.READY, rig.cache.freshness().reason
    assert rig.cache.meta()["errors"] == "0"
    assert_agrees(rig)


def device_of(descriptor: str) -> int | None:
    with suppress(OSError):  # that of the listing is closed by now
        return os.fstat(int(descriptor)).st_dev
    return None


class Automounter(Tree):
    """Mounts a project when it is listed, as autofs and NFS do, on a mount point that is always there or is not."""

    def __init__(self, root: Path, volumes: Volumes) -> None:
        super().__init__(str(root))
        self.shows_name = True
        self._volumes = volumes
        self._aside, self._point = volumes.make(), root / "vol"
        volumes.mount(self._aside, self._point)
        self._is_mounted = True

    def expire(self) -> None:
        if self._is_mounted:
            self._volumes.unmount(self._point)
            self._is_mounted = False
        if not self.shows_name and self._point.exists():
            self._point.rmdir()

    def list_directory(self, path: bytes, *, with_mtimes: bool = False) -> Directory:
        if path == b"vol" and not self._is_mounted:
            self._volumes.mount(self._aside, self._point)
            self._is_mounted = True
        return super().list_directory(path, with_mtimes=with_mtimes)


@pytest.fixture
def rig(valkey: RunningServer, status_dir: Path, namespace: str) -> Iterator[Rig]:
    write_run(status_dir, OUTSIDE)
    with Rig(valkey.url, status_dir, namespace) as rig:
        yield rig


def fill(rig: Rig, volumes: Volumes, depth: int, fs_type: str = "tmpfs") -> tuple[Path, Path]:
    """Have a volume with one run at some depth; returns where it lies aside, and where it is mounted."""
    aside, point = volumes.make(fs_type), rig.status_dir.joinpath(*INSIDE[:depth])
    volumes.mount(aside, point)
    write_run(rig.status_dir, INSIDE)
    rig.settle()
    assert shown(rig) == {OUTSIDE, INSIDE}
    assert_ready(rig)
    return aside, point


@DEPTHS
class TestAtEveryDepth:
    def test_a_volume_is_read_and_followed(self, rig: Rig, volumes: Volumes, depth: int) -> None:
        fill(rig, volumes, depth)
        for status in ("completed", "failed"):
            write_run(rig.status_dir, INSIDE, status=status)
            write_run(rig.status_dir, (*INSIDE[:3], status))
            rig.refresh(Scope.POLL)
            rig.refresh(Scope.POLL)
            assert_agrees(rig)
        path = "/".join(INSIDE[:depth])
        assert json.loads(rig.cache.meta()["volumes"]) == [{"path": path, "type": "tmpfs"}]

    def test_a_volume_that_is_unmounted_keeps_its_jobs_until_it_is_back(
        self, rig: Rig, volumes: Volumes, depth: int
    ) -> None:
        aside, point = fill(rig, volumes, depth)
        volumes.unmount(point)
        assert_guarded(rig, "/".join(INSIDE[:depth]), "is not mounted", {OUTSIDE, INSIDE})
        if depth < 4:  # somebody writes beneath, into directories of the same names
            write_run(rig.status_dir, (*INSIDE[:3], "beneath"))
            assert_guarded(rig, "/".join(INSIDE[:depth]), "is not mounted", {OUTSIDE, INSIDE})
        volumes.mount(aside, point)
        assert_ready(rig)
        assert shown(rig) == {OUTSIDE, INSIDE}

    @pytest.mark.parametrize("point_is_there", [True, False])
    def test_a_new_leader_knows_what_was_a_volume(
        self, rig: Rig, volumes: Volumes, depth: int, point_is_there: bool
    ) -> None:
        aside, point = fill(rig, volumes, depth)
        rig.refresher.close()
        volumes.unmount(point)
        if not point_is_there:
            point.rmdir()
        rig.refresher = StepRefresher(rig.url, rig.status_dir, rig.namespace)
        rig.refresher.lead()
        why = "is not mounted" if point_is_there else "is gone"
        assert_guarded(rig, "/".join(INSIDE[:depth]), why, {OUTSIDE, INSIDE})
        volumes.mount(aside, point)
        assert_ready(rig)

    def test_a_volume_that_turns_empty_keeps_its_jobs_until_an_operator_releases_them(
        self, rig: Rig, volumes: Volumes, depth: int
    ) -> None:
        _, point = fill(rig, volumes, depth)
        for path in point.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (point / "lost+found").mkdir()
        if (
            depth == 4
        ):  # its file is gone: that is no fault of a filesystem on which something else is left
            rig.settle()
            assert shown(rig) == {OUTSIDE}
            return
        assert_guarded(rig, "/".join(INSIDE[:depth]), "turned empty", {OUTSIDE, INSIDE})
        rig.refresh(release=True)
        rig.settle()
        assert shown(rig) == {OUTSIDE}
        assert_ready(rig)

    def test_another_filesystem_in_its_place_deletes_nothing(
        self, rig: Rig, volumes: Volumes, depth: int
    ) -> None:
        aside, point = fill(rig, volumes, depth)
        other = volumes.make()
        (other / "other").mkdir()
        volumes.unmount(point)
        volumes.mount(other, point)
        assert_guarded(rig, "/".join(INSIDE[:depth]), "shows another filesystem", {OUTSIDE, INSIDE})
        volumes.unmount(point)
        volumes.mount(aside, point)
        assert_ready(rig)

    def test_the_same_files_on_another_device_are_the_same_volume(
        self, rig: Rig, volumes: Volumes, depth: int
    ) -> None:
        aside, point = fill(rig, volumes, depth)
        copy = volumes.make()
        shutil.copytree(aside, copy, dirs_exist_ok=True)
        volumes.unmount(point)
        volumes.mount(copy, point)
        look(rig)
        assert shown(rig) == {OUTSIDE, INSIDE}
        assert_ready(rig)

    def test_a_mount_over_a_directory_with_jobs_hides_them_and_deletes_nothing(
        self, rig: Rig, volumes: Volumes, depth: int
    ) -> None:
        write_run(rig.status_dir, INSIDE)
        rig.settle()
        point = rig.status_dir.joinpath(*INSIDE[:depth])
        volumes.mount(volumes.make(), point)
        assert_guarded(rig, "/".join(INSIDE[:depth]), "turned empty", {OUTSIDE, INSIDE})
        volumes.unmount(point)
        assert_ready(rig)
        assert shown(rig) == {OUTSIDE, INSIDE}

    def test_a_release_deletes_at_once_however_many(
        self, valkey: RunningServer, status_dir: Path, namespace: str, volumes: Volumes, depth: int
    ) -> None:
        write_run(status_dir, OUTSIDE)
        with Rig(valkey.url, status_dir, namespace, hold_minimum=0, hold_fraction=0.01) as rig:
            _, point = fill(rig, volumes, depth)
            volumes.unmount(point)
            look(rig)
            assert shown(rig) == {OUTSIDE, INSIDE}
            rig.refresh(release=True)
            assert shown(rig) == {OUTSIDE}
            assert_ready(rig)
            assert json.loads(rig.cache.meta()["volumes"]) == []
            write_run(rig.status_dir, INSIDE)
            rig.settle()
            assert_agrees(rig)


class TestOneVolume:
    def test_nothing_of_an_unmounted_volume_is_held_open(self, rig: Rig, volumes: Volumes) -> None:
        """Else it lives on, and what is held answers for ever."""
        aside, point = fill(rig, volumes, 1)
        device = aside.stat().st_dev

        def held() -> list[str]:
            return [link for link in os.listdir("/proc/self/fd") if device_of(link) == device]

        assert held()
        volumes.unmount(point)
        rig.refresh(Scope.POLL)
        assert not held()

    def test_an_unmounted_volume_is_noticed_in_the_next_poll_however_quiet_it_was(
        self, rig: Rig, volumes: Volumes
    ) -> None:
        times = rig.status_dir.stat().st_atime, 1_700_000_000
        beneath = write_run(rig.status_dir, INSIDE, status="completed").parents[1]
        os.utime(beneath, times)
        aside, point = volumes.make(), rig.status_dir / "vol" / "g"
        shutil.copytree(beneath, aside, dirs_exist_ok=True)
        (aside / "n" / "r").rename(aside / "n" / "other")
        os.utime(aside, times)
        volumes.mount(aside, point)
        rig.settle()
        rig.refresher.time.advance(700)  # nothing is racy or busy any more
        rig.settle()
        assert shown(rig) == {OUTSIDE, ("vol", "g", "n", "other")}
        volumes.unmount(point)
        rig.refresh(Scope.POLL)
        assert "'vol/g' is not mounted" in (rig.cache.freshness().reason or "")

    def test_hints_alone_delete_nothing_of_an_unmounted_volume(
        self, rig: Rig, volumes: Volumes
    ) -> None:
        """Also if directories of the same names lie beneath, and no poll came since."""
        beneath: Names = (*INSIDE[:3], "beneath")
        write_run(rig.status_dir, beneath)
        _, point = fill(rig, volumes, 1)
        volumes.unmount(point)
        for _ in range(4):
            rig.refresh(Scope.HINTS, hints=[b"vol", b"vol/g", b"vol/g/n", b"vol/g/n/r"])
        assert shown(rig) == {OUTSIDE, INSIDE}

    def test_what_is_mounted_only_when_it_is_entered_is_entered(
        self, valkey: RunningServer, status_dir: Path, namespace: str, volumes: Volumes
    ) -> None:
        tree = Automounter(status_dir, volumes)
        for names in (OUTSIDE, INSIDE):
            write_run(status_dir, names)
        tree.expire()
        with Rig(valkey.url, status_dir, namespace, tree=tree) as rig:
            tree.shows_name = True
            assert_ready(rig)
            for tree.shows_name in (True, False):
                for scope in ALL_SCOPES:
                    tree.expire()
                    rig.refresh(scope, hints=[b"vol"] if scope is Scope.HINTS else ())
                    assert shown(rig) == {OUTSIDE, INSIDE}
                    assert rig.cache.freshness().state is CacheState.READY
            assert_ready(rig)

    def test_a_volume_whose_mount_point_went_with_the_directory_above_keeps_its_jobs(
        self, rig: Rig, volumes: Volumes
    ) -> None:
        aside, point = fill(rig, volumes, 2)
        beside: Names = ("vol", "beside", "n", "r")
        write_run(rig.status_dir, beside)
        rig.settle()
        volumes.unmount(point)
        shutil.rmtree(point.parent)
        look(rig)
        assert shown(rig) == {OUTSIDE, INSIDE}
        assert "'vol/g' is gone" in (rig.cache.freshness().reason or "")
        volumes.mount(aside, point)
        assert_ready(rig)

    def test_volumes_within_a_volume_are_volumes(self, rig: Rig, volumes: Volumes) -> None:
        fill(rig, volumes, 1)
        inner = volumes.make()
        point = rig.status_dir / "vol" / "inner"
        volumes.mount(inner, point)
        within: Names = ("vol", "inner", "n", "r")
        write_run(rig.status_dir, within)
        rig.settle()
        assert_ready(rig)
        volumes.unmount(point)
        assert_guarded(rig, "vol/inner", "is not mounted", {OUTSIDE, INSIDE, within})

    @pytest.mark.parametrize("error", [errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EACCES])
    def test_a_volume_that_cannot_be_read_is_never_behind_ready(
        self,
        valkey: RunningServer,
        status_dir: Path,
        namespace: str,
        volumes: Volumes,
        error: int,
    ) -> None:
        """From the first scan on, which never saw what lies in it."""
        volumes.mount(volumes.make(), status_dir / "vol")
        write_run(status_dir, INSIDE)
        write_run(status_dir, OUTSIDE)
        tree = FaultyTree(str(status_dir))
        tree.fail(error, under("vol"))
        with Rig(valkey.url, status_dir, namespace, tree=tree) as rig:
            for seen in ({OUTSIDE}, {OUTSIDE, INSIDE}):
                look(rig)
                assert shown(rig) == seen
                freshness = rig.cache.freshness()
                assert freshness.state is CacheState.DEGRADED
                assert "'vol' cannot be listed: " in (freshness.reason or "")
                assert rig.cache.meta()["errors"] == "1"
                rig.refresh(release=True)  # which is not for errors
                assert shown(rig) == seen
                tree.heal()
                assert_ready(rig)
                tree.fail(error, under("vol"))

    def test_an_ordinary_directory_that_cannot_be_read_does_not_degrade(
        self, valkey: RunningServer, status_dir: Path, namespace: str
    ) -> None:
        write_run(status_dir, OUTSIDE)
        write_run(status_dir, INSIDE)
        tree = FaultyTree(str(status_dir))
        tree.fail(errno.EACCES, under("vol"))
        with Rig(valkey.url, status_dir, namespace, tree=tree) as rig:
            rig.refresh()
            assert rig.cache.freshness().state is CacheState.READY
            assert rig.cache.meta()["errors"] == "1"

    def test_another_type_in_its_place_deletes_nothing(self, rig: Rig, volumes: Volumes) -> None:
        _, point = fill(rig, volumes, 1)
        other = volumes.make("ext4")
        volumes.unmount(point)
        volumes.mount(other, point)
        assert_guarded(rig, "vol", "turned empty", {OUTSIDE, INSIDE})  # but for lost+found
        write_run(rig.status_dir, (*INSIDE[:3], "other"))
        why = "is a filesystem of type ext4, not tmpfs"
        assert_guarded(rig, "vol", why, {OUTSIDE, INSIDE})
        rig.refresh(release=True)
        assert_ready(rig)
        assert shown(rig) == {OUTSIDE, (*INSIDE[:3], "other")}

    def test_a_directory_of_the_same_disk_that_is_mounted(
        self, rig: Rig, volumes: Volumes, tmp_path: Path
    ) -> None:
        point = rig.status_dir / "vol"
        (tmp_path / "elsewhere").mkdir()
        volumes.mount(tmp_path / "elsewhere", point)
        write_run(rig.status_dir, INSIDE)
        assert_ready(rig)
        volumes.unmount(point)
        assert_guarded(rig, "vol", "is not mounted", {OUTSIDE, INSIDE})

    def test_a_root_that_leads_elsewhere_has_other_volumes(
        self, valkey: RunningServer, tmp_path: Path, namespace: str, volumes: Volumes
    ) -> None:
        volumes.mount(volumes.make(), tmp_path / "blue" / "vol")
        for colour in ("blue", "green"):
            write_run(tmp_path / colour, INSIDE, job_key=colour)
        root = tmp_path / "status"
        root.symlink_to("blue")
        with Rig(valkey.url, root, namespace) as rig:
            assert_ready(rig)
            root.unlink()
            root.symlink_to("green")
            assert_ready(rig)
            assert [job.job_key for job in rig.cache.list_all_jobs()] == ["green"]


class TestBtrfs:
    def subvolume(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["btrfs", "-q", "subvolume", "create", path], check=True)

    @pytest.fixture
    def rig(
        self, valkey: RunningServer, status_dir: Path, namespace: str, volumes: Volumes
    ) -> Iterator[Rig]:
        volumes.mount(volumes.make("btrfs"), status_dir)
        write_run(status_dir, OUTSIDE)
        with Rig(valkey.url, status_dir, namespace) as rig:
            yield rig

    @DEPTHS
    def test_a_subvolume_is_read_and_removed_as_a_directory_is(self, rig: Rig, depth: int) -> None:
        path = rig.status_dir.joinpath(*INSIDE[:depth])
        self.subvolume(path)
        write_run(rig.status_dir, INSIDE)
        assert_ready(rig)
        assert shown(rig) == {OUTSIDE, INSIDE}
        moved = path.with_name("moved")
        path.rename(moved)
        assert_ready(rig)
        assert len(shown(rig)) == 2
        subprocess.run(["btrfs", "-q", "subvolume", "delete", moved], check=True)
        assert_ready(rig)
        assert shown(rig) == {OUTSIDE}

    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_a_snapshot_in_place_of_the_tree_lacks_its_subvolumes_and_deletes_nothing(
        self, valkey: RunningServer, namespace: str, tmp_path: Path, volumes: Volumes, depth: int
    ) -> None:
        """A snapshot shows an empty directory for each subvolume."""
        disk, status = volumes.make("btrfs"), tmp_path / "status link"
        self.subvolume(disk / "tree")
        self.subvolume((disk / "tree").joinpath(*INSIDE[:depth]))
        write_run(disk / "tree", INSIDE)
        write_run(disk / "tree", OUTSIDE)
        volumes.mount(disk / "tree", status)
        with Rig(valkey.url, status, namespace) as rig:
            assert_ready(rig)
            subprocess.run(
                ["btrfs", "-q", "subvolume", "snapshot", disk / "tree", disk / "snapshot"],
                check=True,
            )
            volumes.unmount(status)
            volumes.mount(disk / "snapshot", status)
            assert_guarded(rig, "/".join(INSIDE[:depth]), "turned empty", {OUTSIDE, INSIDE})
            volumes.unmount(status)
            volumes.mount(disk / "tree", status)
            assert_ready(rig)


def job_key(cache: JobCache, names: Names) -> str | None:
    job = cache.get_job(*names)
    return job.job_key if job else None


def test_a_mount_over_a_watched_directory_is_found(
    valkey: RunningServer, status_dir: Path, namespace: str, volumes: Volumes
) -> None:
    """inotify does not tell of it."""
    volumes.mount(volumes.make(), status_dir)
    write_run(status_dir, OUTSIDE)
    inside: dict[Path, Names] = {
        status_dir / "vol": ("vol", "g", "n", "r"),
        status_dir / "plain" / "vol": ("plain", "vol", "n", "r"),
    }
    for point in inside:
        point.mkdir()
    refresher = Refresher(
        status_dir,
        url=valkey.url,
        namespace=namespace,
        mode="watchdog",
        poll_interval=0.3,
        relist_interval=1.5,
        settle=0.2,
    )
    with refresher, closing(JobCache(valkey.url, namespace=namespace, deadline=5)) as cache:
        assert cache.meta()["mode"] == "watchdog"
        for point in inside:
            volumes.mount(volumes.make(), point)
        for key in ("k1", "k2"):
            for names in inside.values():
                write_run(status_dir, names, job_key=key)
            ends = time.monotonic() + 20
            while any(job_key(cache, names) != key for names in inside.values()):
                assert time.monotonic() < ends, cache.list_all_jobs()
                time.sleep(0.05)
        assert cache.freshness().state is CacheState.READY
