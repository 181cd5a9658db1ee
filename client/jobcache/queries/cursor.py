"""Where a page ended."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from jobcache.ids import LONGEST_NAME

_SCORE = re.compile(rb"-?(inf|\d+(\.\d+)?(e[-+]?\d+)?)")


_LONGEST_MEMBER = 4 * LONGEST_NAME + 3


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: the next one begins right behind it, whatever was added or removed since."""

    score: bytes
    member: bytes

    def show(self, digest: str) -> str:
        """The cursor as a caller gets it, with what names the filters and the order of the page."""
        return base64.urlsafe_b64encode(
            b"%b %b %b" % (digest.encode(), self.score, self.member)
        ).decode()

    @classmethod
    def read(cls, text: str, digest: str) -> Cursor:
        """The cursor that ``show`` gave.

        Raises:
            ValueError: it was not made by a page, or by one with other filters or another order.
        """
        try:
            parts = base64.b64decode(text.encode(), altchars=b"-_", validate=True).split(b" ", 2)
            made_with, score, member = parts
        except (ValueError, binascii.Error):
            made_with, score, member = b"", b"", b""
        if not _SCORE.fullmatch(score) or len(member) > _LONGEST_MEMBER:
            raise ValueError(f"cursor={text!r}: pass what a page gave, unchanged")
        if made_with != digest.encode():
            raise ValueError(f"cursor={text!r}: it was made by a page with other filters")
        return cls(score, member)
