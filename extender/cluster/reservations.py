"""Memory that is spoken for and not on a node yet: between an answer and the pod in the watch.

Two kinds stand in one table. A *reservation* is made by bind, under the state's lock, once the
ledger has been checked again. A *hold* is a guess (of prioritize, or of who nominates) where a pod
is going to be bound; it lasts seconds and keeps a burst from being sent to one node again and again
before the first of them is bound.

Each reservation is one Binding's claim, and only that Binding gives it back: kube-scheduler may
have given up on a first bind and asked for a second one while the first is on its way, and what
becomes of the first says nothing of what the second needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf

import msgspec

from extender.cluster.warmth import Opening

HOLD = 0
"""The claim of a hold; Bindings count from 1."""


class Reservation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bytes of one node's memory, kept for one pod until ``expires`` (the state's steady time).

    A reservation lasts longer while the watch of pods tells nothing: see ``Reservations.expire``.

    ``claim`` is the number of the Binding that they are kept for, ``HOLD`` for a hold. ``opens`` is
    what the pod is going to bring into the node's page cache, where it is certain to come.
    """

    uid: str
    node: str
    bytes: int
    expires: float
    claim: int = HOLD
    opens: tuple[Opening, ...] = ()

    @property
    def firm(self) -> bool:
        """Tell whether this is a reservation of bind, not a hold."""
        return self.claim != HOLD


class Reservations:
    """The table. Not safe to use from threads: the cluster state guards it.

    A pod can have reservations on several nodes: where the answer to its binding was lost it may
    yet appear on the first node, though it was sent to a second. On one node they count once,
    however many Bindings claim them. A pod has one hold at most, and none beside a reservation.
    """

    def __init__(self) -> None:
        self._of_pod: dict[str, dict[str, dict[int, Reservation]]] = {}
        self._on_node: dict[str, dict[str, Reservation]] = {}
        self._next_end = {True: inf, False: inf}  # of those that are firm, and of the others

    def __len__(self) -> int:
        return len(self._of_pod)

    def __contains__(self, uid: str) -> bool:
        return uid in self._of_pod

    def by_pod(self) -> Iterator[tuple[str, Iterable[str]]]:
        """Yield each pod's UID with the nodes where it has entries."""
        yield from self._of_pod.items()

    def on(self, node: str) -> Iterator[Reservation]:
        """Yield what is kept on one node, once for each pod."""
        yield from self._on_node.get(node, {}).values()

    def reserved(self, uid: str) -> bool:
        """Tell whether bind has reserved memory for a pod anywhere."""
        return any(HOLD not in claims for claims in self._of_pod.get(uid, {}).values())

    def put(self, entry: Reservation) -> set[str]:
        """Keep an entry in place of the pod's hold; return the nodes that this changes."""
        if not entry.firm and self.reserved(entry.uid):
            return set()
        changed = self.let_go(entry.uid) | {entry.node}
        on_node = self._of_pod.setdefault(entry.uid, {}).setdefault(entry.node, {})
        on_node[entry.claim] = entry
        self._sum_up(entry.uid, entry.node)
        self._next_end[entry.firm] = min(self._next_end[entry.firm], entry.expires)
        return changed

    def let_go(self, uid: str) -> set[str]:
        """Forget a pod's hold; return the nodes that this changes."""
        held = [node for node, claims in self._of_pod.get(uid, {}).items() if HOLD in claims]
        return {node for one in held for node in self.drop(uid, one, HOLD)}

    def drop(self, uid: str, node: str | None = None, claim: int | None = None) -> set[str]:
        """Forget what is kept for a pod, on a node or on all, for one claim or for all.

        Returns the nodes that this changes.
        """
        nodes = self._of_pod.get(uid, {})
        changed = set()
        for name in list(nodes) if node is None else {node} & nodes.keys():
            claims = nodes[name]
            for number in list(claims) if claim is None else {claim} & claims.keys():
                del claims[number]
                changed.add(name)
            self._sum_up(uid, name)
        return changed

    def expire(self, now: float, *, blind: Callable[[], bool]) -> list[Reservation]:
        """Forget what is past its time, and return it.

        No reservation ends while the watch of pods is ``blind``: the pod may be there.
        """
        over = {firm for firm, end in self._next_end.items() if end <= now}
        if True in over and blind():
            over -= {True}
        if not over:
            return []
        entries = [
            entry
            for nodes in self._of_pod.values()
            for claims in nodes.values()
            for entry in claims.values()
            if entry.firm in over
        ]
        expired = [entry for entry in entries if entry.expires <= now]
        for entry in expired:
            self.drop(entry.uid, entry.node, entry.claim)
        for firm in over:
            ends = (e.expires for e in entries if e.firm is firm and e.expires > now)
            self._next_end[firm] = min(ends, default=inf)
        return expired

    def _sum_up(self, uid: str, node: str) -> None:
        """Renew the one entry that stands for all claims of a pod on a node."""
        nodes = self._of_pod[uid]
        entries = list(nodes[node].values())
        if entries:
            most = max(entries, key=lambda entry: entry.expires)
            size = max(entry.bytes for entry in entries)
            self._on_node.setdefault(node, {})[uid] = msgspec.structs.replace(most, bytes=size)
            return
        del nodes[node]
        if not nodes:
            del self._of_pod[uid]
        on_node = self._on_node.get(node, {})
        on_node.pop(uid, None)
        if not on_node:
            self._on_node.pop(node, None)
