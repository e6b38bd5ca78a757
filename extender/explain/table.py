"""Plain tables: columns as wide as their widest cell, no colour, one line a row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from extender.explain.answers import KUBE_SCHEDULER
from extender.kube.quantity import format_bytes

_REMEDIES_OF_A_KIND = 2
_NODES_OF_A_KIND = 5
_NODES_IN_FULL = 50
"""So many are listed one by one even to people: a window or two."""

Node = dict[str, Any]
"""One of an explain document's."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under a header, two spaces between columns."""
    everything = [header, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in everything
    )


NODE_HEADER = ("NODE", "FITS", "STATE", "EVIDENCE", "START", "SCORE", "MEMORY FREE", "WHY")


def node_rows(nodes: Sequence[Node], *, remedies: bool = True) -> list[tuple[str, ...]]:
    """Return the rows under ``NODE_HEADER`` of an explain document's nodes, best first.

    Without ``remedies`` the last cell says why alone.
    """
    return [_row(node, remedies=remedies) for node in _best_first(nodes)]


def _best_first(nodes: Sequence[Node]) -> list[Node]:
    return sorted(
        nodes,
        key=lambda node: (not node.get("fits"), -(node.get("score") or 0), node["name"]),
    )


def remedy_lines(nodes: Sequence[Node]) -> list[str]:
    """Return what would help, a line for all nodes that it is true of but for their names.

    Of one kind of refusal (taints, claims and selectors have each their own) only the remedies of
    the most nodes are told, where each node has amounts or loaders of its own.
    """
    kinds: dict[tuple[str, str], dict[str, list[Node]]] = {}
    for node in nodes:
        if node["remedy"] is not None:
            in_tree = node["refusedBy"] == KUBE_SCHEDULER
            kind = node["reason"], node["message"].partition("; ")[0] if in_tree else ""
            kinds.setdefault(kind, {}).setdefault(_nameless(node), []).append(node)
    return [line for alike in kinds.values() for line in _lines([*alike.values()])]


def _nameless(node: Node) -> str:
    """Return a node's remedy without its name, which is the one thing that may differ."""
    name = re.escape(node["name"])
    return re.sub(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", "{node}", node["remedy"])


def _lines(alike: Sequence[Sequence[Node]]) -> Iterator[str]:
    """Yield the lines of one kind of refusal, those of most nodes first."""
    ordered = sorted(alike, key=len, reverse=True)
    # One more takes the line that would tell that there is one.
    many = len(ordered) > _REMEDIES_OF_A_KIND + 1
    told = ordered[:_REMEDIES_OF_A_KIND] if many else ordered
    for same in told:
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        yield f"{same[0]['reason']} ({same[0]['name']}{more}): {same[0]['remedy']}"
    rest = [node for same in ordered[len(told) :] for node in same]
    if rest:
        name, others = rest[0]["name"], len(rest) - 1
        yield f"{rest[0]['reason']} ({name} and {others} more): each its own, as by --node {name}"


def some_of_each(nodes: Sequence[Node]) -> tuple[Sequence[Node], str]:
    """Return the nodes to show to people, and what to say of the rest, empty where there is none.

    Of thousands the first few of each kind: nodes that take the pod, or refuse it for one reason,
    and hold the model in one state.
    """
    if len(nodes) <= _NODES_IN_FULL:
        return nodes, ""
    kinds: dict[tuple[Any, ...], list[Node]] = {}
    for node in _best_first(nodes):
        kind = node.get("fits"), node["reason"], node.get("state")
        kinds.setdefault(kind, []).append(node)
    shown = [node for alike in kinds.values() for node in alike[:_NODES_OF_A_KIND]]
    rest = [
        f"{len(alike) - _NODES_OF_A_KIND} like {alike[0]['name']}"
        for alike in kinds.values()
        if len(alike) > _NODES_OF_A_KIND
    ]
    return shown, f"not shown: {', '.join(rest)}; in a pipe (| less) all are" if rest else ""


def why(node: Node, *, remedies: bool = True) -> str:
    """Return why a node refuses a pod, or what is to be said of one that fits."""
    message: str = node["message"] or ""
    if remedies or node["remedy"] is None:
        return message
    return message.removesuffix(f"; {node['remedy']}")


def _row(node: Node, *, remedies: bool) -> tuple[str, ...]:
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
