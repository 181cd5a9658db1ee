"""The commands of the ``jobcache-refresher`` program."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, get_args

import click
from redis.exceptions import RedisError

from jobcache.cache import JobCache
from jobcache.cli import EXIT_CODES, Exit, emit, printable
from jobcache.errors import CacheUnavailable, ConfigError, JobCacheError
from jobcache.jsontext import dumps_for_web
from jobcache.models import CacheState
from jobcache.numbers import read_float, read_int
from jobcache.schema import meta as fields
from jobcache.schema.keys import Keys
from jobcache_refresher.cli.attendance import Attendance, StopRequested, leave
from jobcache_refresher.cli.progress import ScanProgress
from jobcache_refresher.embedded import EmbeddedServer
from jobcache_refresher.limits import collect_rarely, raise_open_files_limit
from jobcache_refresher.overdue import MISSED_SCANS
from jobcache_refresher.publish.server import Server
from jobcache_refresher.refresher import Refresher
from jobcache_refresher.scan.volumes import decode_volumes
from jobcache_refresher.settings import Settings
from jobcache_refresher.text import shown
from jobcache_refresher.triggers.requests import post_release

log = logging.getLogger(__name__)

C = TypeVar("C", bound=Callable[..., Any])

CHECK_DEADLINE = 1.5
"""Seconds that one exchange of ``check`` may take; a probe has 5 for all of it."""


def setting_options(*names: str) -> Callable[[C], C]:
    """An option for each of these settings: name, default and help are the field's own.

    Values stay strings, so that ``Settings`` alone judges them, from wherever they come.
    """

    def decorate(command: C) -> C:
        variables = Settings.environment_names()
        for name in reversed(names):
            field = Settings.model_fields[name]
            default = "" if field.is_required() or field.default == "" else f"={field.default}"
            choices = get_args(field.annotation)
            command = click.option(
                f"--{name.replace('_', '-')}",
                name,
                metavar="|".join(choices) or getattr(field.annotation, "__name__", "text").upper(),
                help=f"{field.description}.  [{variables[name]}{default}]",
            )(command)
        return command

    return decorate


ALL_SETTINGS = tuple(Settings.model_fields)


@click.group(
    epilog=EXIT_CODES.format(failed="a check failed, or the status directory cannot be believed"),
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="jobcache", message="%(version)s")
def root() -> None:
    """Read a status directory, and keep a jobcache in Redis up to date.

    Every option can be given as a variable instead, named in brackets with its default.
    """


@root.command()
@setting_options(*ALL_SETTINGS)
def run(**flags: str | None) -> NoReturn:
    """Refresh until SIGTERM or Ctrl-C, or stand by while another refresher does.

    Needs a Redis URL; never starts a server by itself.
    """
    attendance = Attendance()
    settings = Settings.from_environment(flags)
    log_to_stderr(settings.log_level)
    raise_open_files_limit()
    collect_rarely()
    _refresh_until_stopped(settings, attendance)
    leave(Exit.OK)


@root.command()
@setting_options(*ALL_SETTINGS)
def once(**flags: str | None) -> int:
    """Scan everything once, and print how many jobs there are."""
    attendance = Attendance()
    settings = Settings.from_environment(flags)
    log_to_stderr(settings.log_level)
    collect_rarely()
    progress = ScanProgress("scan")
    refresher = Refresher.of(settings, progress=progress)
    try:
        with progress:
            jobs = attendance.perform(refresher.refresh_once)
    except StopRequested as stop:
        refresher.close()
        leave(128 + stop.number)
    log.info("scan: %d jobs in %.1f s", jobs, progress.seconds)
    emit(f"{jobs} jobs\n")
    return Exit.OK


@root.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@setting_options(*ALL_SETTINGS)
def check(as_json: bool, **flags: str | None) -> int:
    """Exit with 0 if the cache is fresh. For probes: ends within 5 seconds.

    It judges the namespace, not a process: a refresher that stands by passes as well.
    """
    settings = Settings.from_environment(flags)
    document: dict[str, Any] = {"ok": False, "namespace": settings.namespace}
    try:
        document |= _look(settings)
        _judge(document)
    except JobCacheError as error:
        if as_json:
            emit(dumps_for_web({**document, "error": str(error)}).decode() + "\n")
        raise
    document["ok"] = True
    if as_json:
        emit(dumps_for_web(document).decode() + "\n")
    else:
        emit(printable(_told(document)) + "\n")
    return Exit.OK


@root.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Serve on this port of 127.0.0.1 as well."
)
@setting_options(*(name for name in ALL_SETTINGS if name not in {"url", "password_file"}))
def up(port: int | None, **flags: str | None) -> NoReturn:
    """Start a Redis of its own and a refresher, for development.

    The first line on stdout is the Redis URL. Nothing is kept, and nothing is left running when this ends.
    """
    attendance = Attendance()
    if port is not None:
        _check_port(port)
    server = EmbeddedServer(port=port)
    try:
        settings = Settings.from_environment({**flags, "url": server.url})
        log_to_stderr(settings.log_level)
        settings.check_status_dir()
        server.start()
        emit(f"{server.url}\n")
        _hint(server.url, settings.namespace)
        _refresh_until_stopped(settings, attendance)
    finally:
        server.stop()
    leave(Exit.OK)


@root.command()
@setting_options("url", "password_file", "namespace")
def release(**flags: str | None) -> None:
    """Have the refresher apply deletions that it holds back, and take volumes as they are.

    It holds deletions when many jobs vanish at once, or a volume below the status directory does, since that may be a
    fault of the filesystem.
    """
    # The status directory is not looked at, but a setting that must be there.
    settings = Settings.from_environment({**flags, "status_dir": "-"})
    with _reader(settings) as cache:
        told = cache.meta()
    held = read_int(told.get(fields.HELD)) or 0
    volumes = {
        one.path: one.fault.reason
        for one in decode_volumes(told.get(fields.VOLUMES))
        if one.fault is not None and one.fault.is_releasable
    }
    if not held and not volumes:
        emit("no deletion is held\n")
        return
    server = Server(settings.endpoint())
    try:
        post_release(server, Keys(settings.namespace))
    except (RedisError, OSError) as error:
        raise CacheUnavailable(f"{server.shown}: {error}") from error
    finally:
        server.close()
    if held:
        emit(f"asked to apply {held} deletions that are held\n")
    for path, reason in volumes.items():
        emit(f"asked to take {shown(path)} as it is, though it {reason}\n")


def log_to_stderr(level: str) -> None:
    """Log to wherever stderr leads at the time, with timestamps."""
    handler = _StderrHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)-7s %(message)s", _TIME_FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


_TIME_FORMAT = "%Y-%m-%dT%H:%M:%S%z"


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return printable(super().formatMessage(record))


class _StderrHandler(logging.Handler):
    """Unlike logging's own, looks ``sys.stderr`` up every time: a progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except OSError:
            pass  # nobody reads any more


