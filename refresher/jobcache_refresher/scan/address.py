"""The address of a W&B run in the text of a log. Pure, and linear in the text's length.

Two forms of a line name one:

* The producer's own: ``WANDB | ... url=ADDRESS``.
* What W&B prints: ``wandb: View run NAME at: ADDRESS`` or ``wandb: Run page: ADDRESS``. Only an address with ``/runs/``
  in it counts there; the pages of projects and sweeps are no run.

The first line of either form wins. A carriage return ends a line as well, since a progress bar rewrites its line with
them. Colours and other terminal codes do not count. An address is kept if it is ``http`` or ``https`` with a host, has
at most ``LONGEST_ADDRESS`` bytes and no control characters; quotes, and the punctuation behind it, are not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST_LINE = 4096
"""Bytes of a line that are searched at once. An address up to half as many bytes behind its mark is found; the lines
that are looked for are far shorter."""
LONGEST_ADDRESS = 2000
"""Bytes of the longest address that is kept."""

_MARK = b"wandb"
"""What a line must hold before its address, in any case."""

_STYLE = re.compile(rb"\x1b\[[0-9;:]*m|\x1b[ -/][0-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
"""Codes that may stand within a word: colours, character sets, links."""
_CONTROL = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
"""Codes that move the cursor or erase; they stand between words."""

# What ends an address: blanks, controls, bytes that are no UTF-8, and characters that no URI may hold.
_END = r"\s\x00-\x20\x7f-\x9f\ud800-\udfff\"'<>\\^`{|}"
_ADDRESS = rf"(?i:https?)://[\w\[][^{_END}]*"
_OWN_FORM = re.compile(rf"\burl= ?[\"'(<\[{{]?({_ADDRESS})")
_WANDB_PREFIX = re.compile(r"wandb\s*:")
_WANDB_PHRASE = re.compile(r"View run\b|Run page\b")
_RUN_ADDRESS = re.compile(_ADDRESS)
_NEXT_FIELD = re.compile(r"[,;]\w+=")
_BRACKETS = {")": "(", "]": "["}


def find_address(text: bytes) -> str | None:
    """The first address in whole lines of a log."""
    return next(find_addresses(text), None)


def find_addresses(text: bytes) -> Iterator[str]:
    """Every address in whole lines of a log, in order; one in a line without an end may come twice."""
    text = text.replace(b"\r", b"\n")
    lowered = text.lower()
    position = lowered.find(_MARK)
    while position >= 0:
        cut = position + LONGEST_LINE
        end = text.find(b"\n", position, cut)
        end = min(len(text), cut) if end < 0 else end
        address = _address_in(text[position:end], is_cut=end == cut)
        if address is not None:
            yield address
        # Of a mark in the second half of what was cut, the address may lie beyond.
        position = lowered.find(_MARK, end - LONGEST_LINE // 2 if end == cut else end)


def count_searchable(data: bytes) -> int:
    """How many bytes from the start of ``data`` can be searched while more may follow: whole lines.

    A line may have no end for long. Of one with a mark near the end of ``data``, the rest is still to come. The first
    mark there is the one, since an address may hold another.
    """
    whole = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if whole > 0 or len(data) <= LONGEST_LINE:
        return whole
    ending = data[-LONGEST_LINE:].lower()
    mark = ending.find(_MARK)
    if mark < 0:
        mark = ending.rfind(_MARK[:1], len(ending) - len(_MARK) + 1)
    begins = len(data) - len(ending) + mark
    return begins if mark >= 0 and begins > 0 else len(data)


def _address_in(raw: bytes, *, is_cut: bool) -> str | None:
    """The address in a line, or in the part of it that begins at a mark."""
    if b"://" not in raw:
        return None
    line = _CONTROL.sub(b" ", _STYLE.sub(b"", raw)).decode("utf-8", "surrogateescape")
    # At the cut, only a part of the address may be left.
    complete = len(line) - 1 if is_cut else len(line)
    own = line.find("WANDB")
    if own >= 0 and (found := _OWN_FORM.search(line, own)) and found.end() <= complete:
        return _kept(found[1])
    prefix = _WANDB_PREFIX.search(line)
    phrase = _WANDB_PHRASE.search(line, prefix.end()) if prefix else None
    if phrase is None:
        return None
    # A run may be named like an address. The line ends with the run's own.
    addresses = [
        found[0]
        for found in _RUN_ADDRESS.finditer(line, phrase.end())
        if "/runs/" in found[0] and found.end() <= complete
    ]
    return _kept(addresses[-1]) if addresses else None


def _kept(address: str) -> str | None:
    """An address without what stands behind it; None if it cannot be kept."""
    if field := _NEXT_FIELD.search(address):
        address = address[: field.start()]
    while address[-1] in ".,;:!?*" or _is_unpaired(address):
        address = address[:-1]
    if not address.isprintable() or len(address.encode()) > LONGEST_ADDRESS:
        return None
    return address


def _is_unpaired(address: str) -> bool:
    """Whether it ends with a bracket that it does not open."""
    opening = _BRACKETS.get(address[-1])
    return opening is not None and address.count(address[-1]) > address.count(opening)
