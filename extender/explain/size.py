"""Whether a node has what a pod wants at all, and is large enough for it, whoever leaves it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from extender.cluster.memory import MEMORY
from extender.cluster.requests import PODS, Amounts
from extender.cluster.view import PodFacts, View
from extender.placement.in_tree import node_has
from extender.placement.request import PodRequest


class Sizes:
    """What nodes have beside their own pods, those of DaemonSets and of the kubelet.

    ``requests`` are the pod's own beside memory; of memory what its volumes add counts, too.
    """

    def __init__(
        self, view: View, pods: Iterable[PodFacts], request: PodRequest, requests: Amounts
    ) -> None:
        self._view = view
        self._wanted = {**requests, MEMORY: request.demand.bytes}
        self._own: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._stay: dict[str, list[PodFacts]] = defaultdict(list)
        for pod in pods:
            if pod.node and pod.counts and pod.comes_back and pod.uid != request.uid:
                self._stay[pod.node].append(pod)
                for name, size in _takes(pod).items():
                    self._own[pod.node][name] += size

    def beyond(self, name: str) -> dict[str, int]:
        """Return what the pod wants beyond what the node could ever give, by resource.

        Of what the node has none of, see ``without``.
        """
        node, own = self._view.nodes.get(name), self._own.get(name, {})
        if node is None:
            return {}
        without = self.without(name)
        found = {}
        for resource, size in self._wanted.items():
            room = node_has(node, resource)
            over = size + own.get(resource, 0) - room if size and room is not None else 0
            if over > 0 and resource not in without:
                found[resource] = over
        return found

    def staying(self, name: str) -> tuple[PodFacts, ...]:
        """Return the pods that stay and take what the pod wants beyond it, the largest first.

        None where the node would be too small without them, too.
        """
        node, beyond = self._view.nodes.get(name), self.beyond(name)
        if node is None or any(
            self._wanted[resource] > (node_has(node, resource) or 0) for resource in beyond
        ):
            return ()

        def taken(pod: PodFacts) -> tuple[int, ...]:
            return tuple(_takes(pod).get(resource, 0) for resource in beyond)

        found = [pod for pod in self._stay.get(name, ()) if any(taken(pod))]
        return tuple(sorted(found, key=taken, reverse=True))

    def without(self, name: str) -> tuple[str, ...]:
        """Return the resources that the pod wants and the node has none of, places apart."""
        node = self._view.nodes.get(name)
        if node is None:
            return ()
        wanted = (name for name, size in self._wanted.items() if size and name != PODS)
        return tuple(name for name in wanted if node_has(node, name) == 0)


def _takes(pod: PodFacts) -> Amounts:
    return {**pod.requests, MEMORY: pod.demand.bytes}
