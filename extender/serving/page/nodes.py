"""The views of nodes: which of them are meant, in groups or one by one, what they hold, memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from extender.cluster.holdings import Holding, ModelState
from extender.cluster.ledger import ZONE_LABEL
from extender.cluster.view import NodeView, View
from extender.placement.progress import seconds_left
from extender.report import Transfer
from extender.serving.page.asked import Asked, Page, cut
from extender.serving.page.holdings import Held, Holdings

MAX_COLUMNS = 40
_SAMPLED = 64
_WELL_KNOWN = (ZONE_LABEL, "node.kubernetes.io/instance-type")
LETTERS = {
    ModelState.READY: "R",
    ModelState.LOADING: "L",
    ModelState.FAILED: "F",
    ModelState.STALE: "S",
    ModelState.ABSENT: "A",
}


class Column(msgspec.Struct, frozen=True, order=True):
    """One model by its ``path`` on the nodes; ``title`` is the short form of its name."""

    title: str
    path: str


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What one node holds of one model. ``age`` is seconds since it was proven or last changed.

    ``done`` is the share of a download, from 0 to 1, ``left`` its seconds.
    """

    holding: Holding
    age: float | None
    done: float | None = None
    left: float | None = None

    @property
    def letter(self) -> str:
        """Return the state's letter."""
        return LETTERS[self.holding.state]


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one node or of a group, in bytes. ``free`` is negative where over-committed."""

    allocatable: int = 0
    requests: int = 0
    tmpfs: int = 0
    reserved: int = 0

    @property
    def free(self) -> int:
        """Return what is left."""
        return self.allocatable - self.requests - self.tmpfs - self.reserved

    @property
    def bars(self) -> list[tuple[str, float, float]]:
        """Return a bar's parts: name, begin and width, in percent of the whole."""
        parts = (("requests", self.requests), ("tmpfs", self.tmpfs), ("reserved", self.reserved))
        whole = max(self.allocatable, self.allocatable - self.free, 1)
        found, begin = [], 0.0
        for name, size in parts:
            width = 100 * size / whole
            found.append((name, round(begin, 2), round(width, 2)))
            begin += width
        return found


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One node with what it holds, by path."""

    name: str
    schedulable: bool
    cells: Mapping[str, Cell]
    memory: Memory


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes with one value of a label; ``counts`` has nodes by model path and state letter."""

    value: str
    nodes: int
    counts: Mapping[str, Mapping[str, int]]
    memory: Memory


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a view of nodes shows: rows, or groups of nodes. ``hidden`` columns did not fit."""

    rows: Page[Row] | None = None
    groups: Page[Group] | None = None
    columns: Sequence[Column]
    hidden: int
    labels: Sequence[str]


def listing(question: Asked, view: View, holdings: Holdings) -> Listing:
    """Make one page. All holdings are looked at only where a filter or a group needs them."""
    nodes = _named(question, view)
    held: Held | None = None
    groups_of_models = bool(question.group) and question.value is None and question.view == "nodes"
    if question.model or question.state or groups_of_models:
        held = holdings.all(view.inventory)
    paths = _paths(question, held or {})
    narrowed = question.state or (question.model and not groups_of_models)
    if held is not None and narrowed:
        nodes = [node for node in nodes if _is_shown(question, held.get(node.name, ()), paths)]
    labels = _labels(question, view)
    if question.group and question.value is None:
        members = _members(question, nodes)
        groups = cut(
            sorted(members, key=lambda value: (not value, value)),
            question,
            lambda value: _group(question, value, members[value], held or {}, paths),
        )
        found = {path for group in groups.rows for path in group.counts}
        columns, hidden = _columns(found, held or {})
        return Listing(groups=groups, columns=columns, hidden=hidden, labels=labels)
    rows = cut(nodes, question, lambda node: _row(question, node, view))
    if held is not None and question.state == ModelState.ABSENT:  # nodes without a cell of theirs
        columns, hidden = _columns(paths, held)
    else:
        kept = {row.name: [cell.holding for cell in row.cells.values()] for row in rows.rows}
        columns, hidden = _columns({h.path for each in kept.values() for h in each}, kept)
    return Listing(rows=rows, columns=columns, hidden=hidden, labels=labels)


def _paths(question: Asked, held: Held) -> set[str]:
    """Return the models that are asked for, of all that are known of on any node."""
    return {h.path for kept in held.values() for h in _shown_models(question, kept)}


def _named(question: Asked, view: View) -> list[NodeView]:
    """Return the nodes that are asked for by name and label, in the order that is asked for."""
    wanted = question.q.lower()
    found = [
        node
        for name, node in view.nodes.items()
        if wanted in name.lower()
        and (question.value is None or node.labels.get(question.group, "") == question.value)
    ]
    if question.sort == "free":
        return sorted(found, key=lambda node: (node.free, node.name))
    return sorted(found, key=lambda node: node.name)


def _shown_models(question: Asked, kept: Iterable[Holding]) -> Iterable[Holding]:
    """Yield the holdings of the models that are asked for, whatever their state."""
    wanted = question.model.lower()
    for holding in kept:
        if not wanted or wanted in f"{holding.path}\n{holding.model or ''}".lower():
            yield holding


def _is_shown(question: Asked, kept: Iterable[Holding], paths: set[str]) -> bool:
    """Tell whether a node is shown for what it holds, or lacks, of the models in ``paths``."""
    asked_for = list(_shown_models(question, kept))
    if question.state == ModelState.ABSENT:
        return bool(paths.difference(h.path for h in asked_for if h.state != ModelState.ABSENT))
    return any(not question.state or h.state.value == question.state for h in asked_for)


def _members(question: Asked, nodes: Iterable[NodeView]) -> dict[str, list[NodeView]]:
    """Return the nodes by the value of the label: there may be as many as nodes."""
    members: dict[str, list[NodeView]] = defaultdict(list)
    for node in nodes:
        members[node.labels.get(question.group, "")].append(node)
    return members


def _group(
    question: Asked,
    value: str,
    nodes: Sequence[NodeView],
    held: Held,
    paths: set[str],
) -> Group:
    counts: dict[str, Counter[str]] = {path: Counter() for path in paths}
    for node in nodes:
        for holding in _shown_models(question, held.get(node.name, ())):
            if holding.state != ModelState.ABSENT:
                counts[holding.path][LETTERS[holding.state]] += 1
    for of_path in counts.values():
        of_path[LETTERS[ModelState.ABSENT]] = len(nodes) - of_path.total()
    sums = [_memory(node) for node in nodes]
    return Group(
        value=value,
        nodes=len(nodes),
        counts=counts,
        memory=Memory(
            allocatable=sum(one.allocatable for one in sums),
            requests=sum(one.requests for one in sums),
            tmpfs=sum(one.tmpfs for one in sums),
            reserved=sum(one.reserved for one in sums),
        ),
    )


def _columns(paths: Iterable[str], held: Held) -> tuple[list[Column], int]:
    """Return the columns in the order of their titles, and how many there are beyond the bound."""
    wanted = set(paths)
    titles: dict[str, str] = dict.fromkeys(wanted, "")
    for kept in held.values():
        for holding in kept:
            if holding.path in wanted and not titles[holding.path]:
                titles[holding.path] = holding.model or ""
    everything = sorted(
        Column((title or path).rstrip("/").rsplit("/", 1)[-1] or path, path)
        for path, title in titles.items()
    )
    return everything[:MAX_COLUMNS], max(0, len(everything) - MAX_COLUMNS)


def _row(question: Asked, node: NodeView, view: View) -> Row:
    kept = _shown_models(question, view.inventory.holdings_of(node.name))
    return Row(
        name=node.name,
        schedulable=node.schedulable,
        cells={h.path: _cell(h, view, view.transfer(h, node.name)) for h in kept},
        memory=_memory(node),
    )


def _cell(holding: Holding, view: View, transfer: Transfer | None) -> Cell:
    since = holding.proven_at if holding.proven_at is not None else holding.since
    age = None if since is None else max(0.0, view.now - since)
    if transfer is None or holding.state is not ModelState.LOADING:
        return Cell(holding=holding, age=age)
    whole = transfer.bytes_total
    return Cell(
        holding=holding,
        age=age,
        done=min(1.0, transfer.bytes_done / whole) if whole else 0.0,
        left=seconds_left(transfer),
    )


def _memory(node: NodeView) -> Memory:
    reserved = sum(entry.bytes for entry in node.reserved)
    return Memory(
        allocatable=node.allocatable,
        requests=node.requested,
        tmpfs=max(0, node.promised - node.requested - reserved),
        reserved=reserved,
    )


def _labels(question: Asked, view: View) -> list[str]:
    """Return the label keys to group by: those of a few nodes, which have them all alike.

    Those that tell single nodes apart are not among them, unless one is asked for.
    """
    step = max(1, len(view.nodes) // _SAMPLED)
    values: dict[str, set[str]] = defaultdict(set)
    sample = list(view.nodes.values())[::step]
    for node in sample:
        for key, value in node.labels.items():
            values[key].add(value)
    single = {key for key, seen in values.items() if len(seen) > max(1, len(sample) // 2)}
    keys = (values.keys() - single | {question.group}) - {""}
    return sorted(keys, key=lambda key: (key not in _WELL_KNOWN, key))
