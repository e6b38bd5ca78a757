"""docs/loader.md names every line of the log."""

from __future__ import annotations

import re

from tests.docs.pages import DOCS, ROOT

TEXT = (DOCS / "loader.md").read_text("utf-8")


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return str(found)


def first_cells(title: str) -> set[str]:
    rows = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_line_of_the_log_is_in_the_table_and_nothing_else() -> None:
    said = {
        event
        for file in (ROOT / "extender" / "loader").rglob("*.py")
        for event in re.findall(
            r"log\.(?:info|warning|error|exception)\(\s*\"([^\"]+)\"", file.read_text("utf-8")
        )
    }
    assert len(said) > 20
    assert first_cells("What the log says") == said
