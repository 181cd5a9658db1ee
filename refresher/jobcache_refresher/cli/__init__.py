"""The entry of the ``jobcache-refresher`` program; its ``commands`` need the extra ``refresher``."""

from __future__ import annotations

from typing import NoReturn

from jobcache.cli import run_program


def main() -> NoReturn:
    """Run ``jobcache-refresher``."""
    run_program("jobcache-refresher", "jobcache_refresher.cli.commands", extra="refresher")
