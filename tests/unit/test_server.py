"""What an error that a script raised means to a refresher."""

from __future__ import annotations

import pytest
from redis.exceptions import BusyLoadingError, ResponseError

from jobcache.schema.scripts import Script
from jobcache_refresher.publish.server import EpochError, FencedError, meaning_of

SCRIPT = Script("apply", "", "", read_only=False)


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        ("FENCED the lease is another's", FencedError, "the lease is another's"),
        ("FLUSHED the lease is gone", FencedError, "the lease is gone"),
        ("EPOCH the cache is another", EpochError, "the cache is another"),
        ("WRONGTYPE Operation against a key", EpochError, "apply: a key is of a wrong type"),
        ("ERR user_script:1: WRONGTYPE Operation", EpochError, "apply: a key is of a wrong type"),
        ("OOM command not allowed", ResponseError, "OOM command not allowed"),
        ("ERR FENCED is not how it begins", ResponseError, "ERR FENCED is not how it begins"),
    ],
)
def test_meaning_of_error_goes_by_its_code(message: str, kind: type[Exception], words: str) -> None:
    error = meaning_of(ResponseError(message), SCRIPT)
    assert type(error) is kind
    assert str(error) == words
    if isinstance(error, FencedError):
        assert error.with_the_cache is message.startswith("FLUSHED")


def test_meaning_of_another_error_is_the_error_itself() -> None:
    loading = BusyLoadingError("LOADING")
    assert meaning_of(loading, SCRIPT) is loading  # type: ignore[arg-type]
