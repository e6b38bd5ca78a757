"""What kube-scheduler itself holds against a node, as far as it is simple enough to say the same.

Cordons, taints, ``nodeSelector``, required node affinity and requests are judged, by the rules of
kubernetes/pkg/scheduler/framework/plugins (``nodeunschedulable``, ``tainttoleration``,
``nodeaffinity``, ``noderesources/fit.go``). Everything else is named by ``constraints``, so that
nobody takes its silence for a yes. Of pods that are being resized, what the spec asks counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from extender.cluster.claims import term_holds
from extender.cluster.memory import MEMORY, MemoryDemand
from extender.cluster.requests import CPU, PODS, Amounts
from extender.cluster.view import NodeView, PodFacts
from extender.kube.objects import Taint
from extender.workload.constraints import Constraints

_OF_EVERY_NODE = frozenset({CPU, PODS, "ephemeral-storage"})
"""What every kubelet reports; a node of a dump without it has been written by hand."""
_UNSCHEDULABLE = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_KEEPS_OUT = frozenset({"NoSchedule", "NoExecute"})


class InTree(StrEnum):
    """CamelCase tokens, beside those of ``reasons``: on the wire kube-scheduler says its own."""

    NODE_NAMED = "AnotherNodeNamed"
    CORDONED = "NodeCordoned"
    TAINT = "UntoleratedTaint"
    AFFINITY = "NodeAffinityMismatch"
    TOO_MANY_PODS = "TooManyPods"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INSUFFICIENT_RESOURCES = "InsufficientResources"


WOULD_END: dict[InTree, str] = {
    InTree.NODE_NAMED: "the node that it names",
    InTree.CORDONED: "a node to be uncordoned",
    InTree.TAINT: "a node whose taints it tolerates",
    InTree.AFFINITY: "a node that its selector and affinity match",
    InTree.TOO_MANY_PODS: "other pods to leave, or another node",
    InTree.INSUFFICIENT_MEMORY: "other pods to leave, or a node with more memory",
    InTree.INSUFFICIENT_RESOURCES: "other pods to leave, or a node with more of what it requests",
}
"""For people: the rest of a sentence that begins with "the pod waits for"."""


class Objection(msgspec.Struct, frozen=True, kw_only=True):
    """Why kube-scheduler refuses a node.

    ``text`` is its own, as far as that is short; ``detail`` is ours. ``short`` has what is lacking
    by resource (memory in bytes, CPU in thousandths) where it is amounts alone.
    """

    reason: InTree
    text: str
    detail: str = ""
    short: Amounts = {}
    taint: Taint | None = None


def all_requests(requests: Amounts, demand: MemoryDemand) -> dict[str, int]:
    """Return what kube-scheduler counts of a pod: its requests, and those of memory in bytes."""
    return {**requests, MEMORY: demand.request}


class Objections:
    """What kube-scheduler would hold against each node, as pods are added.

    ``uid`` is the pod that is asked about: what it takes already is its own.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeView],
        pods: Iterable[PodFacts],
        asked: Constraints,
        *,
        uid: str = "",
    ) -> None:
        self._nodes = nodes
        self._asked = asked
        self._fixed: dict[str, Objection | None] = {}
        self._taken: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for pod in pods:
            if pod.node and pod.counts and (not uid or pod.uid != uid):
                self.add(all_requests(pod.requests, pod.demand), pod.node)

    def add(self, requests: Amounts, node: str) -> None:
        """Count what a pod requests on a node."""
        taken = self._taken[node]
        for name, size in requests.items():
            taken[name] += size

    def of(self, wanted: Amounts, name: str) -> Objection | None:
        """Say why kube-scheduler refuses a node for a pod with these requests; else None."""
        node = self._nodes.get(name)
        if node is None:
            return None
        if name not in self._fixed:
            self._fixed[name] = fixed_objection(node, self._asked)
        fixed = self._fixed[name]
        if fixed is not None:
            return fixed
        taken, short = self._taken.get(name, {}), {}
        for resource, size in wanted.items():
            room = node_has(node, resource)
            lacking = size and room is not None and taken.get(resource, 0) + size - room
            if lacking > 0:
                short[resource] = lacking
        return _lacking(short) if short else None

    def free(self, node: str) -> dict[str, int]:
        """Return what requests leave of a node's resources (CPU in thousandths), memory apart."""
        room, taken = self._nodes[node].room, self._taken[node]
        return {name: room[name] - taken[name] for name in sorted(room)}


def node_has(node: NodeView, resource: str) -> int | None:
    """Return how much there is to request; None where the node should say so, and does not."""
    if resource == MEMORY:
        return node.allocatable or None
    return node.room.get(resource, None if resource in _OF_EVERY_NODE else 0)


def _lacking(short: dict[str, int]) -> Objection:
    texts = ["Too many pods" if name == PODS else f"Insufficient {name}" for name in short]
    reasons = {
        frozenset({PODS}): InTree.TOO_MANY_PODS,
        frozenset({MEMORY}): InTree.INSUFFICIENT_MEMORY,
    }
    reason = reasons.get(frozenset(short), InTree.INSUFFICIENT_RESOURCES)
    return Objection(reason=reason, text=", ".join(texts), short=short)


def fixed_objection(node: NodeView, asked: Constraints) -> Objection | None:
    """Say what keeps a pod from a node whatever runs there."""
    if asked.node_name and asked.node_name != node.name:
        return Objection(
            reason=InTree.NODE_NAMED, text="the pod names another node", detail=asked.node_name
        )
    cordon = [] if node.schedulable else [_UNSCHEDULABLE]
    for taint in (*cordon, *node.taints):
        if taint.effect not in _KEEPS_OUT or any(t.tolerates(taint) for t in asked.tolerations):
            continue
        if taint.key == _UNSCHEDULABLE.key:
            return Objection(reason=InTree.CORDONED, text="node is cordoned")
        text = f"untolerated taint {{{taint.key}: {taint.value}}}"
        return Objection(reason=InTree.TAINT, text=text, taint=taint)
    if not _selected(node, asked):
        return Objection(
            reason=InTree.AFFINITY,
            text="node selector or affinity does not match",
            detail=_mismatch(node, asked),
        )
    return None


def _selected(node: NodeView, asked: Constraints) -> bool:
    required = asked.required_affinity
    return asked.node_selector.items() <= node.labels.items() and (
        required is None
        or any(term_holds(term, node.name, node.labels) for term in required.node_selector_terms)
    )


def _mismatch(node: NodeView, asked: Constraints) -> str:
    """Say which label is not as asked; of terms with expressions only that none holds."""
    for key, value in asked.node_selector.items():
        has = node.labels.get(key)
        if has != value:
            return f"nodeSelector {key}: {value}, " + (
                "a label that the node has not" if has is None else f"the node has {has}"
            )
    return "no term of its required node affinity holds"
