"""The oldest release of everything that a user's install brings, as requirements: ``make oldest`` tests with them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def oldest_releases() -> list[str]:
    """What ``pyproject.toml`` asks for at least, without what only developers need."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(one for name in extras if name != "dev" for one in extras[name]),
    ]
    found = (re.match(r"([\w\[\]-]+)>=([\w.]+)", requirement) for requirement in wanted)
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    print(*oldest_releases())
