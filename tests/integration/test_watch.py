"""The watcher alone, on a real local directory: what it calls dirty."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobcache_refresher.triggers import inotify
from jobcache_refresher.triggers.dirty import Dirty
from tests.trees import write_raw, write_run
from tests.watching import NAMES, RUN, Watched, watching

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def watched(status_dir: Path) -> Iterator[Watched]:
    """A watcher of the status directory, not yet started."""
    with watching(status_dir) as one:
        yield one


def test_a_new_run_and_every_directory_above_it(watched: Watched, status_dir: Path) -> None:
    watched.start()
    write_run(status_dir, NAMES)
    said = watched.wait()
    assert said == Dirty(runs={RUN}, directories={b"", b"p", b"p/g", b"p/g/n"})


def test_a_rewrite_is_one_hint(watched: Watched, status_dir: Path) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    for _ in range(3):
        with (directory / "metadata.json").open("w") as file:
            for _ in range(50):
                file.write("x" * 100)
                file.flush()
    assert watched.wait() == Dirty(runs={RUN})
    assert watched.wakes <= 2


def test_replaced_by_a_rename_and_removed(watched: Watched, status_dir: Path) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    (directory / "new").write_text("{}")
    (directory / "new").rename(directory / "metadata.json")
    assert watched.wait() == Dirty(runs={RUN})
    (directory / "metadata.json").unlink()
    assert watched.wait() == Dirty(runs={RUN})


def test_other_files_and_deeper_directories_are_not_heard(
    watched: Watched, status_dir: Path
) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    before = watched.watcher.watched
    (directory / "output.log").write_text("line\n" * 1000)
    (directory / "wandb/deep/deeper").mkdir(parents=True)
    (directory / "wandb/metadata.json").write_text("{}")
    (status_dir / "p/metadata.json").write_text("{}")
    (status_dir / "note").write_text("a file among the projects")
    (status_dir / "note").unlink()
    assert watched.is_silent()
    assert watched.watcher.watched == before == 5


def test_links_are_not_followed(watched: Watched, status_dir: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "elsewhere", NAMES)
    (status_dir / "link").symlink_to(tmp_path / "elsewhere/p")
    watched.start()
    (status_dir / "later").symlink_to(tmp_path / "elsewhere/p")
    write_run(tmp_path / "elsewhere", NAMES)
    assert watched.is_silent()
    assert watched.watcher.watched == 1


def test_the_root_may_be_reached_through_a_link(status_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(status_dir)
    through = Watched(tmp_path / "link")
    try:
        through.start()
        write_run(status_dir, NAMES)
        assert through.wait().runs == {RUN}
    finally:
        through.watcher.stop()


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_removed_at_every_level(watched: Watched, status_dir: Path, level: int) -> None:
    write_run(status_dir, NAMES)
    watched.start()
    shutil.rmtree(status_dir.joinpath(*NAMES[:level]))
    said = watched.wait()
    assert "/".join(NAMES[: level - 1]).encode() in said.directories
    assert not said.resync
    assert watched.watcher.watched == level
    write_run(status_dir, NAMES)
    assert RUN in watched.wait().runs
    assert watched.watcher.watched == 5


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_moved_within_the_tree(watched: Watched, status_dir: Path, level: int) -> None:
    write_run(status_dir, NAMES)
    watched.start()
    old = NAMES[: level - 1]
    status_dir.joinpath(*NAMES[:level]).rename(status_dir.joinpath(*old, "new"))
    there: Any = (*old, "new", *NAMES[level:])
    said = watched.wait()
    assert said.runs == {"/".join(there).encode()}
    assert "/".join(old).encode() in said.directories
    write_run(status_dir, there)
    assert watched.wait() == Dirty(runs={"/".join(there).encode()})
    assert watched.watcher.watched == 5


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_moved_out_and_in_again(
    watched: Watched, status_dir: Path, tmp_path: Path, level: int
) -> None:
    write_run(status_dir, NAMES)
    watched.start()
    inside, outside = status_dir.joinpath(*NAMES[:level]), tmp_path / "outside"
    inside.rename(outside)
    assert watched.wait() == Dirty(directories={"/".join(NAMES[: level - 1]).encode()})
    assert watched.watcher.watched == level
    write_raw(outside.joinpath(*NAMES[level:]), b"{}")
    assert watched.is_silent()
    outside.rename(inside)
    assert watched.wait().runs == {RUN}
    write_run(status_dir, NAMES)
    assert watched.wait() == Dirty(runs={RUN})


def test_moved_up_and_down_the_levels(watched: Watched, status_dir: Path) -> None:
    write_run(status_dir, NAMES)
    write_run(status_dir, ("p", "g", "other", "r"))
    watched.start()
    (status_dir / "p/g/n").rename(status_dir / "p/g/other/n")  # now it is where a run would be
    assert b"p/g/other/n" in watched.wait().runs
    write_run(status_dir, ("p", "g", "other", "n"))
    assert watched.wait() == Dirty(runs={b"p/g/other/n"})
    (status_dir / "p/g/other/n").rename(status_dir / "q")
    assert {b"q", b"p/g/other"} <= watched.wait().directories
    write_run(status_dir, ("q", "r", "n", "r2"))
    assert watched.wait().runs == {b"q/r/n/r2"}


def test_a_large_tree_moved_in_is_dirty_to_the_last_run(
    watched: Watched, status_dir: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for n in range(300):
        write_raw(source / f"g{n % 3}/n{n % 30}/r{n}", b"{}")
    watched.start()
    source.rename(status_dir / "p")
    said = watched.wait()
    assert said.runs == {f"p/g{n % 3}/n{n % 30}/r{n}".encode() for n in range(300)}
    assert len(said.directories) == 1 + 1 + 3 + 30


def test_directories_made_faster_than_they_are_watched(watched: Watched, status_dir: Path) -> None:
    watched.start()
    for n in range(500):
        write_raw(status_dir / f"p{n % 7}/g{n % 11}/n{n}/r", b"{}")
    assert watched.wait().runs == {f"p{n % 7}/g{n % 11}/n{n}/r".encode() for n in range(500)}


@pytest.mark.parametrize(
    "name", [b"caf\xe9\xff", b"new\nline", b"-dash", "日本".encode(), b"x" * 255, b"\\", b"a b\t"]
)
def test_odd_names(watched: Watched, status_dir: Path, name: bytes) -> None:
    watched.start()
    directory = os.path.join(os.fsencode(status_dir), name, b"g", b"n", name)
    os.makedirs(directory)
    with open(directory + b"/metadata.json", "wb") as file:
        file.write(b"{}")
    assert watched.wait().runs == {name + b"/g/n/" + name}
    with open(directory + b"/metadata.json", "wb") as file:
        file.write(b"{}")
    assert watched.wait() == Dirty(runs={name + b"/g/n/" + name})


def test_hints_come_soon(watched: Watched, status_dir: Path) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    delays = []
    for _ in range(100):
        began = time.monotonic()
        write_raw(directory, b"{}")
        assert watched.woken.wait(2)
        delays.append(time.monotonic() - began)
        watched.woken.clear()
        assert watched.watcher.drain() == Dirty(runs={RUN})
    delays.sort()
    assert delays[98] < 0.08, f"p99 {delays[98] * 1e3:.1f} ms"


def test_a_steady_stream_is_handed_over_while_it_goes_on(
    watched: Watched, status_dir: Path
) -> None:
    directory = write_run(status_dir, NAMES)
    watched.start()
    ends = time.monotonic() + 0.5
    while time.monotonic() < ends:
        write_raw(directory, b"{}")
        time.sleep(inotify.QUIET / 4)
        if watched.woken.is_set():
            watched.woken.clear()
            watched.wakes += 1
    assert watched.wakes >= 3
