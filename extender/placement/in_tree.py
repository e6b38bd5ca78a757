"""What kube-scheduler itself holds against a node, as far as it is simple enough to say the same.

Cordons, taints, ``nodeSelector``, required node affinity, claims and requests are judged, by the
rules of kubernetes/pkg/scheduler/framework/plugins (``nodeunschedulable``, ``tainttoleration``,
``nodeaffinity``, ``volumebinding``, ``volumerestrictions``, ``noderesources/fit.go``). Everything
else is named by ``not_judged``, so that nobody takes its silence for a yes. All that is in the way
is told, what does not end by itself first. Of pods that are being resized, what the spec asks
counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from extender.cluster.claims import in_words, named_nodes, selects, unlike
from extender.cluster.memory import MEMORY, MemoryDemand
from extender.cluster.requests import CPU, PODS, Amounts
from extender.cluster.view import NodeView, PodFacts, View
from extender.kube.objects import Taint
from extender.placement.objections import CORDON, InTree, Objection, together
from extender.placement.volume_binding import PodClaims, User
from extender.workload.constraints import Constraints
from extender.workload.model import ModelReference

_OF_EVERY_NODE = frozenset({CPU, PODS, "ephemeral-storage"})
"""What every kubelet reports; a node of a dump without it has been written by hand."""
_CORDON = Taint(key=CORDON, effect="NoSchedule")
_KEEPS_OUT = frozenset({"NoSchedule", "NoExecute"})
_KUBELET_KEEPS_OUT = frozenset({"NoExecute"})
"""Of a pod that names its node, only its kubelet is asked, which knows of no cordon and of no other
taint (``generalFilter`` in kubernetes/pkg/kubelet/lifecycle/predicate.go)."""


def all_requests(requests: Amounts, demand: MemoryDemand) -> dict[str, int]:
    """Return what kube-scheduler counts of a pod: its requests, and those of memory in bytes."""
    return {**requests, MEMORY: demand.request}


class Objections:
    """What kube-scheduler would hold against each node, as pods are added.

    ``uid`` is the pod that is asked about: what it takes already is its own. ``references`` are its
    models, of which some may be in claims that its spec does not show.
    """

    def __init__(
        self,
        view: View,
        pods: Iterable[PodFacts],
        asked: Constraints,
        *,
        namespace: str,
        references: Iterable[ModelReference] = (),
        uid: str = "",
    ) -> None:
        self._view = view
        self._asked = asked
        self._namespace = namespace
        self._references = tuple(references)
        self._claims: dict[int, PodClaims] = {}
        self._users: dict[str, list[User]] = defaultdict(list)
        self._fixed: dict[str, Objection | None] = {}
        self._taken: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for pod in pods:
            if pod.node and pod.counts and (not uid or pod.uid != uid):
                self.add(all_requests(pod.requests, pod.demand), pod.node)
                if pod.namespace == namespace:
                    self.mount(pod.claims, f"{pod.namespace}/{pod.name}", pod.node)

    def add(self, requests: Amounts, node: str) -> None:
        """Count what a pod requests on a node."""
        taken = self._taken[node]
        for name, size in requests.items():
            taken[name] += size

    def mount(self, claims: Iterable[str], pod: str, node: str) -> None:
        """Count the claims that another pod of the namespace has mounted on a node."""
        for name in claims:
            self._users[name].append(User(pod, node))

    def claims(self, number: int = 0) -> tuple[str, ...]:
        """Return the names of the pod's claims."""
        return self._claims_of(number).names

    def elsewhere(self, name: str, *, number: int = 0) -> str:
        """Say what keeps the pod from starting on a node where kube-scheduler lets it; else empty.

        Claims that other pods have on another node, which can be attached to one alone.
        """
        node = self._view.nodes.get(name)
        return "" if node is None else " and ".join(self._claims_of(number).elsewhere(node))

    def of(self, wanted: Amounts, name: str, *, number: int = 0) -> Objection | None:
        """Say why kube-scheduler refuses a node for a pod with these requests; else None.

        ``number`` is which of its workload's pods it is, from 0: those of a StatefulSet have
        claims of their own.
        """
        node = self._view.nodes.get(name)
        if node is None:
            return None
        if name not in self._fixed:
            self._fixed[name] = fixed_objection(node, self._asked)
        claims = self._claims_of(number)
        of_node = self._fixed[name]
        fixed = together(
            (
                *claims.everywhere,
                *(of_node.everything if of_node is not None else ()),
                *claims.objections(node),
            )
        )
        taken = self._taken.get(name, {})
        short: dict[str, int] = {}
        for resource, size in wanted.items():
            room = node_has(node, resource)
            lacking = size and room is not None and taken.get(resource, 0) + size - room
            if lacking > 0:
                short[resource] = lacking
        if fixed is not None:
            return msgspec.structs.replace(fixed, short=short)
        return _lacking(short) if short else None

    def not_judged(self) -> tuple[str, ...]:
        """Name what could refuse a node and is not looked at here."""
        return (*self._asked.not_judged(), *self._claims_of(0).not_judged())

    def _claims_of(self, number: int) -> PodClaims:
        templates = self._asked.claim_templates
        number = templates.first + number if templates.claims else 0
        if number not in self._claims:
            self._claims[number] = PodClaims(
                self._view,
                self._namespace,
                self._asked,
                self._references,
                ordinal=number,
                users=self._users,
            )
        return self._claims[number]

    def free(self, node: str) -> dict[str, int]:
        """Return what requests leave of what a node has (CPU in thousandths), memory apart."""
        room, taken = self._view.nodes[node].room, self._taken[node]
        return {name: room[name] - taken[name] for name in sorted(room) if room[name]}


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
    return Objection(reason=reason, text=" and ".join(texts), short=short)


