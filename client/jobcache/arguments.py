"""Types of what callers pass: a wrong one is a ``TypeError`` that names the argument."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

NUMBER = (int, float)


def require_type(name: str, value: Any, *kinds: type, optional: bool = False) -> None:
    """See that an argument is of one of some types; a bool is no number.

    Raises:
        TypeError: it is of none of them.
    """
    if value is None and optional:
        return
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(dict.fromkeys(_NAMES.get(kind, kind.__name__) for kind in kinds))
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def read_texts(name: str, value: Any) -> tuple[str, ...] | None:
    """The texts of an argument that is one text or several; None if it is not given.

    Raises:
        TypeError: it is something else, or one of several is no text.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Sequence | Set) or isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{name} must be text or a sequence of text, not {type(value).__name__}")
    for one in value:
        require_type(f"each of {name}", one, str)
    return tuple(value)


_NAMES = {str: "text", int: "a number", float: "a number"}
