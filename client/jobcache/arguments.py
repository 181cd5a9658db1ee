"""Types of what callers pass: a wrong one is a ``TypeError`` that names the argument."""

from __future__ import annotations

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


_NAMES = {str: "text", int: "a number", float: "a number"}
