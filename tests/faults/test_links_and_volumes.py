"""Links in the way to a run, volumes below the root, and entries of listings that cannot be looked at."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from jobcache import CacheState
from jobcache_refresher.scan.names import LINK, MISPLACED, ignored_names
from jobcache_refresher.scan.root import RootCheck
from jobcache_refresher.scan.scope import Scope
from jobcache_refresher.scan.tree import ElsewhereError, Tree
from jobcache_refresher.settings import Settings
from tests.contract.compare import assert_agrees, names_of
from tests.faults.faulty import FaultyTree
from tests.harness import Rig
from tests.servers import RunningServer
from tests.trees import Names, delete_run, write_run

VICTIM: Names = ("p", "g", "n", "r1")
RUNS: list[Names] = [VICTIM, ("p", "g", "n", "r2"), ("p", "g", "m", "r1"), ("q", "g", "n", "r1")]


def keys(rig: Rig) -> dict[Names, str]:
    return {names: job.job_key for job in rig.cache.list_all_jobs() for names in names_of([job])}


def swap(link: Path, target: Path) -> None:
    """Have a link lead elsewhere, in one go."""
    new = link.with_name("new link")
    new.symlink_to(target)
    new.replace(link)


class TestTheRoot:
    @pytest.fixture
    def colours(self, tmp_path: Path) -> Path:
        """Two trees with equal times everywhere, as a copy that keeps them has."""
        write_run(tmp_path / "blue", VICTIM, job_key="blue")
        write_run(tmp_path / "blue", ("p", "g", "n", "blue"), job_key="blue")
        write_run(tmp_path / "green", VICTIM, job_key="green")
        write_run(tmp_path / "green", ("p", "g", "n", "green"), job_key="green")
        for colour in ("blue", "green"):
            for directory, _, files in os.walk(tmp_path / colour):
                for path in (directory, *(os.path.join(directory, name) for name in files)):
                    os.utime(path, (1_700_000_000, 1_700_000_000))
        return tmp_path

    @pytest.mark.parametrize("above", [False, True], ids=["itself", "above it"])
    def test_may_be_a_link_that_is_changed(
        self, valkey: RunningServer, colours: Path, namespace: str, above: bool
    ) -> None:
        if above:
            for colour in ("blue", "green"):
                (colours / f"in {colour}").mkdir()
                (colours / colour).rename(colours / f"in {colour}" / "status")
            targets = colours / "in blue", colours / "in green"
        else:
            targets = colours / "blue", colours / "green"
        link = colours / "link"
        link.symlink_to(targets[0])
        root = link / "status" if above else link
        Settings.create(status_dir=str(root)).check_status_dir()
        with Rig(valkey.url, root, namespace) as rig:
            rig.refresh()
            assert keys(rig) == {VICTIM: "blue", ("p", "g", "n", "blue"): "blue"}
            rig.refresher.time.advance(30)
            rig.settle()
            swap(link, targets[1])
            rig.refresh(Scope.POLL)
            rig.refresh(Scope.POLL)
            assert keys(rig) == {VICTIM: "green", ("p", "g", "n", "green"): "green"}
            assert rig.cache.freshness().state is CacheState.READY

    def test_a_link_to_nowhere_deletes_nothing(
        self, valkey: RunningServer, colours: Path, namespace: str
    ) -> None:
        link = colours / "link"
        link.symlink_to("blue")
        with Rig(valkey.url, link, namespace) as rig:
            rig.refresh()
            swap(link, Path("nowhere"))
            for _ in range(3):
                assert rig.refresh() is False
            assert len(keys(rig)) == 2
            assert rig.cache.freshness().state is CacheState.DEGRADED
            swap(link, Path("blue"))
            assert rig.refresh() is True
            assert rig.cache.freshness().state is CacheState.READY


class TestSwappedForALink:
    @pytest.fixture
    def rig(
        self, valkey: RunningServer, status_dir: Path, namespace: str, tmp_path: Path
    ) -> Iterator[Rig]:
        for root in (status_dir, tmp_path / "outside"):
            for names in RUNS:
                key = "ours" if root == status_dir else "secret"
                write_run(root, names, job_key=key, status="completed")
        with Rig(valkey.url, status_dir, namespace) as rig:
            rig.settle()
            rig.refresher.time.advance(30)
            rig.settle()
            yield rig

    @pytest.mark.parametrize("hinted", [False, True])
    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    def test_nothing_is_read_outside(
        self, rig: Rig, tmp_path: Path, depth: int, hinted: bool
    ) -> None:
        """Whatever the times of the directory above say."""
        branch = rig.status_dir.joinpath(*VICTIM[:depth])
        times = branch.parent.stat()
        branch.rename(tmp_path / "away")
        branch.symlink_to(tmp_path.joinpath("outside", *VICTIM[:depth]))
        os.utime(branch.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
        below = [names for names in RUNS if names[:depth] == VICTIM[:depth]]
        paths = frozenset("/".join(names).encode() for names in below)
        for path in paths:
            rig.refresher.scanner.mark_dirty(path)
        if hinted:
            rig.refresh(Scope.HINTS, hints=paths)
        for _ in range(8):
            rig.refresh(Scope.POLL)
            assert set(keys(rig).values()) == {"ours"}
        assert keys(rig) == {names: "ours" for names in RUNS if names not in below}
        assert rig.cache.meta()["errors"] == "0"

    def test_nor_through_what_is_held(self, rig: Rig, tmp_path: Path) -> None:
        write_run(rig.status_dir, VICTIM, job_key="ours")
        rig.settle()
        branch = rig.status_dir.joinpath(*VICTIM)
        branch.rename(tmp_path / "away")
        branch.symlink_to(tmp_path / "away")
        write_run(tmp_path, ("away",), job_key="secret")  # type: ignore[arg-type]
        for _ in range(3):
            rig.refresh(Scope.POLL)
            assert set(keys(rig).values()) == {"ours"}
        assert VICTIM not in keys(rig)

    def test_nor_its_log(self, rig: Rig, tmp_path: Path) -> None:
        outside = write_run(tmp_path / "outside", VICTIM, log="WANDB | url=https://x/y\n")
        tree = rig.refresher.tree
        branch = rig.status_dir.joinpath(*VICTIM)
        held = tree.directory_descriptor("/".join(VICTIM).encode())
        branch.rename(tmp_path / "away")
        branch.symlink_to(outside)
        (tmp_path / "away" / "output.log").write_text("WANDB | url=https://x/y\n")
        path = "/".join(VICTIM).encode()
        with pytest.raises(ElsewhereError):
            tree.read_part(path, b"output.log", 0, 100)
        with pytest.raises(ElsewhereError):
            tree.check_place(path, held)
        tree.release(held)

    def test_also_without_proc(
        self, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def readlink(path: Any) -> bytes:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

        monkeypatch.setattr("jobcache_refresher.scan.tree.os.readlink", readlink)
        monkeypatch.setattr("jobcache_refresher.scan.tree.os.path.realpath", os.path.abspath)
        rig.refresh()
        assert keys(rig) == dict.fromkeys(RUNS, "ours")
        monkeypatch.undo()
        self.test_nothing_is_read_outside(rig, tmp_path, 3, hinted=False)

    def test_a_file_that_is_replaced_while_it_is_opened_is_no_link(
        self, status_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = write_run(status_dir, VICTIM) / "metadata.json"
        tree = Tree(str(status_dir))
        tree.list_directory(b"")
        real = os.open

        def replaced(path: Any, *arguments: Any, **keywords: Any) -> int:
            handle = real(path, *arguments, **keywords)
            shutil.copy(file, file.with_name("new"))
            file.with_name("new").replace(file)
            return handle

        monkeypatch.setattr("jobcache_refresher.scan.tree.os.open", replaced)
        with pytest.raises(OSError, match="replaced") as caught:
            tree.read_whole("/".join(VICTIM).encode(), b"metadata.json", 1 << 20)
        assert not isinstance(caught.value, ElsewhereError)


class TestWhatIsPassedOver:
    def told(self, rig: Rig) -> dict[bytes, str]:
        return dict(rig.refresher.scanner.snapshot.problems())

    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    def test_a_link_in_place_of_a_directory_is_told(
        self, valkey_rig: Rig, tmp_path: Path, depth: int
    ) -> None:
        rig = valkey_rig
        for names in RUNS:
            write_run(rig.status_dir, names)
        rig.settle()
        assert self.told(rig) == {}
        branch = rig.status_dir.joinpath(*VICTIM[:depth])
        branch.rename(tmp_path / "larger disk")
        branch.symlink_to(tmp_path / "larger disk")
        for _ in range(2):
            rig.settle()
            assert self.told(rig) == {"/".join(VICTIM[:depth]).encode(): LINK}
            assert set(keys(rig)) == {names for names in RUNS if names[:depth] != VICTIM[:depth]}
        branch.unlink()
        (tmp_path / "larger disk").rename(branch)
        rig.settle()
        assert self.told(rig) == {}
        assert_agrees(rig)

    @pytest.mark.parametrize("depth", [0, 1, 2, 3])
    def test_metadata_that_lies_too_high_is_told_and_other_files_are_not(
        self, valkey_rig: Rig, depth: int
    ) -> None:
        rig = valkey_rig
        run = write_run(rig.status_dir, VICTIM)
        above = rig.status_dir.joinpath(*VICTIM[:depth])
        shutil.copy(run / "metadata.json", above)
        (above / "README").touch()
        (above / "latest").symlink_to(VICTIM[depth])
        rig.settle()
        path = "/".join((*VICTIM[:depth], "metadata.json")).encode()
        assert self.told(rig) == {path: MISPLACED}
        assert set(keys(rig)) == {VICTIM}


class TestNamesOfSystems:
    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    @pytest.mark.parametrize("name", ["lost+found", ".Trash-1000", ".snapshot"])
    def test_are_passed_over_without_a_word(self, valkey_rig: Rig, depth: int, name: str) -> None:
        rig = valkey_rig
        write_run(rig.status_dir, VICTIM)
        write_run(rig.status_dir, (*VICTIM[: depth - 1], name, *VICTIM[depth:]))  # type: ignore[arg-type]
        for scope in (Scope.RELIST, Scope.POLL, Scope.RELIST):
            rig.refresh(scope)
            assert set(keys(rig)) == {VICTIM}
        assert list(rig.refresher.scanner.snapshot.problems()) == []
        assert rig.cache.meta()["errors"] == "0"

    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    def test_what_was_published_of_a_name_that_is_ignored_now_is_deleted(
        self, valkey: RunningServer, status_dir: Path, namespace: str, depth: int
    ) -> None:
        hidden: Names = (*VICTIM[: depth - 1], "scratch-7", *VICTIM[depth:])  # type: ignore[assignment]
        for names in (VICTIM, hidden):
            write_run(status_dir, names)
        with Rig(valkey.url, status_dir, namespace) as rig:
            rig.settle()
            assert set(keys(rig)) == {VICTIM, hidden}
        with Rig(valkey.url, status_dir, namespace, ignore="tmp*, scratch-?") as rig:
            assert set(keys(rig)) == {VICTIM, hidden}
            for scope in (Scope.RELIST, Scope.POLL, Scope.POLL):
                rig.refresh(scope)
            assert set(keys(rig)) == {VICTIM}
            rig.settle()
            assert set(keys(rig)) == {VICTIM}


class TestVolumes:
    """Without the right to mount anything; ``test_volumes`` has real ones."""

    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_one_is_read_and_deletes_nothing_once_it_is_empty(
        self,
        valkey_rig: Rig,
        monkeypatch: pytest.MonkeyPatch,
        depth: int,
    ) -> None:
        rig = valkey_rig
        volume = rig.status_dir.joinpath(*VICTIM[:depth])
        _mount(volume, monkeypatch)
        for names in RUNS:
            write_run(rig.status_dir, names)
        rig.settle()
        assert rig.cache.freshness().state is CacheState.READY
        assert_agrees(rig)
        path = "/".join(VICTIM[:depth])
        assert json.loads(rig.cache.meta()["volumes"]) == [{"path": path, "type": None}]
        monkeypatch.undo()
        away = volume.rename(rig.status_dir.parent / "away")
        volume.mkdir()
        write_run(rig.status_dir, ("new", "g", "n", "r"))
        for scope in (Scope.POLL, Scope.HINTS, Scope.RELIST, Scope.POLL):
            rig.refresh(scope)
        assert set(keys(rig)) == {*RUNS, ("new", "g", "n", "r")}
        freshness = rig.cache.freshness()
        assert freshness.state is CacheState.DEGRADED
        assert f"'{path}' turned empty" in (freshness.reason or "")
        volume.rmdir()
        away.rename(volume)
        rig.settle()
        assert rig.cache.freshness().state is CacheState.READY
        assert_agrees(rig)


def _mount(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything at and below a directory bear another device number."""
    real = os.fstat

    def fstat(handle: int) -> Any:
        status = real(handle)
        where = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if not stat.S_ISDIR(status.st_mode) or volume not in {where, *where.parents}:
            return status
        return SimpleNamespace(
            st_mtime_ns=status.st_mtime_ns,
            st_ctime_ns=status.st_ctime_ns,
            st_dev=status.st_dev + 1,
        )

    monkeypatch.setattr("jobcache_refresher.scan.tree.os.fstat", fstat)


