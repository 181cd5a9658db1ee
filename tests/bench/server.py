"""What the server says of itself: memory, traffic, slow commands. A server may refuse any of it; then there is None."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from statistics import fmean
from typing import Any, NamedTuple

from redis import Redis
from redis.exceptions import ResponseError

from jobcache.schema.scripts import listing_script, read_jobs_script, read_script
from jobcache_refresher.publish.scripts import fenced_script, lease_script

SLOW_FROM = 500
"""Microseconds from which a command is logged as slow during a measurement."""
SLOW_KEPT = 100_000
BLOCK = 10_000
"""Microseconds for which no command may keep the server."""
STEP = 1_000
"""Keys that one step looks at."""
SAMPLED_HASHES = 50
"""One in so many hashes of jobs is weighed."""
SAMPLED_MEMBERS = 100
SAMPLED_NAMES = 200

_PARTS = re.compile(rb"/(group|status):")


class Traffic(NamedTuple):
    """What was done since the server started, that of the question itself included."""

    commands: int
    """Those that scripts called included."""
    bytes_out: int


class Encoded(NamedTuple):
    """Keys of one kind that share an encoding."""

    encoding: str
    keys: int
    members: int
    """In all of them, where they are sorted sets; else 0."""


class ScriptTime(NamedTuple):
    """What scripts took since the server started."""

    calls: int
    seconds: float


class SlowCommand(NamedTuple):
    """A command, or the whole of a script, and the seconds that it kept the server."""

    seconds: float
    command: str
    blocks: int
    """How many commands kept the server longer than `BLOCK`."""


class ServerView:
    """A connection of its own to the server under test.

    Raises:
        redis.RedisError: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, protocol=2)
        self._redis.ping()

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def version(self) -> str:
        """Name and version, as far as the server tells."""
        info = self._info("server")
        if info is None:
            return "unknown"
        name = str(info.get("server_name", "redis"))
        return f"{name} {info.get(f'{name}_version', info.get('redis_version', '?'))}"

    @contextlib.contextmanager
    def going_first(self) -> Iterator[bool]:
        """Run the server before all else on this machine meanwhile, where that may be done; gives whether it is.

        Else a command seems to take as long as others are busy.
        """
        process = (self._info("server") or {}).get("process_id")
        try:
            os.sched_setscheduler(int(process or -1), os.SCHED_RR, os.sched_param(1))
        except (AttributeError, OSError):
            yield False
            return
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(int(process or -1), os.SCHED_OTHER, os.sched_param(0))

    def used_memory(self) -> int | None:
        """Bytes that the server has allocated."""
        info = self._info("memory")
        return None if info is None else int(info["used_memory"])

    def traffic(self) -> Traffic | None:
        """What the server has done so far."""
        commands, stats = self._info("commandstats"), self._info("stats")
        if commands is None or stats is None:
            return None
        own = ("cmdstat_info", "cmdstat_client", "cmdstat_hello")
        calls = sum(count["calls"] for name, count in commands.items() if not name.startswith(own))
        return Traffic(calls, int(stats["total_net_output_bytes"]))

    def drop(self, prefix: bytes) -> None:
        """Remove every key that begins so."""
        for keys in self._keys(prefix):
            self._redis.unlink(*keys)

    def weigh(self, prefix: bytes) -> dict[str, float] | None:
        """Bytes of the keys that begin so, by their kind. Of the hashes of jobs, a sample is weighed."""
        sizes: dict[str, list[int]] = {}
        found: Counter[str] = Counter()
        try:
            for keys in self._keys(prefix):
                pipeline = self._redis.pipeline(transaction=False)
                kinds = []
                for key in keys:
                    kind = kind_of(key.removeprefix(prefix))
                    found[kind] += 1
                    if kind != "job" or found[kind] % SAMPLED_HASHES == 1:
                        # The fields of a hash differ widely, members of an index do not.
                        pipeline.memory_usage(key, samples=0 if kind == "job" else SAMPLED_MEMBERS)
                        kinds.append(kind)
                for kind, size in zip(kinds, pipeline.execute(), strict=True):
                    sizes.setdefault(kind, []).append(size or 0)
        except ResponseError:
            return None
        return {kind: fmean(some) * found[kind] for kind, some in sizes.items()}

    def script_time(self) -> ScriptTime | None:
        """What scripts took so far."""
        commands = self._info("commandstats")
        if commands is None:
            return None
        scripts = [
            count
            for name, count in commands.items()
            if name.startswith(("cmdstat_eval", "cmdstat_fcall"))
        ]
        calls, taken = (sum(count[field] for count in scripts) for field in ("calls", "usec"))
        return ScriptTime(calls, taken / 1e6)

    def encodings(self, prefix: bytes) -> dict[str, list[Encoded]] | None:
        """How the keys that begin so are encoded, by their kind."""
        keys_in: Counter[tuple[str, str]] = Counter()
        members_in: Counter[tuple[str, str]] = Counter()
        try:
            for keys in self._keys(prefix):
                pipeline = self._redis.pipeline(transaction=False)
                for key in keys:
                    pipeline.object("ENCODING", key)
                    pipeline.type(key)
                replies = pipeline.execute()
                sizes = self._redis.pipeline(transaction=False)
                found = []
                for key, encoding, kind in zip(keys, replies[::2], replies[1::2], strict=True):
                    place = kind_of(key.removeprefix(prefix)), (encoding or b"?").decode()
                    keys_in[place] += 1
                    if kind == b"zset":
                        sizes.zcard(key)
                        found.append(place)
                for place, size in zip(found, sizes.execute(), strict=True):
                    members_in[place] += size
        except ResponseError:
            return None
        kinds: dict[str, list[Encoded]] = {}
        for (kind, encoding), count in sorted(keys_in.items()):
            members = members_in[kind, encoding]
            kinds.setdefault(kind, []).append(Encoded(encoding, count, members))
        return kinds

    def key_name_bytes(self, prefix: bytes, kind: str) -> float | None:
        """Bytes that the name of a key of some kind takes, as the server allocates it, on average over a sample."""
        names = []
        for keys in self._keys(prefix):
            names += [key for key in keys if kind_of(key.removeprefix(prefix)) == kind]
            if len(names) >= STEP:
                break
        probe, shortest = b"\x00", b"\x00"
        try:
            sizes = [self._weight_of_string(probe + name[1:]) for name in names[:SAMPLED_NAMES]]
            return fmean(sizes) - self._weight_of_string(shortest) if sizes else None
        except ResponseError:
            return None

    def _weight_of_string(self, key: bytes) -> int:
        self._redis.set(key, 1)
        size: int = self._redis.memory_usage(key) or 0
        self._redis.delete(key)
        return size

    @contextlib.contextmanager
    def slow_log(self) -> Iterator[None]:
        """Log from `SLOW_FROM` on meanwhile; from what the server is set to, if it may not be set."""
        names = ("slowlog-log-slower-than", "slowlog-max-len")
        before: dict[str, Any] = {}
        try:
            before = {name: value for name, value in self._redis.config_get(*names).items() if name}
            self._redis.config_set(names[0], SLOW_FROM, names[1], SLOW_KEPT)
        except ResponseError:
            before = {}
        with contextlib.suppress(ResponseError):
            self._redis.slowlog_reset()
        try:
            yield
        finally:
            for name, value in before.items():
                self._redis.config_set(name, value)

    def slowest(self, *, scans: bool = False) -> SlowCommand | None:
        """The longest command since the slow log was opened; None if there was none, or the server does not say.

        With `scans`, a SCAN counts as well: nobody else sent one, such as `drop` and `weigh`.
        """
        try:
            entries = self._redis.slowlog_get(SLOW_KEPT)
        except ResponseError:
            return None
        ours = [
            entry
            for entry in entries
            if not _is_own(entry["command"]) or (scans and entry["command"].startswith(b"SCAN"))
        ]
        if not ours:
            return None
        worst = max(ours, key=lambda entry: int(entry["duration"]))
        blocks = sum(int(entry["duration"]) > BLOCK for entry in ours)
        return SlowCommand(worst["duration"] / 1e6, _shown(worst["command"]), blocks)

    def _info(self, section: str) -> dict[str, Any] | None:
        try:
            info: dict[str, Any] = self._redis.info(section)
        except ResponseError:
            return None
        return info

    def _keys(self, prefix: bytes) -> Iterator[list[bytes]]:
        pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", prefix) + b"*"
        cursor: int | None = None
        while cursor != 0:
            cursor, found = self._redis.scan(cursor or 0, match=pattern, count=STEP)
            if found:
                yield [key for key in found if isinstance(key, bytes)]


