"""How many pods that ask for the same a node has room for, as far as this program can tell."""

from __future__ import annotations

from extender.cluster.view import View
from extender.placement.request import PodRequest


def slots(request: PodRequest, view: View, name: str) -> int:
    """Return how many such pods a node has the memory for; many where memory sets no bound."""
    node = view.nodes.get(name)
    wanted = request.demand.on(node.allocatable) if node else 0
    if node is None or wanted <= 0:
        return 1_000
    return max(1, node.free_for(request.uid, request.priority) // wanted)
