"""Plain tables: columns as wide as their widest cell, no colour, one line a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from extender.explain.answers import KUBE_SCHEDULER
from extender.kube.quantity import format_bytes


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under a header, two spaces between columns."""
    everything = [header, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in everything
    )


NODE_HEADER = ("NODE", "FITS", "STATE", "EVIDENCE", "START", "SCORE", "MEMORY FREE", "WHY")


def node_rows(nodes: Sequence[dict[str, Any]], *, remedies: bool = True) -> list[tuple[str, ...]]:
    """Return the rows under ``NODE_HEADER`` of an explain document's nodes, best first.

    Without ``remedies`` the last cell says why alone.
    """
    ordered = sorted(
        nodes,
        key=lambda node: (not node["fits"], -(node["score"] or 0), node["name"]),
    )
    return [_row(node, remedies=remedies) for node in ordered]


def remedy_lines(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line for each kind of refusal: the remedy of its first node, and for how many.

    Taints, claims and selectors have each their own; what differs by amounts alone has one.
    """
    first: dict[tuple[str, str], dict[str, Any]] = {}
    alike: Counter[tuple[str, str]] = Counter()
    for node in nodes:
        if node["remedy"] is not None:
            in_tree = node["refusedBy"] == KUBE_SCHEDULER
            kind = node["reason"], node["message"].partition("; ")[0] if in_tree else ""
            first.setdefault(kind, node)
            alike[kind] += 1
    return [
        f"{node['reason']} ({node['name']}"
        + (f" and {alike[kind] - 1} more" if alike[kind] > 1 else "")
        + f"): {node['remedy']}"
        for kind, node in first.items()
    ]


def why(node: dict[str, Any], *, remedies: bool = True) -> str:
    """Return why a node refuses a pod, or what is to be said of one that fits."""
    message: str = node["message"] or ""
    if remedies or node["remedy"] is None:
        return message
    return message.removesuffix(f"; {node['remedy']}")


def _row(node: dict[str, Any], *, remedies: bool) -> tuple[str, ...]:
    start, free = node["estimatedStartSeconds"], node["memoryFreeBytes"]
    return (
        node["name"],
        "yes" if node["fits"] else "no",
        node["state"] or "-",
        node["evidence"] or "-",
        "-" if start is None else f"{start:.0f} s",
        "-" if node["score"] is None else str(node["score"]),
        "-" if free is None else format_bytes(free),
        why(node, remedies=remedies),
    )
