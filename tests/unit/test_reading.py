"""What one look at a run's directory finds, and what it makes of the log."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobcache_refresher.scan.descriptors import DescriptorCache
from jobcache_refresher.scan.logreader import JUICEFS, LOG_HEAD, LogReader
from jobcache_refresher.scan.logs import LogSearch
from jobcache_refresher.scan.reading import (
    DirectoryMissing,
    FileMissing,
    Finding,
    Reader,
    Reading,
    Trouble,
    Unchanged,
)
from jobcache_refresher.scan.rules import Rules
from jobcache_refresher.scan.schedule import Schedule
from jobcache_refresher.scan.snapshot import KnownRun
from jobcache_refresher.scan.tree import Fingerprint
from jobcache_refresher.settings import Settings
from tests.faults.faulty import FaultyTree, under
from tests.harness import SteppedClock
from tests.trees import Names, metadata, write_raw, write_run

RUN: Names = ("p", "g", "n", "r")
PATH = b"p/g/n/r"
START = "2026-01-01T00:00:00"
URL = b"https://wandb.ai/lab/p/runs/1"
OTHER = b"https://wandb.ai/lab/p/runs/2"
CAP = 64 << 10
SETTLE = 2.0
POLL, RESYNC = 10.0, 900.0
LINES = LOG_HEAD // 4
"""Lines of eight bytes that are more than the head of a log, and less than the cap."""


def line(url: bytes = URL) -> bytes:
    return b"WANDB | project=p url=%b\n" % url


class Site:
    """A run's directory, and a reader that looks at it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root.joinpath(*RUN)
        self.log = self.directory / "output.log"
        self.time = SteppedClock()
        self.tree = CountingTree(str(root))
        self.descriptors = DescriptorCache(self.tree, 100)
        self.filesystem_type = "ext4"
        self.run = KnownRun(PATH, 0.0)
        clock = self.time.clock
        schedule = Schedule(POLL, 60.0, RESYNC)
        rules = Rules.of(Settings(status_dir=str(root)))
        logs = LogReader(
            self.tree,
            clock,
            schedule,
            settle=SETTLE,
            cap=CAP,
            filesystem_type=lambda: self.filesystem_type,
        )
        self.reader = Reader(
            self.tree,
            self.descriptors,
            rules,
            logs,
            clock,
            schedule,
            settle=SETTLE,
            metadata_cap=1 << 20,
        )

    def write(self, log: bytes | None = None, **changes: Any) -> None:
        """Write ``metadata.json``, and the log in place, as long ago as makes both trusted."""
        write_run(self.root, RUN, **{"status": "completed", "start_time": START, **changes})
        if log is not None:
            self.log.write_bytes(log)
        self.pass_time()

    def replace_log(self, text: bytes) -> None:
        """Put another file in the log's place."""
        new = self.directory / "new"
        new.write_bytes(text)
        os.replace(new, self.log)
        self.pass_time()

    def make_anew(self, log: bytes | None = None, **changes: Any) -> None:
        """Put another directory in the place of the run's, as the next listing of the one above shows it."""
        self.directory.rename(self.directory.with_name("old"))
        self.write(log, **changes)
        shutil.rmtree(self.directory.with_name("old"))
        self.run.inode = self.directory.stat().st_ino
        self.run.racy = True

    def pass_time(self, seconds: float = SETTLE + 1) -> None:
        self.time.advance(seconds)

    def look(self, *, forced: bool = False, live: bool = False) -> Finding:
        """Look once, and note what was found as the scanner does."""
        if self.run.inode == 0:
            self.run.inode = self.directory.stat().st_ino if self.directory.exists() else 0
        self.tree.opened, self.tree.looked = [], []
        found = self.reader.examine(self.run, forced=forced, live=live)
        if isinstance(found, Reading):
            self.run.fingerprint, self.run.racy = found.fingerprint, found.racy
            self.run.read_at = self.time.clock.monotonic()
        self.run.trouble = found.reason if isinstance(found, Trouble) else None
        return found

    def restart(self) -> None:
        """Forget what was not published."""
        known = self.run
        self.run = KnownRun(PATH, 0.0, known.inode, known.fingerprint, racy=False)
        names = {b"start_time": START.encode(), b"slurm_job_id": b"1234567"}
        self.run.log.recall({**names, **known.log.fields()})

    def found(self) -> tuple[bool, bytes | None]:
        """Whether there is a log, and the address."""
        return self.run.log.known is not None, self.run.log.url


