"""Names of the tree in messages for people."""

from __future__ import annotations


def shown(path: bytes) -> str:
    """A path as a log may hold it, whatever bytes it is made of."""
    return ascii(path.decode("utf-8", "backslashreplace"))


def shown_text(text: str, longest: int) -> str:
    """Text of others in one line of printable characters, cut to so many."""
    text = text[: longest + 1]  # most of it may be of no use
    if not text.isprintable():
        text = "".join(
            one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
        )
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