def _refresh_until_stopped(settings: Settings, attendance: Attendance) -> None:
    """Run a refresher until a signal comes, and stop it, as far as it can be stopped."""
    progress = ScanProgress("first scan")
    refresher = Refresher.of(settings, progress=progress)
    try:
        with progress:
            attendance.perform(refresher.open)
        if refresher.leads:
            log.info("first scan: %d jobs in %.1f s", refresher.jobs, progress.seconds)
        else:
            log.info("standing by: another refresher leads")
        attendance.wait()
    except StopRequested as stop:
        log.info("%s: stopping", stop)
    if refresher.close():
        log.info("stopped")
    else:
        log.warning("stopped in the middle of a scan that hangs")


def _look(settings: Settings) -> dict[str, Any]:
    """How fresh the namespace is, and the oldest that it may be."""
    with _reader(settings, deadline=CHECK_DEADLINE) as cache:
        fresh, meta = cache.freshness(), cache.meta()
    # The limit is that of the refresher that leads, unless the caller names a longer interval.
    limit = read_float(meta.get(fields.OVERDUE_AFTER))
    # Where an older refresher wrote none, the age alone counts; else whoever is just slow stays ready.
    is_slow = limit is not None and fresh.state is CacheState.READY
    patience = MISSED_SCANS * settings.poll_interval
    if limit is None:
        limit = patience + settings.lease_ttl
    elif "poll_interval" in settings.model_fields_set:
        limit = max(limit, patience)
    overdue = fresh.age is not None and fresh.age > limit and not is_slow
    return {**fresh.model_dump(mode="json"), "age_limit": limit, "overdue": overdue}


def _reader(settings: Settings, **options: Any) -> JobCache:
    """A client that does not wait until the cache is ready."""
    return JobCache(
        settings.url or None,
        namespace=settings.namespace,
        password_file=settings.password_file or None,
        ready_timeout=0,
        **options,
    )


def _judge(document: dict[str, Any]) -> None:
    if document["overdue"]:
        raise JobCacheError(f"{_told(document)}; the limit is {document['age_limit']:.0f} s")


def _told(document: dict[str, Any]) -> str:
    """State, age and reason; the reason tells the age if a scan is overdue."""
    scanned, reason = f"the last scan completed {document['age']:.0f} s ago", document["reason"]
    if not reason:
        return f"{document['state']}, {scanned}"
    if "the last scan completed" in reason:
        return f"{document['state']}, {reason}"
    return f"{document['state']}, {scanned} ({reason})"


def _check_port(port: int) -> None:
    try:
        with socket.create_server(("127.0.0.1", port)):
            pass
    except OSError as error:
        raise ConfigError(f"--port={port}: {error.strerror}") from None


def _hint(url: str, namespace: str) -> None:
    """What to do with the URL, for a person who reads."""
    chosen = "" if namespace == "default" else f" --namespace {namespace}"
    address = url.removeprefix("unix://")
    redis_cli = f"redis-cli -s {address}" if url != address else f"redis-cli -u {url}"
    sys.stderr.write(
        f"try:  jobcache --url {url}{chosen} ls\n"
        f"      {redis_cli} hgetall 'jobcache:{{{namespace}}}:meta'\n"
        "Ctrl-C ends both.\n"
    )
