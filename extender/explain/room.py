"""What would end a refusal of kube-scheduler itself, to paste where it can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

import msgspec

from extender.cluster.memory import MEMORY, memory_demand
from extender.cluster.requests import PODS, Amounts
from extender.cluster.requests import in_words as resource_in_words
from extender.explain.answers import NodeAnswer
from extender.explain.causes import of_models
from extender.explain.claims import claim_remedy
from extender.explain.taints import taints_remedy
from extender.kube.objects import Container, Pod, PodSpec, ResourceRequirements
from extender.kube.quantity import format_bytes, format_quantity, parse_quantity
from extender.placement.in_tree import node_has
from extender.placement.objections import InTree, Objection
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge

_MIB = 2**20
_OF_KUBERNETES = re.compile(r"([\w-]+\.)*(kubernetes|k8s)\.io/.*")
"""Labels that the kubelet and controllers set, which say what is so
(https://kubernetes.io/docs/reference/labels-annotations-taints/)."""
IF_EMPTY = "even if all pods left that can"
TOGETHER = "to end one alone would not help"


def in_tree_remedy(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    """Say what would end kube-scheduler's refusal of a node; empty where it does not refuse it.

    What else is in the way there is told, too.
    """
    objection = answer.objection
    if objection is None:
        return ""
    said = [] if objection.is_shortage else [_fixed(objection, answer.node, judge, pod)]
    for other in objection.besides:
        detail = f": {other.detail}" if other.detail else ""
        said.append(f"besides, {other.text}{detail}; {_fixed(other, answer.node, judge, pod)}")
    said += _room(answer, judge, pod)
    told = frozenset(one.reason.value for one in objection.everything)
    ours = of_models(answer, judge, frozenset(r for r in Reason if r.value not in told))
    if ours:
        said.append(f"besides, {ours}")
    if objection.besides:
        said.append(TOGETHER)
    return "; ".join(said)


def _fixed(objection: Objection, node: str, judge: Judge, pod: Pod) -> str:
    """Say what would end a refusal that has nothing to do with what is left on the node."""
    match objection.reason:
        case InTree.CORDONED | InTree.TAINT:
            return taints_remedy(objection.taints, node)
        case InTree.AFFINITY if objection.labels:
            return _to_be_selected(objection.labels, node, judge)
        case InTree.AFFINITY:
            return (
                "change spec.affinity.nodeAffinity, or the labels of the node: kubectl get node "
                f"{shlex.quote(node)} --show-labels"
            )
        case InTree.NODE_NAMED if pod.spec.node_name:
            return "leave out spec.nodeName"
        case InTree.NODE_NAMED:
            return (
                f"none: it was made for {objection.detail} alone (spec.affinity.nodeAffinity, "
                "matchFields), as a DaemonSet does"
            )
        case _:
            return claim_remedy(
                objection.reason, objection.claim, judge, storage_class=objection.storage_class
            )


def _to_be_selected(labels: Mapping[str, str], node: str, judge: Judge) -> str:
    """Say how a node gets the labels that a pod selects, where it is for people to give them."""
    if any(_OF_KUBERNETES.fullmatch(key) for key in labels):
        return (
            "change spec.nodeSelector; what the node says of itself: kubectl get node "
            f"{shlex.quote(node)} --show-labels"
        )
    given = " ".join(shlex.quote(f"{key}={value}") for key, value in labels.items())
    changed = " --overwrite" if labels.keys() & judge.view.nodes[node].labels.keys() else ""
    return (
        "change spec.nodeSelector, or, if the node is one of those: kubectl label node "
        f"{shlex.quote(node)} {given}{changed}"
    )


def _room(answer: NodeAnswer, judge: Judge, pod: Pod) -> Iterator[str]:
    """Say what lacks by requests, whether the node has so much at all, and what would fit."""
    objection = answer.objection
    if objection is None or not objection.short:
        return
    memory = max(answer.verdict.missing, objection.short.get(MEMORY, 0))
    lacking = [
        _memory(memory, size) if name == MEMORY else resource_in_words(name, size)
        for name, size in objection.short.items()
        if name != PODS
    ]
    if lacking:
        yield f"{'' if objection.is_shortage else 'besides, it '}lacks {' and '.join(lacking)}"
    never = [n for n in objection.short if not node_has(judge.view.nodes[answer.node], n)]
    if never:
        yield f"the node has no {' and no '.join(never)} at all"
    elif answer.beyond:
        yield too_small(answer)
    if not objection.is_shortage:
        return
    if set(objection.short) == {MEMORY} and answer.lacking:
        smaller = smaller_request(pod, memory)
        if smaller:
            yield f"it would fit with {smaller}"
    if not never and not answer.beyond:
        yield (
            "see who takes it: kubectl get pods --all-namespaces "
            f"--field-selector spec.nodeName={shlex.quote(answer.node)}"
        )


def too_small(answer: NodeAnswer) -> str:
    """Say that a node is too small for the pod whoever leaves it, and by how much.

    The pods of DaemonSets and of the kubelet itself do not leave.
    """
    return f"the node is too small: {in_words(answer.beyond)} would lack {IF_EMPTY}"


def in_words(amounts: Amounts) -> str:
    """Say amounts of several resources."""
    return " and ".join(amount_in_words(name, size) for name, size in amounts.items())


def amount_in_words(name: str, size: int, more: str = "") -> str:
    """Say how much of a resource lacks; ``more`` follows the figure."""
    if name == MEMORY:
        return f"{format_bytes(size)}{more} of memory"
    if name == PODS:
        return "a place for one more pod"
    return f"{resource_in_words(name, size)}{more}"


def _memory(lacking: int, by_requests: int) -> str:
    """Say how much memory lacks, and how much of that kube-scheduler sees."""
    seen = "" if lacking == by_requests else f" ({format_bytes(by_requests)} by requests alone)"
    return f"{format_bytes(lacking)} of memory{seen}"


def smaller_request(pod: Pod, missing: int) -> str:
    """Return the one request of a pod that, so much smaller, would have it fit; else empty.

    Of several containers the largest whose request alone can make the difference (bytes).
    """
    whole = memory_demand(pod).bytes
    for spec, where, size in _smaller(pod.spec, missing):
        smaller = msgspec.structs.replace(pod, spec=spec)
        if whole - memory_demand(smaller).bytes >= missing:
            return f"{where}: {format_quantity(size)}"
    return ""


def _smaller(spec: PodSpec, missing: int) -> Iterator[tuple[PodSpec, str, int]]:
    """Yield the spec with one request smaller, the field of that request, and its new size."""
    if spec.resources is not None and MEMORY in spec.resources.requests:
        size = _less(spec.resources, missing)
        if size:
            level = _requesting(spec.resources, size)
            changed = msgspec.structs.replace(spec, resources=level)
            yield changed, "spec.resources.requests.memory", size
        return
    alone = len(spec.containers) + len(spec.init_containers) == 1
    places = [("containers", spec.containers, n) for n in range(len(spec.containers))]
    places += [
        ("init_containers", spec.init_containers, n) for n in range(len(spec.init_containers))
    ]
    for field, containers, number in sorted(
        places, key=lambda place: -requested(place[1][place[2]].resources)
    ):
        container = containers[number]
        size = _less(container.resources, missing)
        if not size:
            continue
        new = msgspec.structs.replace(container, resources=_requesting(container.resources, size))
        others = (*containers[:number], new, *containers[number + 1 :])
        where = "resources.requests.memory" + ("" if alone else f" of {_name(field, container)}")
        if field == "containers":
            yield msgspec.structs.replace(spec, containers=others), where, size
        else:
            yield msgspec.structs.replace(spec, init_containers=others), where, size


def _name(field: str, container: Container) -> str:
    return f"{'' if field == 'containers' else 'init '}container {container.name}"


def requested(resources: ResourceRequirements) -> int:
    """Return the memory that a container requests, its limit where it says nothing (bytes)."""
    quantity = resources.requests.get(MEMORY, resources.limits.get(MEMORY, 0))
    return parse_quantity(quantity)


def _less(resources: ResourceRequirements, missing: int) -> int:
    """Return a request that is smaller by so much, in whole mebibytes; 0 where it cannot be."""
    return max(0, (requested(resources) - missing) // _MIB * _MIB)


def _requesting(resources: ResourceRequirements, size: int) -> ResourceRequirements:
    requests = {**resources.requests, MEMORY: size}
    return msgspec.structs.replace(resources, requests=requests)