class CountingTree(FaultyTree):
    """Notes what is opened and looked at."""

    opened: list[bytes]
    looked: list[bytes]

    def _open(self, path: bytes, name: bytes, held: int | None) -> int:
        self.opened.append(name)
        return super()._open(path, name, held)

    def fingerprint(self, path: bytes, name: bytes, held: int | None = None) -> Fingerprint:
        self.looked.append(name)
        return super().fingerprint(path, name, held)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def read(site: Site) -> Site:
    """A run that was read, with a log that names its address."""
    site.write(line() + b"step\n" * 100)
    assert isinstance(site.look(), Reading)
    return site


def nothing(site: Site) -> None:
    pass


def rewrite(site: Site) -> None:
    site.write(status="failed")


def remove_file(site: Site) -> None:
    (site.directory / "metadata.json").unlink()


def remove_directory(site: Site) -> None:
    shutil.rmtree(site.directory)


def put_file_in_place(site: Site) -> None:
    remove_directory(site)
    site.directory.write_text("no directory")


def put_link_in_place(site: Site) -> None:
    away = site.root / "away"
    site.directory.rename(away)
    site.directory.symlink_to(away)
    rewrite(site)


def empty(site: Site) -> None:
    write_raw(site.directory, b"")


def cut(site: Site) -> None:
    write_raw(site.directory, b'{"name": "n", "proj')


def link_file(site: Site) -> None:
    remove_file(site)
    (site.directory / "metadata.json").symlink_to("elsewhere")


def make_fifo(site: Site) -> None:
    remove_file(site)
    os.mkfifo(site.directory / "metadata.json")


def grow_beyond(site: Site) -> None:
    write_raw(site.directory, b" " * ((1 << 20) + 1))


def fail_to_look(site: Site) -> None:
    site.tree.fail(errno.EIO, under())


def fail_to_list(site: Site) -> None:
    remove_file(site)
    site.tree.fail(errno.EACCES, lambda path: path == PATH)


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        (nothing, Unchanged, None),
        (rewrite, Reading, None),
        (remove_file, FileMissing, None),
        (remove_directory, DirectoryMissing, None),
        (put_file_in_place, DirectoryMissing, None),
        (put_link_in_place, DirectoryMissing, None),
        (empty, Trouble, "metadata.json is no job: empty"),
        (cut, Trouble, "metadata.json is no job"),
        (link_file, Trouble, "cannot be read"),
        (make_fifo, Trouble, "cannot be read: not a regular file"),
        (grow_beyond, Trouble, "cannot be read: 1048577 bytes"),
        (fail_to_look, Trouble, "cannot be read: Input/output error"),
        (fail_to_list, Trouble, "cannot be listed: Permission denied"),
    ],
)
@pytest.mark.parametrize("live", [False, True])
def test_examine_finds(
    read: Site, change: Callable[[Site], None], kind: type, reason: str | None, live: bool
) -> None:
    if live:
        read.look(live=True)  # holds descriptors
    change(read)
    if kind is DirectoryMissing and live:
        read.descriptors.drop_all()  # the listing above shows another inode, or none
    found = read.look(live=live)
    assert type(found) is kind
    if isinstance(found, Trouble):
        assert found.reason.startswith(reason or "")
        assert found.passing is (change in {empty, cut})


@pytest.mark.parametrize("change", [remove_file, remove_directory])
def test_examine_of_a_run_that_never_had_a_file_finds_nothing_new(
    site: Site, change: Callable[[Site], None]
) -> None:
    site.write()
    change(site)
    assert isinstance(site.look(), Unchanged)


