"""The watcher alone: every kind of write, and every way in which a name comes to lead to another directory."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobcache_refresher.triggers.dirty import Dirty
from jobcache_refresher.triggers.kernel import Inotify
from tests.trees import write_run
from tests.watching import NAMES, RUN, Watched, exchange, watching

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def watched(status_dir: Path) -> Iterator[Watched]:
    """A watcher of the status directory, not yet started."""
    with watching(status_dir) as one:
        yield one


# Writes of every kind


def close_write(file: Path) -> None:
    file.write_text("{}")


def rename(file: Path) -> None:
    file.with_name("new").write_text("{}")
    file.with_name("new").rename(file)


def link(file: Path) -> None:
    file.with_name("staged").write_text("{}")
    file.unlink(missing_ok=True)
    os.link(file.with_name("staged"), file)


def link_unnamed(file: Path) -> None:
    file.unlink(missing_ok=True)
    unnamed = os.open(file.parent, os.O_TMPFILE | os.O_WRONLY)
    try:
        os.write(unnamed, b"{}")
        os.link(f"/proc/self/fd/{unnamed}", file, src_dir_fd=unnamed)  # follows the link
    finally:
        os.close(unnamed)


def copy_range(file: Path) -> None:
    file.with_name("source").write_text("{}")
    with file.with_name("source").open("rb") as source, file.open("wb") as target:
        os.copy_file_range(source.fileno(), target.fileno(), 2)


def splice(file: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"{}")
    with file.open("wb") as target:
        os.splice(reading, target.fileno(), 2)
    os.close(reading)
    os.close(writing)


def allocate(file: Path) -> None:
    with file.open("r+b") as target:
        os.posix_fallocate(target.fileno(), 0, 100)


def change_rights(file: Path) -> None:
    file.chmod(0o600)


def change_times(file: Path) -> None:
    os.utime(file, (0, 0))


@pytest.mark.parametrize(
    "write",
    [close_write, rename, link, link_unnamed, copy_range, splice]
    + [allocate, change_rights, change_times],
)
def test_a_write_of_this_kind_is_noticed(
    watched: Watched, status_dir: Path, write: Callable[[Path], None]
) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    write(directory / "metadata.json")
    assert watched.wait() == Dirty(runs={RUN})


@pytest.mark.parametrize("write", [rename, link, link_unnamed])
def test_a_first_file_put_into_a_directory_that_was_seen_is_noticed(
    watched: Watched, status_dir: Path, write: Callable[[Path], None]
) -> None:
    directory = status_dir.joinpath(*NAMES)
    directory.mkdir(parents=True)
    watched.start()
    write(directory / "metadata.json")
    assert watched.wait() == Dirty(runs={RUN})


# Names that lead to another directory than before


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_two_directories_that_are_exchanged_are_both_watched(
    watched: Watched, status_dir: Path, level: int
) -> None:
    above, rest = NAMES[: level - 1], NAMES[level:]
    names: Any = [(*above, name, *rest) for name in ("one", "other")]
    runs = {"/".join(one).encode() for one in names}
    for one in names:
        write_run(status_dir, one)
    watched.start()
    before = watched.watcher.watched
    exchange(status_dir.joinpath(*names[0][:level]), status_dir.joinpath(*names[1][:level]))
    assert watched.wait().runs == runs
    assert watched.watcher.watched == before
    for one in names:
        write_run(status_dir, one)
        assert watched.wait() == Dirty(runs={"/".join(one).encode()})


def test_a_directory_exchanged_with_one_outside_is_watched_in_its_place(
    watched: Watched, status_dir: Path, tmp_path: Path
) -> None:
    write_run(status_dir, NAMES)
    write_run(tmp_path / "other", NAMES)
    watched.start()
    exchange(status_dir / "p", tmp_path / "other/p")
    assert watched.wait().runs == {RUN}
    write_run(tmp_path / "other", NAMES)
    assert watched.is_silent()
    write_run(status_dir, NAMES)
    assert watched.wait() == Dirty(runs={RUN})


class Unprivileged(Inotify):
    """Watches nothing that its owner may not read, as where the user is not root."""

    def watch(self, path: bytes, mask: int) -> Any:
        if not os.stat(path).st_mode & stat.S_IRUSR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return super().watch(path, mask)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_directory_that_was_closed_at_first_is_watched_once_it_is_open(
    status_dir: Path, level: int
) -> None:
    write_run(status_dir, NAMES)
    closed = status_dir.joinpath(*NAMES[:level])
    closed.chmod(0)
    with watching(status_dir, open_inotify=Unprivileged) as watched:
        watched.start()
        assert watched.watcher.watched == level
        closed.chmod(0o755)
        assert watched.wait().runs == {RUN}
        write_run(status_dir, NAMES)
        assert watched.wait() == Dirty(runs={RUN})
        closed.chmod(0)
        closed.chmod(0o755)
        os.utime(closed)
        assert watched.is_silent()
        write_run(status_dir, NAMES)
        assert watched.wait() == Dirty(runs={RUN})


# Filesystems that are mounted below


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """Mounts with the arguments of mount(8), and takes all of it away again."""
    points: list[str] = []

    def mounted(*arguments: object) -> None:
        done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no right to mount: {done.stderr.strip()}")
        points.append(str(arguments[-1]))

    yield mounted
    for point in reversed(points):
        subprocess.run(["umount", "--lazy", point], capture_output=True)


def unmount(point: Path) -> None:
    subprocess.run(["umount", str(point)], check=True)


def looked(watched: Watched) -> Dirty:
    """What it says after the next look, which every poll brings."""
    said = watched.watcher.drain()
    said.add(watched.wait())
    return said


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["volume", "bind"])
def test_what_is_mounted_over_a_directory_is_watched_and_so_is_what_was_below(
    watched: Watched,
    status_dir: Path,
    tmp_path: Path,
    mount: Callable[..., None],
    level: int,
    kind: str,
) -> None:
    write_run(status_dir, NAMES)
    watched.start()
    point = status_dir.joinpath(*NAMES[:level])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for _ in range(2):
        if kind == "bind":
            mount("--bind", elsewhere, point)
        else:
            mount("-t", "tmpfs", "none", point)
        assert looked(watched) == Dirty(resync=True)
        write_run(status_dir, NAMES)
        assert watched.wait().runs == {RUN}
        write_run(status_dir, NAMES)
        assert watched.wait() == Dirty(runs={RUN})
        unmount(point)
        assert looked(watched).resync
        assert watched.watcher.watched == 5
        write_run(status_dir, NAMES)
        assert watched.wait() == Dirty(runs={RUN})


def test_a_volume_that_is_mounted_anew_between_two_looks_is_watched(
    watched: Watched, status_dir: Path, mount: Callable[..., None]
) -> None:
    (status_dir / "p").mkdir()
    mount("-t", "tmpfs", "none", status_dir / "p")
    watched.start()
    unmount(status_dir / "p")
    mount("-t", "tmpfs", "none", status_dir / "p")
    assert looked(watched) == Dirty(resync=True)
    write_run(status_dir, NAMES)
    assert watched.wait().runs == {RUN}


def test_a_filesystem_without_events_is_not_walked(
    watched: Watched, status_dir: Path, mount: Callable[..., None]
) -> None:
    (status_dir / "p").mkdir()
    mount("-t", "proc", "none", status_dir / "p")
    watched.start()
    assert watched.watcher.watched == 1
    unmount(status_dir / "p")
    assert looked(watched) == Dirty(resync=True)
    write_run(status_dir, NAMES)
    assert watched.wait().runs == {RUN}


def test_a_mount_elsewhere_changes_nothing(
    watched: Watched, tmp_path: Path, mount: Callable[..., None]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    watched.start()
    mount("-t", "tmpfs", "none", tmp_path / "elsewhere")
    assert watched.watcher.drain() == Dirty()
    assert watched.is_silent()
