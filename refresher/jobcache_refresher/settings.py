"""Settings of a refresher: each with its name, its default and what it means.

A setting ``poll_interval`` is the flag ``--poll-interval`` and the variable ``JOBCACHE_POLL_INTERVAL``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobcache.errors import ConfigError
from jobcache.models import JobStatus
from jobcache.schema.keys import DEFAULT_NAMESPACE, check_namespace, find_namespace
from jobcache.transport.credentials import PASSWORD_FILE_VARIABLE
from jobcache.transport.endpoint import URL_VARIABLES, Endpoint
from jobcache.transport.url import mask_password
from jobcache_refresher.status_words import STATUS_WORDS, read_status_words


class Settings(BaseModel):
    """Everything an operator can set. Times are seconds, sizes are bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    status_dir: str = Field(min_length=1, description="directory that the training jobs write to")
    url: str = Field(
        default="", repr=False, description="Redis URL; else JOBCACHE_REDIS_URL or REDIS_URL"
    )
    password_file: str = Field(
        default="",
        description="file with the Redis password, for a URL without one; read for each connection",
    )
    namespace: str = Field(
        default=DEFAULT_NAMESPACE, description="which of the caches in one Redis"
    )
    mode: Literal["polling", "watchdog", "auto"] = Field(
        default="polling",
        description="how changes are noticed; watchdog adds events on local disks, auto does so "
        "where inotify sees every write",
    )
    poll_interval: float = Field(
        default=10.0, gt=0, le=3600, description="seconds between two looks at what is active"
    )
    relist_interval: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="seconds within which a new run is found anywhere in the tree",
    )
    resync_interval: float = Field(
        default=900.0,
        gt=0,
        le=86400,
        description="seconds within which everything is looked at, whatever its times say",
    )
    audit_interval: float = Field(
        default=600.0,
        gt=0,
        le=86400,
        description="seconds within which all of Redis is compared with what was published",
    )
    settle: float = Field(
        default=2.0,
        ge=0,
        le=60,
        description="seconds for which the filesystem may show old attributes; a file that changed "
        "within that time before it was read is read again",
    )
    stale_after: float = Field(
        default=300.0, gt=0, description="seconds without a heartbeat that make a running job stale"
    )
    timezone: str = Field(
        default="", description="zone of the producer's naive timestamps; empty for this machine's"
    )
    status_words: str = Field(
        default="",
        description="further words that producers write for a status: `word=status,word=status`",
    )
    max_metadata_bytes: int = Field(
        default=4 << 20, gt=0, description="largest metadata.json that is read"
    )
    log_scan_bytes: int = Field(
        default=1 << 20, ge=0, description="bytes of a log searched for the W&B address"
    )
    scan_threads: int = Field(
        default=8,
        ge=1,
        le=64,
        description="filesystem operations under way at once, where they wait",
    )
    max_descriptors: int = Field(
        default=4096,
        ge=0,
        description="descriptors of running jobs that are held open, two a job, and at most half of what the system "
        "allows",
    )
    hang_timeout: float = Field(
        default=10.0,
        gt=0,
        description="seconds without an answer from the filesystem after which it counts as hung",
    )
    marker: str = Field(
        default="",
        description="file that must lie in the status directory for it to be believed; empty for none",
    )
    ignore: str = Field(
        default="",
        pattern="^[^/]*$",
        description="names of directories that are passed over, beside those that systems make: shell patterns, "
        "separated by commas",
    )
    hold_fraction: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="share of all jobs that may vanish within an hour before deletions wait for a release",
    )
    hold_minimum: int = Field(
        default=50, ge=0, description="number of jobs that may vanish within an hour in any case"
    )
    lease_ttl: float = Field(
        default=15.0,
        ge=1,
        le=3600,
        description="seconds after which a dead refresher's lease ends",
    )
    metrics_port: int = Field(
        default=0, ge=0, le=65535, description="port of the Prometheus metrics; 0 for none"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe messages that are logged"
    )

    @classmethod
    def create(cls, **values: Any) -> Self:
        """The settings, checked.

        Raises:
            ConfigError: a value cannot be used; the message names the setting and the value.
        """
        if values.get("namespace") is None:
            values["namespace"] = find_namespace(None)
        return cls._checked(values, {name: name for name in cls.model_fields})

    @classmethod
    def from_environment(
        cls, flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ
    ) -> Self:
        """The settings from flags that were given (not None), else from ``JOBCACHE_*`` variables.

        Raises:
            ConfigError: a value cannot be used; the message names the flag or variable and the value.
        """
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for name, variable in cls.environment_names().items():
            sources[name] = f"--{name.replace('_', '-')} or {variable}"
            if flags.get(name) is not None:
                values[name], sources[name] = flags[name], f"--{name.replace('_', '-')}"
            elif environ.get(variable):
                values[name], sources[name] = environ[variable], variable
        values["namespace"] = find_namespace(flags.get("namespace"), "--namespace", environ)
        return cls._checked(values, sources)

    @classmethod
    def environment_names(cls) -> dict[str, str]:
        """The variable of each setting."""
        names = {name: f"JOBCACHE_{name.upper()}" for name in cls.model_fields}
        return {**names, "url": URL_VARIABLES[0], "password_file": PASSWORD_FILE_VARIABLE}

    @classmethod
    def _checked(cls, values: dict[str, Any], sources: Mapping[str, str]) -> Self:
        try:
            settings = cls(**values)
        except ValidationError as invalid:
            first = invalid.errors()[0]
            name = str(first["loc"][0])
            if first["type"] == "missing":
                raise ConfigError(
                    f"{sources.get(name, name)} is not set: it must name the {_what(cls, name)}"
                ) from None
            shown = mask_password(str(values[name])) if name == "url" else repr(values[name])
            raise ConfigError(f"{sources.get(name, name)}={shown}: {first['msg']}") from None
        cls._check_as(sources, lambda: check_namespace(settings.namespace))
        if settings.url:
            cls._check_as(sources, settings.endpoint)
        for name, check in (("timezone", settings.zone), ("status_words", settings.words)):
            try:
                check()
            except ConfigError as refused:
                raise ConfigError(f"{sources[name]}={refused}") from None
        return settings

    @staticmethod
    def _check_as(sources: Mapping[str, str], check: Callable[[], object]) -> None:
        """Have what the check says begin with where the value came from."""
        try:
            check()
        except ConfigError as error:
            name, separator, rest = str(error).partition("=")
            raise ConfigError(f"{sources.get(name, name)}{separator}{rest}") from None

    def endpoint(self) -> Endpoint:
        """The Redis that the settings or the environment name.

        Raises:
            ConfigError: none is named, or the URL cannot be used.
        """
        return Endpoint.find(
            self.url or None,
            namespace=self.namespace,
            password_file=self.password_file or None,
        )

    def zone(self) -> tzinfo | None:
        """The zone of naive timestamps; None for this machine's."""
        if not self.timezone:
            return None
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigError(f"{self.timezone!r}: use a name like Europe/Berlin or UTC") from None

    def words(self) -> Mapping[str, JobStatus]:
        """The status of each word that producers may write, as ``status_words.plain`` makes it."""
        return {**STATUS_WORDS, **read_status_words(self.status_words)}

    def check_status_dir(self, may_come_later: bool = False) -> None:
        """Say so if the status directory cannot be read now.

        Raises:
            ConfigError: it does not exist (unless it may come later), is no directory, or cannot be listed.
        """
        try:
            with os.scandir(self.status_dir):
                pass
        except OSError as error:
            if may_come_later and isinstance(error, FileNotFoundError):
                return
            raise ConfigError(f"status_dir={self.status_dir!r}: {error.strerror}") from None


def _what(settings: type[BaseModel], name: str) -> str:
    return settings.model_fields[name].description or name
