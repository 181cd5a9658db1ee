"""Everything that the server holds of the namespace, taken in one step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from jobcache.schema.keys import Keys

_DUMP = """
local kinds = {hash = {'HGETALL'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}, string = {'GET'}}
local all = {}
for i, key in ipairs(redis.call('KEYS', ARGV[1])) do
    local kind = redis.call('TYPE', key)['ok']
    local how = kinds[kind]
    all[i] = {key, kind, how and redis.call(how[1], key, unpack(how, 2)) or ''}
end
return all
"""


@dataclass(slots=True)
class Held:
    """Keys without their prefix."""

    hashes: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)
    zsets: dict[bytes, dict[bytes, float]] = field(default_factory=dict)
    kinds: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def meta(self) -> dict[bytes, bytes]:
        return self.hashes.get(b"meta", {})

    @property
    def jobs(self) -> dict[bytes, dict[bytes, bytes]]:
        """The hashes of jobs by id."""
        return {
            key.removeprefix(b"job:"): fields
            for key, fields in self.hashes.items()
            if key.startswith(b"job:")
        }


def take_snapshot(redis: Redis, keys: Keys) -> Held:
    """What is there now. (No name holds a bracket, a star or a question mark but for those of jobs.)"""
    held = Held()
    found: Any = redis.execute_command(b"EVAL", _DUMP, 0, keys.prefix + b"*")
    for full, kind, value in found:
        key = full.removeprefix(keys.prefix)
        held.kinds[key] = kind
        if kind == b"hash":
            held.hashes[key] = dict(zip(value[::2], value[1::2], strict=True))
        elif kind == b"zset":
            held.zsets[key] = {
                member: float(score) for member, score in zip(value[::2], value[1::2], strict=True)
            }
    return held
