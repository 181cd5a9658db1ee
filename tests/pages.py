"""The pages of the documentation, taken apart: their blocks of code, tables, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    language: str
    code: str


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @cached_property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _FENCE.sub("", self.text)

    @cached_property
    def blocks(self) -> list[Block]:
        return [
            Block(language, re.sub(rf"^{indent}", "", code, flags=re.MULTILINE))
            for indent, language, code in _FENCE.findall(self.text)
        ]

    def code(self, language: str) -> list[str]:
        """The blocks in one language."""
        return [block.code for block in self.blocks if block.language == language]

    @cached_property
    def spans(self) -> list[str]:
        """Code within the text."""
        return re.findall(r"`([^`\n]+)`", self.prose)

    @cached_property
    def headings(self) -> list[str]:
        return [title for _, title in _HEADING.findall(self.prose)]

    @cached_property
    def anchors(self) -> set[str]:
        """The names under which GitHub shows the headings."""
        return {anchor(title) for title in self.headings}

    @cached_property
    def links(self) -> list[str]:
        """The targets of links and pictures."""
        return _LINK.findall(re.sub(r"`[^`\n]*`", "", self.prose))

    def section(self, heading: str) -> str:
        """What stands below a heading, up to the next one of the same or a higher level."""
        found = re.search(rf"^(#+) {re.escape(heading)}$", self.text, re.MULTILINE)
        assert found is not None, f"{self.name} has no heading {heading!r}"
        rest = self.text[found.end() :]
        end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest

    def tables(self, heading: str) -> list[list[list[str]]]:
        """The tables below a heading: their rows without the head."""
        found: list[list[list[str]]] = []
        before = ""
        for line in self.section(heading).splitlines():
            if line.startswith("|"):
                if not before.startswith("|"):
                    found.append([])
                found[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
            before = line
        return [rows[2:] for rows in found]

    def table(self, heading: str) -> list[list[str]]:
        """The first of them."""
        return self.tables(heading)[0]


def anchor(title: str) -> str:
    """The name of a heading in a link, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


README = Page(ROOT / "README.md")
DOCS = {path.name: Page(path) for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES = [
    README,
    Page(ROOT / "CONTRIBUTING.md"),
    Page(ROOT / "deploy" / "README.md"),
    *DOCS.values(),
]
