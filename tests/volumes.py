"""Real filesystems, mounted for a test. Only root may do this; elsewhere such tests are skipped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

IMAGE_BYTES = 120 << 20
"""Enough for a btrfs; the file is sparse."""


class Volumes:
    """Mounts filesystems, and takes them away."""

    def __init__(self, workplace: Path) -> None:
        self._workplace = workplace
        self._mounted: list[Path] = []
        self._made = 0

    def make(self, fs_type: str = "tmpfs") -> Path:
        """A new filesystem, mounted aside, so that it lives on when it is unmounted elsewhere."""
        self._made += 1
        aside = self._workplace / f"aside {self._made}"
        aside.mkdir()
        if fs_type == "tmpfs":
            self._mount("-t", "tmpfs", "none", aside)
        else:
            image = self._workplace / f"image {self._made}"
            with image.open("wb") as file:
                file.truncate(IMAGE_BYTES)
            _run(f"mkfs.{fs_type}", "-q", image)
            self._mount("-o", "loop", image, aside)
        return aside

    def mount(self, volume: Path, point: Path) -> None:
        """Show a volume, or any directory, in another place as well."""
        point.mkdir(parents=True, exist_ok=True)
        self._mount("--bind", volume, point)

    def unmount(self, point: Path) -> None:
        """Take away what was mounted last in a place."""
        _run("umount", "-l", point)
        self._mounted.remove(point)

    def close(self) -> None:
        """Take away everything."""
        with ExitStack() as stack:
            for point in list(self._mounted):
                stack.callback(self.unmount, point)

    def _mount(self, *how: str | Path) -> None:
        _run("mount", *how)
        self._mounted.append(Path(how[-1]))


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    except subprocess.CalledProcessError as error:
        if command[0] == "umount":
            raise
        pytest.skip(f"{command}: {error.stderr.decode().strip()}")


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[Volumes]:
    """Filesystems of this test."""
    volumes = Volumes(tmp_path)
    yield volumes
    volumes.close()
