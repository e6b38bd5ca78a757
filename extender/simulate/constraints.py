"""What kube-scheduler itself holds against a node, as far as it is simple enough to say the same.

Cordons, taints, ``nodeSelector``, required node affinity and requests are judged, by the rules of
kubernetes/pkg/scheduler/framework/plugins (``nodeunschedulable``, ``tainttoleration``,
``nodeaffinity``, ``noderesources/fit.go``). Everything else is named, so that nobody takes its
silence for a yes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from extender.cluster.claims import term_holds
from extender.cluster.ledger import FINISHED
from extender.cluster.memory import MEMORY, effective_request
from extender.kube.decode import convert
from extender.kube.objects import KubeStruct, Node, NodeSelector, Pod, Resources, Taint
from extender.kube.quantity import parse_milli, parse_quantity

PODS = "pods"
_CPU = "cpu"
_OF_EVERY_NODE = frozenset({_CPU, MEMORY, PODS, "ephemeral-storage"})
"""What every kubelet reports; a node of a dump without it has been written by hand."""
_UNSCHEDULABLE = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_KEEPS_OUT = frozenset({"NoSchedule", "NoExecute"})


class Toleration(KubeStruct, frozen=True):
    """``spec.tolerations[]``."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, taint: Taint) -> bool:
        """Tell whether it lets a pod onto a node with this taint; unknown operators do not."""
        if self.effect not in {"", taint.effect} or self.key not in {"", taint.key}:
            return False
        if self.operator == "Exists":
            return True
        return self.operator in {"", "Equal"} and bool(self.key) and self.value == taint.value


class _NodeAffinity(KubeStruct, frozen=True):
    required_during_scheduling_ignored_during_execution: NodeSelector | None = None


class _Affinity(KubeStruct, frozen=True):
    node_affinity: _NodeAffinity | None = None
    pod_affinity: dict[str, Any] | None = None
    pod_anti_affinity: dict[str, Any] | None = None


class Constraints(KubeStruct, frozen=True):
    """The part of a pod's spec that only kube-scheduler reads."""

    node_name: str = ""
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity: _Affinity = _Affinity()
    topology_spread_constraints: tuple[dict[str, Any], ...] = ()
    resource_claims: tuple[dict[str, Any], ...] = ()
    containers: tuple[dict[str, Any], ...] = ()

    def not_judged(self) -> tuple[str, ...]:
        """Name the fields that could refuse a node and are not looked at here."""
        ports = any(
            isinstance(port, dict) and port.get("hostPort")
            for container in self.containers
            for port in container.get("ports") or ()
        )
        fields = (
            ("affinity.podAffinity", self.affinity.pod_affinity),
            ("affinity.podAntiAffinity", self.affinity.pod_anti_affinity),
            ("topologySpreadConstraints", self.topology_spread_constraints),
            ("resourceClaims", self.resource_claims),
            ("containers[].ports[].hostPort", ports),
        )
        return tuple(name for name, given in fields if given)


def read_constraints(spec: Any) -> Constraints:
    """Read a raw pod spec. Raises InvalidObjectError."""
    return convert(spec if isinstance(spec, dict) else {}, Constraints)


class Refusals:
    """What kube-scheduler would hold against each node, as pods are added."""

    def __init__(self, nodes: Iterable[Node], pods: Iterable[Pod], asked: Constraints) -> None:
        self._fixed = {node.metadata.name: _fixed_refusal(node, asked) for node in nodes}
        self._room = {
            node.metadata.name: {name: _amount(name, q) for name, q in _allocatable(node)}
            for node in nodes
        }
        self._taken: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for pod in pods:
            if pod.spec.node_name and pod.status.phase not in FINISHED:
                self.add(pod, pod.spec.node_name)

    def add(self, pod: Pod, node: str) -> None:
        """Count a pod on a node."""
        for name, amount in pod_requests(pod).items():
            self._taken[node][name] += amount

    def of(self, wanted: Mapping[str, int], node: str) -> str:
        """Say why kube-scheduler refuses a node for a pod with these requests; else nothing.

        The texts are its own, as far as they are short.
        """
        fixed = self._fixed.get(node, "node not known")
        if fixed:
            return fixed
        room, taken = self._room[node], self._taken[node]
        for name, amount in wanted.items():
            if name in _OF_EVERY_NODE and name not in room:
                continue
            if amount and taken[name] + amount > room.get(name, 0):
                return "Too many pods" if name == PODS else f"Insufficient {name}"
        return ""

    def free(self, node: str) -> dict[str, int]:
        """Return what requests leave of a node's resources (CPU in thousandths), memory apart."""
        room, taken = self._room[node], self._taken[node]
        return {name: room[name] - taken[name] for name in sorted(room) if name != MEMORY}


def pod_requests(pod: Pod) -> dict[str, int]:
    """Return a pod's effective requests by resource: CPU in thousandths, others whole; one pod."""
    spec = pod.spec
    maps = [
        table
        for container in (*spec.containers, *spec.init_containers)
        for table in (container.resources.requests, container.resources.limits)
    ]
    level = spec.resources
    maps += [level.requests, level.limits] if level is not None else []
    names = dict.fromkeys(name for table in (*maps, spec.overhead) for name in table)
    wanted = {name: effective_request(pod, _reader(name)) for name in names}
    for name, quantity in spec.overhead.items():
        wanted[name] += _amount(name, quantity)
    return {**wanted, PODS: 1}


def _reader(name: str) -> Any:
    def amount(resources: Resources) -> int | None:
        quantity = resources.get(name)
        return None if quantity is None else _amount(name, quantity)

    return amount


def _amount(name: str, quantity: str | float) -> int:
    return parse_milli(quantity) if name == _CPU else parse_quantity(quantity)


def _allocatable(node: Node) -> Iterator[tuple[str, str | float]]:
    yield from node.status.allocatable.items()


def _fixed_refusal(node: Node, asked: Constraints) -> str:
    """Say what keeps a pod from a node whatever runs there."""
    if asked.node_name and asked.node_name != node.metadata.name:
        return "the pod names another node"
    taints = [*node.spec.taints, *([_UNSCHEDULABLE] if node.spec.unschedulable else [])]
    for taint in taints:
        if taint.effect in _KEEPS_OUT and not any(t.tolerates(taint) for t in asked.tolerations):
            if taint is _UNSCHEDULABLE:
                return "node is cordoned"
            return f"untolerated taint {{{taint.key}: {taint.value}}}"
    labels = node.metadata.labels
    affinity = asked.affinity.node_affinity
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    if not asked.node_selector.items() <= labels.items() or (
        required is not None
        and not any(
            term_holds(term, node.metadata.name, labels) for term in required.node_selector_terms
        )
    ):
        return "node selector or affinity does not match"
    return ""