def test_examine_forced_reads_what_is_the_same(read: Site) -> None:
    assert isinstance(read.look(), Unchanged)
    assert isinstance(read.look(forced=True), Reading)


@pytest.mark.parametrize("mark", ["racy", "trouble"])
def test_examine_reads_again_what_was_not_trusted(read: Site, mark: str) -> None:
    setattr(read.run, mark, True if mark == "racy" else "was empty")
    assert isinstance(read.look(), Reading)


def test_examine_calls_what_changed_a_moment_ago_racy(site: Site) -> None:
    write_run(site.root, RUN)
    found = site.look()
    assert isinstance(found, Reading)
    assert found.racy
    site.pass_time()
    found = site.look()
    assert isinstance(found, Reading)
    assert not found.racy


def test_examine_of_a_file_that_changes_while_it_is_read_is_passing(
    read: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(read)

    def torn(handle: int, size: int) -> bytes:
        return b"{"

    monkeypatch.setattr("jobcache_refresher.scan.tree._read", torn)
    found = read.look()
    assert isinstance(found, Trouble)
    assert found.passing


def test_examine_of_a_live_run_reads_nothing_from_a_held_directory_that_was_moved_away(
    read: Site,
) -> None:
    """Also before a listing shows it."""
    read.look(live=True)
    moved = read.root.parent / "moved"
    read.directory.rename(moved)
    read.directory.symlink_to(moved)
    write_raw(moved, json.dumps(metadata(job_key="secret")).encode())
    assert isinstance(read.look(live=True), DirectoryMissing)
    assert len(read.descriptors) == 0


def test_examine_of_a_live_run_goes_by_descriptors(read: Site) -> None:
    read.look(live=True)
    read.tree.fail(errno.EIO, lambda path: path == PATH + b"/metadata.json")
    assert isinstance(read.look(live=True), Unchanged)
    assert (read.tree.opened, read.tree.looked) == ([], [])
    assert isinstance(read.look(live=False), Trouble)
    assert len(read.descriptors) == 0, "what is live no more is let go of"


class TestLog:
    """What becomes of ``log_path`` (whether there is a log) and of the address."""

    @pytest.mark.parametrize("live", [False, True])
    @pytest.mark.parametrize(
        ("before", "then", "url"),
        [
            (None, line(), URL),
            (None, b"", None),
            (None, b"no address\n", None),
            (b"", line(), URL),
            (b"loading\n", b"loading\n" + line(), URL),
            (b"loading\n" * 100, line() + b"loading\n" * 400, URL),
            (b"loading\n" * 100, b"loading\n" * 50 + line() + b"loading\n" * 100, URL),
            (b"loading\n" * 100, line(), URL),
            (b"loading\n" * LINES, line() + b"loading\n" * 2 * LINES, URL),
        ],
    )
    def test_a_log_that_comes_after_the_last_write_is_found_at_the_next_look(
        self, site: Site, before: bytes | None, then: bytes, url: bytes | None, live: bool
    ) -> None:
        site.write(before)
        site.look(live=live)
        assert site.found() == (before is not None, None)
        site.log.write_bytes(then)
        site.pass_time()
        assert isinstance(site.look(live=live), Reading)
        assert site.found() == (True, url)

    @pytest.mark.parametrize("restarted", [False, True])
    @pytest.mark.parametrize(
        ("then", "url"),
        [
            (line() + b"step\n" * 200, URL),
            (line(OTHER) + b"step\n" * 200, OTHER),
            (line(OTHER), OTHER),
            (line(OTHER) + b"step\n" * 100, OTHER),  # as long as before
            (b"step\n" * 200, URL),
            (b"", URL),
        ],
    )
    @pytest.mark.parametrize("by_name", [False, True])
    def test_a_log_at_rest_that_was_replaced_is_searched(
        self, read: Site, then: bytes, url: bytes, by_name: bool, restarted: bool
    ) -> None:
        if by_name:
            read.replace_log(then)
        else:
            read.log.write_bytes(then)
            read.pass_time()
        if restarted:
            read.restart()
        read.look()
        assert read.found() == (True, url)
        assert isinstance(read.look(), Unchanged)

    @pytest.mark.parametrize("restarted", [False, True])
    @pytest.mark.parametrize(
        ("then", "url"),
        [
            # The same log, to which the new run appends.
            (line() + b"step\n" * 100, URL),
            (line() + b"step\n" * 200, URL),
            (line() + b"step\n" * 100 + line(), URL),
            (line() + b"step\n" * 100 + line(OTHER), OTHER),
            (line() + b"step\n" * 100 + line() + line(OTHER), OTHER),
            # Another log.
            (b"", None),
            (b"step\n" * 200, None),
            (line(OTHER), OTHER),
            (b"step\n" * 200 + line(OTHER), OTHER),
            (None, None),
        ],
    )
    @pytest.mark.parametrize("changes", [{"start_time": "2026-02-02"}, {"slurm_job_id": "2"}])
    @pytest.mark.parametrize("live", [False, True])
    def test_a_requeued_run_has_its_own_address(
        self,
        read: Site,
        then: bytes | None,
        url: bytes | None,
        changes: dict[str, str],
        live: bool,
        restarted: bool,
    ) -> None:
        if then is None:
            read.log.unlink()
        if restarted:
            read.restart()
        read.write(then, status="running", **changes)
        read.look(live=live)
        assert read.found() == (then is not None, url)

    def test_what_an_earlier_run_logged_names_no_address(self, site: Site) -> None:
        long = line() + b"loading\n" * LINES + line(OTHER)
        site.write(long)
        site.look()
        site.write(long + b"step\n", status="running", start_time="2026-02-02")
        site.look(live=True)
        assert site.found() == (True, URL)

    @pytest.mark.parametrize("restarted", [False, True])
    @pytest.mark.parametrize("between", [b"", b"loading\n", None])
    def test_a_requeued_run_that_cuts_its_log_after_its_first_write(
        self, read: Site, between: bytes | None, restarted: bool
    ) -> None:
        changes: dict[str, Any] = {"status": "running", "start_time": "2026-02-02"}
        read.write(**changes)
        read.look(live=True)
        assert read.found() == (True, URL), (
            "the old log is still there, and W&B may continue the run"
        )
        if restarted:
            known = read.run.log
            read.run.log = LogSearch()
            names = {b"start_time": b"2026-02-02", b"slurm_job_id": b"1234567"}
            read.run.log.recall({**names, **known.fields()})
        if between is None:
            read.log.unlink()
        else:
            read.log.write_bytes(between)
        read.pass_time(POLL)
        read.look(live=True)
        assert read.found() == (between is not None, None)
        read.write(line(OTHER), last_heartbeat="2026-02-03", **changes)
        read.pass_time(POLL)
        read.look(live=True)
        assert read.found() == (True, OTHER)

    def test_a_requeued_run_that_cuts_its_log_before_its_first_write(self, read: Site) -> None:
        read.log.write_bytes(line(OTHER))
        read.pass_time()
        read.look()
        assert read.found() == (True, OTHER)
        read.write(status="running", start_time="2026-02-02")
        read.look(live=True)
        assert read.found() == (True, OTHER)

    def test_a_requeued_run_that_appends_to_its_log_before_its_first_write(
        self, read: Site
    ) -> None:
        with read.log.open("ab") as file:
            file.write(line(OTHER))
        read.pass_time()
        read.look()
        read.write(status="running", start_time="2026-02-02")
        read.look(live=True)
        assert read.found() == (True, OTHER)

    @pytest.mark.parametrize(
        ("then", "url"),
        [
            (line() + b"step\n" * 100, URL),  # moved away and copied back
            (line(OTHER), OTHER),
            (b"step\n", None),
            (None, None),
        ],
    )
    def test_a_directory_that_was_made_anew(
        self, read: Site, then: bytes | None, url: bytes | None
    ) -> None:
        read.make_anew(then)
        read.look()
        assert read.found() == (then is not None, url)

    @pytest.mark.parametrize("address", [b"", line()])
    def test_a_rotated_log_is_searched_from_its_head(self, site: Site, address: bytes) -> None:
        """The run is the same: an address that was found stays."""
        site.write(b"loading\n" * 100 + address, status="running")
        site.look(live=True)
        site.log.rename(site.directory / "output.log.1")
        site.log.write_bytes(b"" if address else line() + b"step\n" * 400)
        site.write(status="running", last_heartbeat="2026-01-02")
        site.pass_time(POLL)
        site.look(live=True)
        assert site.found() == (True, URL)

    def test_a_rotated_log_that_names_another_address_has_it(self, read: Site) -> None:
        read.look(live=True)
        read.replace_log(b"step\n" * 400 + line(OTHER))
        read.write(status="running")
        read.look(live=True)
        assert read.found() == (True, OTHER)

    def test_a_log_that_changed_a_moment_ago_is_looked_at_again(self, read: Site) -> None:
        now = read.time.clock.time()
        os.utime(read.log, (now, now))
        assert isinstance(read.look(), Reading)
        assert isinstance(read.look(), Reading)
        read.pass_time()
        assert isinstance(read.look(), Reading)
        assert isinstance(read.look(), Unchanged)

    def test_a_copied_and_cut_log_is_searched_from_its_head(self, site: Site) -> None:
        site.write(b"step\n" * 100, status="running")
        site.look(live=True)
        site.write(line() + b"step\n" * 400, status="running", last_heartbeat="2026-01-02")
        site.pass_time(POLL)
        site.look(live=True)
        assert site.found() == (True, URL)

    @pytest.mark.parametrize("live", [False, True])
    def test_without_a_log_there_is_no_path_and_the_address_stays(
        self, read: Site, live: bool
    ) -> None:
        read.look(live=live)
        read.log.unlink()
        if live:
            read.write(status="running")
        read.look(live=live)
        assert read.found() == (False, URL)

    def test_new_inode_numbers_each_time_start_no_search(
        self, read: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        numbers = iter(range(1, 1000))
        real = Fingerprint.of

        def unstable(status: os.stat_result) -> Fingerprint:
            return real(status)._replace(inode=next(numbers) if status.st_size < 2000 else 1)

        monkeypatch.setattr(Fingerprint, "of", unstable)
        mark = read.run.log.mark
        for _ in range(5):
            read.look()
            again = read.run.log.mark
            assert mark is not None
            assert again == mark._replace(inode=again.inode if again else 0)

    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (lambda log: log.symlink_to("elsewhere"), "output.log is a symbolic link"),
            (lambda log: log.symlink_to("metadata.json"), "output.log is a symbolic link"),
            (lambda log: os.mkfifo(log), "output.log is no regular file"),
            (lambda log: log.mkdir(), "output.log is no regular file"),
        ],
    )
    def test_what_is_no_regular_file_is_told_and_read_once(
        self, site: Site, make: Callable[[Path], None], problem: str
    ) -> None:
        site.write()
        make(site.log)
        site.look()
        assert (site.run.log.problem or "").startswith(problem)
        assert site.found() == (False, None)
        assert isinstance(site.look(), Unchanged)
        site.log.rmdir() if site.log.is_dir() else site.log.unlink()
        site.log.write_bytes(line())
        site.pass_time()
        site.look()
        assert site.run.log.problem is None
        assert site.found() == (True, URL)

    @pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ESTALE])
    def test_an_error_keeps_what_is_known_and_is_told_and_tried_again(
        self, read: Site, error: int
    ) -> None:
        read.tree.fail(error, lambda path: path.endswith(b"/output.log"))
        for _ in range(2):
            assert isinstance(read.look(), Reading)
            assert read.found() == (True, URL)
            assert read.run.log.problem == f"output.log cannot be read: {os.strerror(error)}"
        read.tree.heal()
        read.look()
        assert read.run.log.problem is None
        assert isinstance(read.look(), Unchanged)

    def test_an_error_does_not_hide_that_the_run_was_requeued(self, read: Site) -> None:
        read.write(b"step\n", start_time="2026-02-02")
        read.tree.fail(errno.EIO, lambda path: path.endswith(b"/output.log"))
        read.look()
        assert read.found() == (True, URL)
        read.tree.heal()
        read.look()
        assert read.found() == (True, None)


