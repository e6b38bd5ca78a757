"""Tables for people: plain in a pipe, coloured and as wide as the window on a terminal.

Colour and width come from rich, where it is installed (the extra ``cli``); ``NO_COLOR`` and
``TERM=dumb`` are its own business.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from extender.explain.table import remedy_lines, table

_COLOURS = {
    "yes": "green",
    "ready": "green",
    "loading": "yellow",
    "stale": "yellow",
    "no": "red",
    "failed": "red",
    "absent": "bright_black",
}
"""Of words that are a whole cell."""


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header; on a terminal long cells are folded rather than cut."""
    if is_piped() or not _show_rich(header, rows):
        click.echo(table(header, rows))


def is_piped() -> bool:
    """Tell whether a program reads what is printed, or a file takes it."""
    return not sys.stdout.isatty()


def show_remedies(nodes: Sequence[dict[str, Any]]) -> None:
    """Print what would help, on a terminal: what has been folded into a column cannot be pasted.

    In a pipe a node is one line, its remedy at the end.
    """
    lines = [] if is_piped() else remedy_lines(nodes)
    click.echo("\n".join(["", "what would help:", *lines]) if lines else "", nl=bool(lines))


def _show_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Print with rich; return whether it is there."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    laid_out = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        laid_out.add_column(name, overflow="fold")
    for row in rows:  # texts, never markup: names come from the cluster
        laid_out.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    Console(highlight=False).print(laid_out)
    return True
