"""The W&B address in a log: searched from the head, incrementally, capped, and never again once found."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_LINE = 4096
"""A line's bytes beyond this are skipped; the line that is looked for is far shorter."""

_ANSI = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
_MARK = b"WANDB"
_ADDRESS = re.compile(rb"\burl= ?(https?://[!-~]{1,2000})")


@dataclass(slots=True)
class LogSearch:
    """How far the search in one log has come."""

    scanned: int | None = None
    """Bytes searched from the head; None while there is no log."""
    url: str | None = None

    def wants(self, cap: int) -> int:
        """How many more bytes may be searched."""
        return 0 if self.url is not None else max(0, cap - (self.scanned or 0))

    def feed(self, size: int, data: bytes, *, ended: bool) -> None:
        """Go on with the bytes that follow those already searched.

        Args:
            size: the log's size; smaller than what was searched if it was cut or replaced, which starts over.
            data: what follows the first ``scanned`` bytes, as far as it was read.
            ended: whether the run has ended, so that a last line without its newline is whole.
        """
        if size < (self.scanned or 0):
            self.scanned = 0
            return
        whole = data.rfind(b"\n") + 1
        at_end = (self.scanned or 0) + len(data) >= size
        if (ended and at_end) or (whole == 0 and len(data) > LONGEST_LINE):
            whole = len(data)
        self.url = self.url or find_address(data[:whole])
        self.scanned = (self.scanned or 0) + whole


def find_address(text: bytes) -> str | None:
    """The address in the first line that names one; linear in the text's length."""
    position = text.find(_MARK)
    while position >= 0:
        start = text.rfind(b"\n", 0, position) + 1
        end = text.find(b"\n", position)
        line = text[start : min(end if end >= 0 else len(text), start + LONGEST_LINE)]
        found = _ADDRESS.search(_ANSI.sub(b" ", line))
        if found:
            return found[1].decode("ascii")
        if end < 0:
            return None
        position = text.find(_MARK, end)
    return None
