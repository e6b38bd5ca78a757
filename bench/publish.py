"""The figures of the docs: tables between markers, made of kept runs and never typed by hand.

A place in a page is ``<!-- figures: BENCHMARK: COLUMN, COLUMN -->`` up to ``<!-- end of figures
-->``; without columns it shows all. ``docs/figures.json`` has what is shown, by benchmark.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from bench.results import ROOT, Report, UnfitFiguresError, about, table

DOCS = ROOT / "docs"
FIGURES = "figures.json"

_PLACE = re.compile(
    r"(?P<begin><!-- figures: (?P<benchmark>[^:\n]+?)(?:: (?P<columns>[^\n]+?))? -->\n)"
    r".*?(?P<end><!-- end of figures -->)",
    re.DOTALL,
)
_NONE = "Not measured yet: `make bench`, on a machine with nothing else to do.\n"

Figures = Mapping[str, Report]


def publish(runs: Iterable[Report], docs: Path = DOCS) -> list[str]:
    """Show the figures of these runs from now on, later ones in place of earlier ones.

    Returns the names of the pages that changed. Raises UnfitFiguresError.
    """
    shown = figures(docs)
    for run in runs:
        if run.quick:
            raise UnfitFiguresError(f"the run of {run.begun} was a quick one; make a whole one")
        measured = run.machine.get("extender", "")
        if measured.endswith("-dirty"):
            raise UnfitFiguresError(
                f"the run of {run.begun} is of {measured}, which has changes that no commit has, "
                "so that nobody can repeat it; commit them, and run it again"
            )
        for name in dict.fromkeys(row.benchmark for row in run.rows):
            rows = [row for row in run.rows if row.benchmark == name]
            shown[name] = msgspec.structs.replace(run, rows=rows)
    written = msgspec.json.format(msgspec.json.encode(dict(sorted(shown.items()))))
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(docs.glob("*.md"))}
    new = {path: filled(text, shown) for path, text in pages.items()}  # all of them or none
    (docs / FIGURES).write_bytes(written + b"\n")
    changed = [path for path, text in new.items() if text != pages[path]]
    for path in changed:
        path.write_text(new[path], encoding="utf-8")
    return [path.name for path in changed]


def figures(docs: Path = DOCS) -> dict[str, Report]:
    """Return what is shown, by benchmark."""
    path = docs / FIGURES
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Report]) if path.exists() else {}


def filled(page: str, shown: Figures) -> str:
    """Return a page with its tables as they have to be. Raises UnfitFiguresError."""
    return _PLACE.sub(lambda place: place["begin"] + _body(place, shown) + place["end"], page)


def _body(place: re.Match[str], shown: Figures) -> str:
    run = shown.get(place["benchmark"])
    if run is None:
        return _NONE
    rows = [{**row.case, **row.figures} for row in run.rows]
    wanted = place["columns"].split(", ") if place["columns"] else None
    if wanted:
        unknown = [name for name in wanted if not any(name in row for row in rows)]
        if unknown:
            raise UnfitFiguresError(
                f"figures of {place['benchmark']}: no column {', '.join(unknown)}; there are "
                f"{', '.join(dict.fromkeys(name for row in rows for name in row))}"
            )
    return f"{table(rows, wanted)}\n\n{run.begun}: {about(run)}\n"
