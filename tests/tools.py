"""The programs that tests call, and ports for those that need one."""

import os
import secrets
import shutil
import socket
import sys
from pathlib import Path

import pytest

HOST = "127.0.0.1"
NOT_EPHEMERAL = range(10_000, 30_000)
"""Below those that Linux hands out to whoever asks for any, one of which could be taken before it is bound again."""


def free_port() -> int:
    """A port that nobody listens on now."""
    while True:
        port = secrets.choice(NOT_EPHEMERAL)
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port


def require(tool: str) -> str:
    """Return the path of `tool`, looked for beside this interpreter and then on PATH.

    Without it the test skips on a laptop and fails in CI, where nothing may go untested.
    """
    directories = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    if found := shutil.which(tool, path=os.pathsep.join(directories)):
        return found
    reason = f"{tool} is not installed"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
