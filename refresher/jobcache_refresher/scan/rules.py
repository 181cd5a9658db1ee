"""How files are read: whatever makes the same bytes a different job. Its tag is published with each job."""

from __future__ import annotations

import hashlib
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo

from jobcache.models import JobStatus
from jobcache_refresher.scan.parse import PARSER_VERSION
from jobcache_refresher.settings import Settings

TAG_BYTES = 3
"""Of a digest; four characters as text. Two ways of reading have the same tag once in 16 million."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How files are read."""

    zone: tzinfo | None
    """Of naive timestamps; None for this machine's."""
    words: Mapping[str, JobStatus]
    """The status of each word that producers may write."""
    tag: bytes
    """Names all of this, and the version of the parser. Equal tags read equal bytes as equal jobs."""

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """The rules that settings make."""
        words = settings.words()
        meant = sorted((word, status.value) for word, status in words.items())
        return cls(settings.zone(), words, _tag(PARSER_VERSION, _zone_name(settings), meant))


def _zone_name(settings: Settings) -> str:
    """The zone's name; of this machine's, which may have another name elsewhere, what is known of it."""
    return settings.timezone or repr((time.tzname, time.timezone, time.altzone))


def _tag(*parts: object) -> bytes:
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return urlsafe_b64encode(digest[:TAG_BYTES])
