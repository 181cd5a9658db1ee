"""Which cache a command works on, and how it shows what it found: the options that every command has."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from jobcache.cli import emit
from jobcache.cli.checkup import Checkup
from jobcache.cli.tables import PIPE_WIDTH, Screen
from jobcache.jsontext import dumps_for_web
from jobcache.schema.keys import find_namespace

DEADLINE = 3.0
"""Seconds that one exchange with the server may take."""

C = TypeVar("C", bound=Callable[..., Any])


@dataclass(slots=True)
class Connection:
    """What the global options say; each may stand before or after the sub-command."""

    url: str | None = None
    password_file: str | None = None
    namespace: str | None = None
    json: bool = False

    def cache(self) -> Checkup:
        """The cache that the options, else the environment, name.

        Raises:
            ConfigError: the URL or the namespace cannot be used.
        """
        return Checkup(
            self.url,
            namespace=self.checked_namespace(),
            deadline=DEADLINE,
            password_file=self.password_file,
        )

    def checked_namespace(self) -> str:
        """The namespace.

        Raises:
            ConfigError: it cannot be used; the message names the flag or the variable.
        """
        return find_namespace(self.namespace, "--namespace")

    def show(self, document: Any, text: Callable[[Screen], str]) -> None:
        """Write the document as JSON, or what a person reads."""
        if self.json:
            emit(dumps_for_web(document).decode() + "\n")
            return
        emit(text(self.screen()))

    def screen(self) -> Screen:
        """What a person reads on."""
        terminal = sys.stdout.isatty()
        return Screen(shutil.get_terminal_size().columns if terminal else PIPE_WIDTH, terminal)


def _note(context: click.Context, option: click.Parameter, value: Any) -> None:
    if value not in (None, False):
        setattr(context.ensure_object(Connection), str(option.name), value)


def _shared_option(*names: str, **attributes: Any) -> Callable[[C], C]:
    return click.option(*names, expose_value=False, callback=_note, **attributes)


def connection_options(command: C) -> C:
    """``--url``, ``--password-file``, ``--namespace`` and ``--json``, kept in the context's ``Connection``."""
    url = _shared_option("--url", help="Redis URL.  [JOBCACHE_REDIS_URL, else REDIS_URL]")
    password_file = _shared_option(
        "--password-file",
        metavar="PATH",
        help="File with the password, for a URL without one.  [JOBCACHE_REDIS_PASSWORD_FILE]",
    )
    namespace = _shared_option(
        "--namespace",
        metavar="NAME",
        help="Which of the caches in one Redis.  [JOBCACHE_NAMESPACE, else default]",
    )
    as_json = _shared_option("--json", is_flag=True, help="One JSON document on stdout.")
    return url(password_file(namespace(as_json(command))))


pass_connection = click.make_pass_decorator(Connection, ensure=True)
"""Gives a command the ``Connection`` of its options."""


def check_finite(_: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """Refuse hours or seconds that are no finite number."""
    if value is not None and not math.isfinite(value * 3600):
        raise click.BadParameter(f"{value} is not a number from 0.", param=option)
    return value