class TestCost:
    """What a look at a run at rest asks of the filesystem."""

    @pytest.mark.parametrize("log", [None, b"", b"no address\n", line(), b"x" * (2 * CAP)])
    @pytest.mark.parametrize("restarted", [False, True])
    def test_a_run_at_rest_costs_one_look_more(
        self, site: Site, log: bytes | None, restarted: bool
    ) -> None:
        site.write(log)
        site.look()
        if restarted:
            site.restart()
        for _ in range(3):
            assert isinstance(site.look(), Unchanged)
            assert site.tree.opened == []
            assert site.tree.looked == [b"metadata.json", b"output.log"]

    @pytest.mark.parametrize("restarted", [False, True])
    @pytest.mark.parametrize("log", [line(), b"x" * (2 * CAP)])
    def test_on_juicefs_a_search_that_is_over_costs_no_look_at_the_log(
        self, site: Site, log: bytes, restarted: bool
    ) -> None:
        """The attributes of the directory came with the look-up of ``metadata.json``."""
        site.filesystem_type = JUICEFS
        site.write(log)
        site.look()
        if restarted:
            site.restart()
        for _ in range(3):
            assert isinstance(site.look(), Unchanged)
            assert site.tree.opened == []
            assert site.tree.looked == [b"metadata.json", b"."]

    @pytest.mark.parametrize("then", [line(OTHER), None])
    def test_on_juicefs_the_directory_tells_of_another_log(
        self, site: Site, then: bytes | None
    ) -> None:
        site.filesystem_type = JUICEFS
        site.write(line())
        site.look()
        if then is None:
            site.log.unlink()
        else:
            site.replace_log(then)
        site.look()
        assert site.found() == (then is not None, OTHER if then else URL)

    def test_on_juicefs_a_new_file_has_a_log_at_rest_opened(self, site: Site) -> None:
        """A log that was overwritten in place leaves its directory as it was."""
        site.filesystem_type = JUICEFS
        site.write(line())
        site.look()
        site.write(line(OTHER), status="failed")
        site.look()
        assert site.found() == (True, OTHER)

    def test_a_live_run_with_an_address_costs_nothing(self, read: Site) -> None:
        read.look(live=True)
        for _ in range(3):
            read.pass_time(POLL)
            assert isinstance(read.look(live=True), Unchanged)
            assert (read.tree.opened, read.tree.looked) == ([], [])

    @pytest.mark.parametrize(("kind", "looked"), [("ext4", [b"output.log"]), (JUICEFS, [])])
    def test_a_heartbeat_with_an_address_opens_no_log(
        self, read: Site, kind: str, looked: list[bytes]
    ) -> None:
        read.filesystem_type = kind
        read.look(live=True)
        read.write(status="running")
        with read.log.open("ab") as file:
            file.write(b"step\n")
        assert isinstance(read.look(live=True), Reading)
        assert read.tree.opened == [b"metadata.json"]
        assert read.tree.looked == looked

    @pytest.mark.parametrize("log", [None, b"no address\n"])
    def test_a_live_run_without_an_address_is_asked_the_more_rarely_the_longer_it_is(
        self, site: Site, log: bytes | None
    ) -> None:
        site.write(log, status="running")
        site.look(live=True)
        asked = []
        for poll in range(360):
            site.pass_time(POLL)
            site.look(live=True)
            asked += [poll] if site.tree.looked else []
        assert asked[:5] == [0, 1, 2, 3, 4]
        assert 20 < len(asked) < 60
        assert asked[-1] - asked[-2] > 20
