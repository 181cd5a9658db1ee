"""The W&B address in a log: searched from the head, incrementally, capped, and never again once found."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_LINE = 4096
"""Bytes of a line after the mark that are searched; the line that is looked for is far shorter."""

_ANSI = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
_MARK = b"WANDB"
_ADDRESS = re.compile(rb"\burl= ?(https?://[!-~]{1,2000})")


@dataclass(slots=True)
class LogSearch:
    """How far the search in one log has come."""

    scanned: int | None = None
    """Bytes searched from the head; None while there is no log."""
    url: str | None = None
    size: int | None = None
    """The log's size when it was last searched; None if it never was."""

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
        self.size = size
        if size < (self.scanned or 0):
            self.scanned = 0
            return
        whole = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        at_end = (self.scanned or 0) + len(data) >= size
        if ended and at_end:
            whole = len(data)
        elif whole == 0 and len(data) > LONGEST_LINE:
            # A line without an end so far. Of a mark near the end of it, the rest is still to come.
            mark = data.rfind(_MARK, len(data) - LONGEST_LINE)
            if mark < 0:
                mark = data.rfind(_MARK[:1], len(data) - len(_MARK) + 1)
            whole = mark if mark > 0 else len(data)
        self.url = self.url or find_address(data[:whole])
        self.scanned = (self.scanned or 0) + whole


def find_address(text: bytes) -> str | None:
    """The address in the first line that names one after its mark; linear in the text's length.

    A carriage return ends a line as well: a progress bar rewrites its line with them.
    """
    text = text.replace(b"\r", b"\n")
    position = text.find(_MARK)
    while position >= 0:
        cut = position + LONGEST_LINE
        end = text.find(b"\n", position, cut)
        end = min(len(text), cut) if end < 0 else end
        line = _ANSI.sub(b" ", text[position:end])
        found = _ADDRESS.search(line)
        # At the cut, only a part of the address may be left.
        if found and (end < cut or found.end() < len(line)):
            return found[1].decode("ascii")
        # In a line that was cut, the last mark before the cut may be the one.
        last = text.rfind(_MARK, position + 1, end)
        position = last if last >= 0 else text.find(_MARK, end)
    return None
