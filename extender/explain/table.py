"""Plain tables: columns as wide as their widest cell, no colour, one line a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from extender.kube.quantity import format_bytes


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under a header, two spaces between columns."""
    everything = [header, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in everything
    )


def node_table(nodes: Sequence[dict[str, Any]]) -> str:
    """Lay out the nodes of an explain document, best first."""
    ordered = sorted(
        nodes,
        key=lambda node: (not node["fits"], -(node["score"] or 0), node["name"]),
    )
    return table(
        ("NODE", "FITS", "STATE", "EVIDENCE", "START", "SCORE", "MEMORY FREE", "WHY"),
        [_row(node) for node in ordered],
    )


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    start, free = node["estimatedStartSeconds"], node["memoryFreeBytes"]
    return (
        node["name"],
        "yes" if node["fits"] else "no",
        node["state"] or "-",
        node["evidence"] or "-",
        "-" if start is None else f"{start:.0f} s",
        "-" if node["score"] is None else str(node["score"]),
        "-" if free is None else format_bytes(free),
        node["message"] or "",
    )
