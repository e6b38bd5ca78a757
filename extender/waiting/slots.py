"""How many pods that ask for the same a node has room for, as far as this program can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from extender.cluster.requests import Amounts
from extender.cluster.view import NodeView, PodFacts, View
from extender.placement.in_tree import node_has
from extender.placement.request import PodRequest


def slots(request: PodRequest, view: View, name: str) -> int:
    """Return how many such pods a node has the memory for; many where memory sets no bound."""
    node = view.nodes.get(name)
    wanted = request.demand.on(node.allocatable) if node else 0
    if node is None or wanted <= 0:
        return 1_000
    return max(1, node.free_for(request.uid, request.priority) // wanted)


def slots_beside_memory(wanted: Amounts, node: NodeView, there: Iterable[PodFacts]) -> int:
    """Return how many pods with these requests a node has all for but memory: GPUs, above all.

    ``there`` are the pods on it. Many where it does not tell of what they request.
    """
    taken = Counter[str]()
    for pod in there:
        if pod.counts:
            taken.update(pod.requests)
    rooms = [
        (room - taken[resource]) // size
        for resource, size in wanted.items()
        if size and (room := node_has(node, resource)) is not None
    ]
    return max(0, min(rooms, default=1_000))
