"""The mount table read, and what follows from the filesystem's type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobcache_refresher.triggers import mounts
from jobcache_refresher.triggers.mounts import (
    Mount,
    MountAlarm,
    choose_mode,
    events_are_complete,
    find_mount,
    fs_type_of,
    mounts_below,
    parse_mountinfo,
    types_below,
)

HOST = rb"""22 29 0:21 / /proc rw,nosuid shared:13 - proc proc rw
29 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
40 29 0:35 / /mnt/jfs rw,relatime shared:20 - fuse.juicefs JuiceFS:train rw,user_id=0
41 29 0:36 /exports/data /srv/data rw shared:21 master:2 - nfs4 filer:/exports rw,vers=4.2
42 41 0:37 / /srv/data/scratch rw - xfs /dev/sdb1 rw
43 29 259:2 /home/status /srv/status rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
44 29 0:38 / /mnt/with\040space\011tab\134slash rw - cifs //server/share\040name rw
45 29 0:39 / /mnt/caf\303\251\377 rw - tmpfs tmpfs rw
"""


def type_at(table: bytes, path: bytes) -> str | None:
    mount = find_mount(parse_mountinfo(table), path)
    return mount.fs_type if mount else None


@pytest.mark.parametrize(
    ("path", "fs_type"),
    [
        (b"/", "ext4"),
        (b"/var/lib/status", "ext4"),
        (b"/mnt/jfs", "fuse.juicefs"),
        (b"/mnt/jfs/status", "fuse.juicefs"),
        (b"/mnt/jfs2/status", "ext4"),
        (b"/srv/data/a", "nfs4"),
        (b"/srv/data/scratch/a", "xfs"),
        (b"/srv/status/a", "ext4"),
        (b"/mnt/with space\ttab\\slash/a", "cifs"),
        (b"/mnt/caf\xc3\xa9\xff", "tmpfs"),
    ],
)
def test_type_of_the_mount_that_a_path_lies_on(path: bytes, fs_type: str) -> None:
    assert type_at(HOST, path) == fs_type


def test_mount_line_has_its_fields() -> None:
    assert parse_mountinfo(HOST)[2] == Mount(40, 29, b"/mnt/jfs", "fuse.juicefs", b"0:35 /")


def test_any_number_of_optional_fields_and_a_dash_for_a_root() -> None:
    table = b"1 1 0:1 - /a rw - ext4 x rw\n2 1 0:2 / /b rw x:1 y:2 z - xfs - rw\n"
    assert [mount.fs_type for mount in parse_mountinfo(table)] == ["ext4", "xfs"]


@pytest.mark.parametrize(
    "line", [b"", b"garbage", b"a b 0:1 / / rw - ext4 x rw", b"1 1 0:1 / / rw", b"1 1 0:1 / / rw -"]
)
def test_a_line_of_another_form_is_passed_over(line: bytes) -> None:
    table = line + b"\n29 1 8:1 / / rw - xfs /dev/sda rw\n"
    assert type_at(table, b"/a") == "xfs"


def test_of_mounts_in_one_place_the_last_counts() -> None:
    table = b"""29 1 8:1 / / rw - ext4 /dev/sda rw
50 29 0:40 / /status rw - xfs /dev/sdb rw
51 50 0:41 / /status rw - fuse.juicefs JuiceFS:x rw
"""
    assert type_at(table, b"/status/a") == "fuse.juicefs"


def test_a_mount_covered_by_a_later_one_above_it_is_out_of_sight() -> None:
    table = b"""29 1 8:1 / / rw - ext4 /dev/sda rw
50 29 0:40 / /data rw - xfs /dev/sdb rw
51 50 0:41 / /data/status rw - nfs filer:/x rw
52 50 0:42 / /data rw - tmpfs tmpfs rw
"""
    assert type_at(table, b"/data/status/p") == "tmpfs"
    nested = table + b"53 52 0:43 / /data/status rw - fuse.sshfs host:/x rw\n"
    assert type_at(nested, b"/data/status/p") == "fuse.sshfs"


def test_a_later_root_covers_the_first() -> None:
    table = b"""1 1 0:1 / / rw - rootfs rootfs rw
