"""What commands print: text of which nothing controls a terminal, tables, one JSON document.

Names, arguments and annotations are anybody's: what moves the cursor, turns the writing direction
or ends a line is shown as its number. Tables are plain in a pipe, coloured and as wide as the
window on a terminal; where that is too narrow for columns, each row is a few lines. Sentences are
broken there between words. The tables' colour and width come from rich, where it is installed (the
extra ``cli``); ``NO_COLOR`` and ``TERM=dumb`` are its own business.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

from extender.explain.table import Node, remedy_lines, some_of_each, table

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


_FOLDED = 16
"""Columns that are wider may be folded, and not to less: names and words stay in one piece."""

_INDENT = (0, 0, 0, 2)
"""Padding above, to the right, below, to the left."""

_NOTHING = frozenset({"", "-"})
"""Cells that only a column has to have."""

_GLUE = "\0"
"""Stands for a space at which no line is broken; ``printable`` has left none."""

_TO_PASTE = re.compile(
    r"""\((?:kubectl|model-cache-extender|hf)\ [^()]*\)
    |(?:\(echo\ ---;\ )?\b(?:kubectl|model-cache-extender)\ (?:'[^']*'|"[^"]*"|[^;'"]|;(?!\ ))*
    |\[\{.*?\}\]""",
    re.VERBOSE,
)
"""Commands, up to the next part of a sentence, and lists of objects in YAML."""

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""C0 and C1 (ECMA-48), and what Unicode's bidirectional algorithm and line breaking act on."""


def printable(text: str, *, keep: str = "") -> str:
    """Return a text in which control characters but for those to ``keep`` are written out."""

    def escaped(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else f"\\u{ord(found[0]):04x}"

    return _CONTROLS.sub(escaped, text)


def say(text: str = "", *, at: int = 0) -> None:
    """Print one line, which begins at a column; on a terminal as many as it takes."""
    line = printable(text)
    click.echo(line if is_piped() else _wrapped(line, at))


def complain(text: str) -> None:
    """Print to stderr; a message may have several lines."""
    lines = printable(text, keep="\n")
    if sys.stderr.isatty():
        lines = "\n".join(_wrapped(line) for line in lines.split("\n"))
    click.echo(lines, err=True)


def _wrapped(line: str, at: int = 0) -> str:
    """Break a line between words where the window ends, but for what is to be pasted.

    That is left to the terminal, which copies it as the one line that it is.
    """
    kept = _TO_PASTE.sub(lambda found: found[0].replace(" ", _GLUE), line)
    begin = " " * at
    indent = " " * (at + len(line) - len(line.lstrip()) + _INDENT[-1])
    width = shutil.get_terminal_size().columns
    broken = textwrap.fill(
        begin + kept,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return broken[at:].replace(_GLUE, " ")


def show_json(document: Any) -> None:
    """Print one JSON document, and nothing else; what is escaped in it means the same."""
    text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
    click.echo(printable(text, keep="\n"))


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header; on a terminal long cells are folded rather than cut.

    In a window that is too narrow for that, a row begins with its first cell and has the others,
    with their headers, below.
    """
    rows = [tuple(map(printable, row)) for row in rows]
    if is_piped() or not _show_rich(header, rows):
        click.echo(table(header, rows))


def is_piped() -> bool:
    """Tell whether a program reads what is printed, or a file takes it."""
    return not sys.stdout.isatty()


def show_nodes(
    header: Sequence[str],
    nodes: Sequence[Node],
    rows_of: Callable[[Sequence[Node]], Sequence[Sequence[str]]],
) -> None:
    """Print the rows of an explanation's nodes, and on a terminal what would help.

    What has been folded into a column cannot be pasted, and thousands of nodes would push what was
    said before them out of the window: there some of each kind are told. In a pipe a node is one
    line, its remedy at the end.
    """
    if is_piped():
        show_table(header, rows_of(nodes))
        return
    shown, rest = some_of_each(nodes)
    show_table(header, rows_of(shown))
    if rest:
        say(rest)
    lines = remedy_lines(nodes)
    for line in ["", "what would help:", *lines] if lines else []:
        say(line)


def _show_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Print with rich; return whether it is there."""
    try:
        from rich.console import Console
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    console = Console(highlight=False)
    # Texts, never markup: names come from the cluster.
    cells = [[Text(cell, style=_COLOURS.get(cell, "")) for cell in row] for row in rows]
    if _least_width(header, rows) > console.width:
        for first, *others in cells:
            console.print(first)
            for name, cell in zip(header[1:], others, strict=True):
                if cell.plain not in _NOTHING:
                    told = Text.assemble((f"{name}: ", "bold"), cell)
                    console.print(Padding(told, _INDENT, expand=False))
        return True
    laid_out = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        laid_out.add_column(name, overflow="fold")
    for row in cells:
        laid_out.add_row(*row)
    console.print(laid_out)
    return True


def _least_width(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return how wide a table is at the least that can be read, two spaces between columns."""
    widths = (max(map(len, column)) for column in zip(header, *rows, strict=True))
    return sum(min(width, _FOLDED) for width in widths) + 2 * (len(header) - 1)
