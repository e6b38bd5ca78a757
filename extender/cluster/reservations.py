"""Memory that is spoken for and not on a node yet: between an answer and the pod in the watch.

Two kinds stand in one table. A *reservation* is made by bind, under the state's lock, once the
ledger has been checked again. A *hold* is the guess of prioritize where a pod is going to be bound;
it lasts seconds and keeps a burst from being sent to one node again and again before the first of
them is bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf

import msgspec


class Reservation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bytes of one node's memory, kept for one pod until ``expires`` (UNIX seconds).

    ``firm`` is true for a reservation of bind, false for a hold.
    """

    uid: str
    node: str
    bytes: int
    expires: float
    firm: bool


class Reservations:
    """The table. Not safe to use from threads: the cluster state guards it.

    A pod can have reservations on several nodes: where the answer to its binding was lost it may
    yet appear on the first node, though it was sent to a second. It has one hold at most, and none
    beside a reservation.
    """

    def __init__(self) -> None:
        self._of_pod: dict[str, dict[str, Reservation]] = {}
        self._on_node: dict[str, dict[str, Reservation]] = {}
        self._next_expiry = inf

    def __len__(self) -> int:
        return len(self._of_pod)

    def __contains__(self, uid: str) -> bool:
        return uid in self._of_pod

    def by_pod(self) -> Iterator[tuple[str, Iterable[str]]]:
        """Yield each pod's UID with the nodes where it has entries."""
        yield from self._of_pod.items()

    def on(self, node: str) -> Iterator[Reservation]:
        """Yield the entries of one node."""
        yield from self._on_node.get(node, {}).values()

    def reserved(self, uid: str, node: str | None = None) -> bool:
        """Tell whether bind has reserved memory for a pod, on a node or anywhere."""
        entries = self._of_pod.get(uid, {}).values()
        return any(entry.firm and node in {None, entry.node} for entry in entries)

    def put(self, entry: Reservation) -> set[str]:
        """Keep an entry in place of the pod's hold; return the nodes that this changes."""
        changed = {entry.node}
        for other in list(self._of_pod.get(entry.uid, {}).values()):
            if not other.firm or other.node == entry.node:
                changed |= self.drop(entry.uid, other.node)
        self._of_pod.setdefault(entry.uid, {})[entry.node] = entry
        self._on_node.setdefault(entry.node, {})[entry.uid] = entry
        self._next_expiry = min(self._next_expiry, entry.expires)
        return changed

    def drop(self, uid: str, node: str | None = None) -> set[str]:
        """Forget a pod's entry on a node, or on all; return the nodes that this changes."""
        entries = self._of_pod.get(uid, {})
        changed = set(entries) if node is None else {node} & set(entries)
        for name in changed:
            del entries[name]
            on_node = self._on_node[name]
            del on_node[uid]
            if not on_node:
                del self._on_node[name]
        if changed and not entries:
            del self._of_pod[uid]
        return changed

    def expire(self, now: float) -> set[str]:
        """Forget what is past its time; return the nodes that this changes."""
        if now < self._next_expiry:
            return set()
        entries = [entry for on_pod in self._of_pod.values() for entry in on_pod.values()]
        changed: set[str] = set()
        for entry in entries:
            if entry.expires <= now:
                changed |= self.drop(entry.uid, entry.node)
        self._next_expiry = min((e.expires for e in entries if e.expires > now), default=inf)
        return changed
