"""The documentation as its tests read it: pages with their headings, links and blocks of code.

A comment right above a block says what the reader is not told and a test has to know:

- ``<!-- needs: cluster -->``: what the block's commands need that no test here has.
- ``<!-- expect: strategy=... model=... -->``: what this program reads of the block's manifest.
- ``<!-- exit: 1 -->``: how the block's last command ends, where that is not 0.

A block with a title (``yaml title="server.yaml"``) is a file that later commands of the page use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FILES = sorted(
    [
        ROOT / "README.md",
        ROOT / "ARCHITECTURE.md",
        ROOT / "CHANGELOG.md",
        *DOCS.rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    ]
)
MARKS = frozenset({"needs", "expect", "exit"})
_MARK = re.compile(r"<!-- (?P<name>[a-z]+): (?P<value>.*?) -->")
_TITLE = re.compile(r'title="(?P<title>[^"]+)"')
_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of code; ``line`` is where it begins in the page."""

    page: Path
    line: int
    language: str
    text: str
    title: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def documents(self) -> list[dict[str, Any]]:
        """The documents of a block of YAML."""
        return list(yaml.safe_load_all(self.text))


@dataclass(frozen=True)
class Page:
    """One page, taken apart."""

    path: Path
    anchors: Sequence[str]
    links: Sequence[str]
    blocks: Sequence[Block]

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


def read(path: Path) -> Page:
    """Take a page apart."""
    tokens = _PARSER.parse(path.read_text("utf-8"))
    return Page(path, _anchors(tokens), list(_links(tokens)), list(_blocks(path, tokens)))


def _anchors(tokens: Sequence[Token]) -> list[str]:
    """Return where links into the page may lead, as GitHub names headings."""
    found: list[str] = []
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            said = "".join(part.content for part in token.children or ())
            slug = re.sub(r"[^\w\- ]", "", said.lower()).replace(" ", "-")
            again = sum(1 for name in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", name))
            found.append(f"{slug}-{again}" if again else slug)
    return found


def _links(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        for part in token.children or ():
            target = part.attrGet("href") or part.attrGet("src")
            if target:
                yield str(target)


def _blocks(path: Path, tokens: Sequence[Token]) -> Iterator[Block]:
    marks: dict[str, str] = {}
    for token in tokens:
        if token.type == "html_block":
            marks |= {mark["name"]: mark["value"] for mark in _MARK.finditer(token.content)}
        elif token.type in {"fence", "code_block"}:
            language, _, rest = token.info.partition(" ")
            titled = _TITLE.search(rest)
            yield Block(
                page=path,
                line=(token.map or [0])[0] + 1,
                language=language if token.type == "fence" else "indented",
                text=token.content,
                title=titled["title"] if titled else "",
                marks={name: marks[name] for name in MARKS & marks.keys()},
            )
            marks = {}
        elif not token.type.endswith("_close"):
            marks = {}


PAGES = [read(path) for path in FILES]
BLOCKS = [block for page in PAGES for block in page.blocks]