class Untyped:
    """An entry of a listing that does not say what it is, so that ``os.DirEntry`` asks, as CPython does it."""

    def __init__(self, entry: os.DirEntry[Any], failure: int) -> None:
        self.name, self.inode = entry.name, entry.inode
        self._entry = entry
        self._failure = failure

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        if self._failure:
            raise OSError(self._failure, os.strerror(self._failure))
        return self._entry.stat(follow_symlinks=follow_symlinks)

    def _is(self, test: Callable[[int], bool]) -> bool:
        try:
            return test(self.stat(follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISDIR)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(stat.S_ISREG)

    def is_symlink(self) -> bool:
        return self._is(stat.S_ISLNK)


class Listing:
    """What ``os.scandir`` gives on a filesystem without types."""

    def __init__(self, path: Any, failures: dict[str, int]) -> None:
        with _scandir(path) as entries:
            self._entries = [Untyped(entry, failures.get(entry.name, 0)) for entry in entries]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def __iter__(self) -> Iterator[Untyped]:
        return iter(self._entries)


_scandir = os.scandir


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What entries fail with, by name, in a tree whose listings tell no types."""
    failing: dict[str, int] = {}
    monkeypatch.setattr(
        "jobcache_refresher.scan.tree.os.scandir", lambda path: Listing(path, failing)
    )
    return failing


@pytest.mark.parametrize("error", [errno.ENOENT, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
class TestEntriesThatCannotBeLookedAt:
    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    def test_are_no_absence_and_cost_no_other_entry_anything(
        self, valkey_rig: Rig, failures: dict[str, int], depth: int, error: int
    ) -> None:
        rig = valkey_rig
        for names in RUNS:
            write_run(rig.status_dir, names)
        write_run(rig.status_dir, ("p", "g", "n", "socket"))
        os.mkfifo(rig.status_dir / "p" / "fifo")
        rig.settle()
        assert rig.cache.meta()["errors"] == "0"
        failures[VICTIM[depth - 1]] = error
        beside: Names = (*VICTIM[: depth - 1], *("new",) * (5 - depth))  # type: ignore[assignment]
        write_run(rig.status_dir, beside)
        for scope in (Scope.POLL, Scope.RELIST, Scope.POLL, Scope.RELIST):
            rig.refresh(scope)
        assert {*RUNS, beside} <= set(keys(rig))
        assert int(rig.cache.meta()["errors"]) >= 1
        failures.clear()
        delete_run(rig.status_dir, VICTIM)
        for _ in range(3):
            rig.refresh(Scope.POLL)
        assert_agrees(rig)
        assert rig.cache.meta()["errors"] == "0"

    def test_the_whole_root(self, status_dir: Path, failures: dict[str, int], error: int) -> None:
        write_run(status_dir, VICTIM)
        check = RootCheck(Tree(str(status_dir)), lambda place: None, ignored_names())
        check.look(set())
        failures["p"] = error
        assert check.look({b"p"}).unknown == {b"p"}

    def test_a_file_that_cannot_be_looked_at_is_there(
        self,
        valkey: RunningServer,
        status_dir: Path,
        namespace: str,
        failures: dict[str, int],
        error: int,
    ) -> None:
        write_run(status_dir, VICTIM)
        tree = FaultyTree(str(status_dir))
        with Rig(valkey.url, status_dir, namespace, tree=tree) as rig:
            rig.settle()
            failures["metadata.json"] = error
            file = "/".join((*VICTIM, "metadata.json")).encode()
            tree.fail(errno.ENOENT, lambda path: path in {file, b"held", b"metadata.json"})
            for _ in range(4):
                rig.refresh()
            assert set(keys(rig)) == {VICTIM}