def kind_of(name: bytes) -> str:
    """The kind of key that a name without prefix is of, such as `project/group/status`."""
    first, _, rest = name.partition(b":")
    parts = [first, *(_PARTS.findall(b"/" + rest) if first in {b"project", b"group"} else ())]
    return b"/".join(parts).decode()


def _is_own(command: bytes) -> bool:
    return command.startswith((b"SCAN", b"MEMORY", b"CONFIG", b"SLOWLOG", b"INFO"))


def _shown(command: bytes) -> str:
    words = command.split(b" ", 2)
    if words[0].startswith(b"EVALSHA") and len(words) > 1:
        return script_names().get(words[1].decode(), "a script")
    if words[0].startswith(b"EVAL"):
        return "a script, sent whole the first time"
    return words[0].decode("ascii", "replace")


def script_names() -> dict[str, str]:
    """The project's scripts by the digest that names them on the server."""
    names: dict[str, str] = {}
    for package, loaders in (
        ("jobcache.schema", (read_script, read_jobs_script, listing_script)),
        ("jobcache_refresher", (fenced_script, lease_script)),
    ):
        for file in files(package).joinpath("lua").iterdir():
            name = file.name.removesuffix(".lua")
            names.update((load(name).sha, file.name) for load in loaders)
    return names