29 1 8:1 / / rw - overlay overlay rw
30 29 0:5 / /data rw - 9p share rw
"""
    assert type_at(table, b"/x") == "overlay"
    assert type_at(table, b"/data/x") == "9p"


def test_mount_without_a_table_is_unknown() -> None:
    assert type_at(b"", b"/a") is None
    assert type_at(b"50 29 0:40 / /data rw - xfs /dev/sdb rw\n", b"/a") is None


@pytest.mark.parametrize(
    "fs_type", ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "f2fs"]
)
def test_local_filesystems_have_complete_events(fs_type: str) -> None:
    assert events_are_complete(fs_type)
    assert events_are_complete("overlay")


@pytest.mark.parametrize(
    "fs_type",
    ["fuse", "fuseblk", "fuse.juicefs", "fuse.sshfs", "nfs", "nfs4", "cifs", "smb3", "9p"]
    + ["virtiofs", "lustre", "ceph", "gpfs", "beegfs", "ocfs2", "gfs2", "vboxsf", "ext5", "", None],
)
def test_network_and_unknown_filesystems_have_not(fs_type: str | None) -> None:
    assert not events_are_complete(fs_type)


@pytest.mark.parametrize(
    ("asked", "fs_type", "mode", "reason"),
    [
        ("polling", "ext4", "polling", ""),
        ("polling", "fuse.juicefs", "polling", ""),
        ("watchdog", "ext4", "watchdog", ""),
        ("watchdog", "fuse.juicefs", "polling", "inotify may miss writes on fuse.juicefs"),
        ("watchdog", None, "polling", "the filesystem type is unknown"),
        ("auto", "xfs", "watchdog", "inotify sees every write on xfs"),
        ("auto", "nfs4", "polling", "inotify may miss writes on nfs4"),
    ],
)
def test_mode_in_effect_goes_by_the_filesystem(
    asked: str, fs_type: str | None, mode: str, reason: str
) -> None:
    assert choose_mode(asked, fs_type) == (mode, reason)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no mount table")
def test_mount_of_this_machine_agrees_with_stat(tmp_path: Path) -> None:
    assert fs_type_of("/proc/self") == "proc"
    shown = subprocess.run(
        ["df", "--output=fstype", tmp_path], capture_output=True, text=True, check=True
    )
    assert fs_type_of(str(tmp_path)) == shown.stdout.split()[-1]
    link = tmp_path / "link"
    link.symlink_to("/proc/self")
    assert fs_type_of(bytes(link)) == "proc"


def test_unknown_where_there_is_no_mount_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNT_TABLE", str(tmp_path / "none"))
    assert fs_type_of(tmp_path.as_posix()) is None
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert fs_type_of(tmp_path.as_posix()) is None


def test_mounts_below_are_those_in_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = b"""29 1 8:1 / / rw - ext4 /dev/sda rw
50 29 0:40 / /data rw - xfs /dev/sdb rw
51 50 0:41 / /data/p rw - nfs filer:/x rw
52 50 0:42 / /data/p rw - tmpfs tmpfs rw
53 50 0:43 / /data/q/g rw - fuse.sshfs host:/x rw
54 50 0:44 / /data/q rw - ext4 /dev/sdc rw
55 29 0:45 / /database rw - ext4 /dev/sdd rw
"""
    file = tmp_path / "mountinfo"
    file.write_bytes(table)
    monkeypatch.setattr(mounts, "MOUNT_TABLE", str(file))
    below = mounts_below("/data")
    assert {path: mount.fs_type for path, mount in below.items()} == {b"p": "tmpfs", b"q": "ext4"}
    assert mounts_below("/data/q") == {}
    assert {path: mount.id for path, mount in mounts_below("/").items()}[b"database"] == 55


def test_a_mount_alarm_without_a_table_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "MOUNT_TABLE", str(tmp_path / "none"))
    alarm = MountAlarm()
    assert not alarm.rings()
    assert mounts_below(tmp_path.as_posix()) == {}
    alarm.close()


TREE = rb"""29 1 8:1 / / rw - ext4 /dev/sda rw
50 29 0:40 / /data rw - xfs /dev/sdb rw
51 50 0:41 / /data/status/p rw - nfs4 filer:/p rw
52 51 0:42 / /data/status/p/g rw - tmpfs tmpfs rw
53 50 0:43 / /data/status/covered/g rw - tmpfs tmpfs rw
54 50 0:44 / /data/status/covered rw - zfs pool/x rw
55 50 0:45 / /data/status/twice rw - ext4 /dev/sdc rw
56 55 0:46 / /data/status/twice rw - btrfs /dev/sdd rw
57 50 0:47 / /data/status/direct rw - autofs map rw
58 50 0:48 / /data/status/entered rw - autofs map rw
59 58 0:49 / /data/status/entered rw - nfs filer:/e rw
60 50 0:50 / /data/status2/p rw - tmpfs tmpfs rw
61 50 8:9 /a /data/status/with\040space rw - ext4 /dev/sda rw
"""


def test_types_at_and_below_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(TREE)
    monkeypatch.setattr(mounts, "MOUNT_TABLE", str(table))
    assert types_below(b"/data/status") == {
        b"": "xfs",
        b"p": "nfs4",
        b"p/g": "tmpfs",
        b"covered": "zfs",
        b"twice": "btrfs",
        b"entered": "nfs",
        b"with space": "ext4",
    }
    assert types_below(b"/data/status/p") == {b"": "nfs4", b"g": "tmpfs"}
    assert types_below(b"/")[b"data/status/p/g"] == "tmpfs"


def test_types_without_a_table_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "MOUNT_TABLE", str(tmp_path / "none"))
    assert types_below(b"/data") == {}
    monkeypatch.setattr(mounts, "MOUNT_TABLE", "/dev/null")
    assert types_below(b"/data") == {}
    monkeypatch.setattr(sys, "platform", "darwin")
    assert types_below(b"/data") == {}
