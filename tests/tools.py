"""The programs that tests call."""

import os
import shutil
import sys
from pathlib import Path

import pytest


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
