"""Parts of pages between two marks, and the code that each of them is written from."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from documentation.commands import command_line
from documentation.http import interface
from documentation.keys import keys
from documentation.metrics import extender_metrics, loader_metrics
from documentation.reasons import reasons
from documentation.sections import catalog, configuration

DOCS = Path(__file__).resolve().parent.parent / "docs"
PARTS: dict[str, Callable[[], str]] = {
    "catalog": catalog,
    "command line": command_line,
    "configuration": configuration,
    "extender metrics": extender_metrics,
    "http": interface,
    "keys": keys,
    "loader metrics": loader_metrics,
    "reasons": reasons,
}
_PART = re.compile(
    r"(?P<begin>^<!-- generated: (?P<name>[a-z ]+) -->\n).*?(?P<end>^<!-- end of generated -->$)",
    re.MULTILINE | re.DOTALL,
)


def pages() -> list[Path]:
    """Return the pages that hold a generated part."""
    return [page for page in sorted(DOCS.rglob("*.md")) if _PART.search(page.read_text("utf-8"))]


def names(text: str) -> list[str]:
    """Return the names of a page's generated parts."""
    return [found["name"] for found in _PART.finditer(text)]


def renewed(text: str) -> str:
    """Return a page with its parts as the code says now. Raises KeyError for an unknown one."""
    return _PART.sub(
        lambda found: f"{found['begin']}\n{PARTS[found['name']]().strip()}\n\n{found['end']}", text
    )