def fixed_objection(node: NodeView, asked: Constraints) -> Objection | None:
    """Say all that keeps a pod from a node whatever runs there."""
    return together(_fixed(node, asked))


def _fixed(node: NodeView, asked: Constraints) -> Iterator[Objection]:
    if asked.node_name and asked.node_name != node.name:
        yield Objection(
            reason=InTree.NODE_NAMED, text="the pod names another node", detail=asked.node_name
        )
    meant = named_nodes(asked.required_affinity) if asked.required_affinity is not None else ()
    if meant and node.name not in meant:
        yield Objection(
            reason=InTree.NODE_NAMED, text="the pod is for another node", detail=", ".join(meant)
        )
        return  # nothing that could be changed there would bring it there
    cordon = () if node.schedulable else (_CORDON,)
    keeps_out = _KUBELET_KEEPS_OUT if asked.node_name else _KEEPS_OUT
    taints = tuple(
        taint
        for taint in dict.fromkeys((*cordon, *node.taints))
        if taint.effect in keeps_out and not any(t.tolerates(taint) for t in asked.tolerations)
    )
    if taints:
        yield _kept_out(taints)
    yield from _not_selected(node, asked)


def _kept_out(taints: tuple[Taint, ...]) -> Objection:
    """Name all that keeps the pod out: to end one of them alone would not help."""
    cordoned = [taint for taint in taints if taint.key == CORDON]
    texts = ["node is cordoned"] if cordoned else []
    texts += [
        f"untolerated taint {{{taint.key}: {taint.value}}}"
        for taint in taints
        if taint.key != CORDON
    ]
    reason = InTree.CORDONED if cordoned else InTree.TAINT
    # The node controller sets some keys with two effects, and the text has no effect.
    text = " and ".join(dict.fromkeys(texts))
    return Objection(reason=reason, text=text, taints=taints)


def _not_selected(node: NodeView, asked: Constraints) -> Iterator[Objection]:
    """Say which labels are not as asked; of terms with expressions only that none holds."""
    refused = Objection(reason=InTree.AFFINITY, text="node selector or affinity does not match")
    labels = {
        key: value for key, value in asked.node_selector.items() if node.labels.get(key) != value
    }
    if labels:
        told = (
            f"{key}: {value}, "
            + (f"the node has {node.labels[key]}" if key in node.labels else "a label it has not")
            for key, value in labels.items()
        )
        detail = f"nodeSelector {' and '.join(told)}"
        yield msgspec.structs.replace(refused, detail=detail, labels=labels)
    required = asked.required_affinity
    if required is not None and not selects(required, node.name, node.labels):
        has = unlike(required, node.labels)
        but = f", the node has {has}" if has else ""
        yield msgspec.structs.replace(refused, detail=f"it requires {in_words(required)}{but}")
