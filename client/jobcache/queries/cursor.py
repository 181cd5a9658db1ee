"""Where a page ended."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

_SCORE = re.compile(rb"-?(inf|\d+(\.\d+)?(e[-+]?\d+)?)")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: the next one begins right behind it, whatever was added or removed since."""

    score: bytes
    member: bytes

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(self.score + b" " + self.member).decode()

    @classmethod
    def read(cls, text: str) -> Cursor:
        """The cursor that ``str`` gave.

        Raises:
            ValueError: it was not made by a page.
        """
        try:
            score, member = base64.b64decode(text.encode(), altchars=b"-_", validate=True).split(
                b" ", 1
            )
        except (ValueError, binascii.Error):
            score, member = b"", b""
        if not _SCORE.fullmatch(score):
            raise ValueError(f"cursor={text!r}: pass what a page gave, unchanged")
        return cls(score, member)
