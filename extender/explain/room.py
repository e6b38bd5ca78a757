"""What would end a refusal of kube-scheduler itself, to paste where it can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

import msgspec

from extender.cluster.memory import MEMORY, memory_demand
from extender.cluster.requests import CPU, PODS, Amounts, amount, pod_requests
from extender.cluster.requests import in_words as resource_in_words
from extender.explain.answers import NodeAnswer
from extender.explain.causes import of_models
from extender.explain.claims import claim_remedy
from extender.explain.taints import taints_remedy
from extender.kube.objects import Container, Pod, PodSpec, ResourceRequirements
from extender.kube.quantity import format_bytes, format_quantity
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
    said += _room(answer, pod)
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


def _room(answer: NodeAnswer, pod: Pod) -> Iterator[str]:
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
    node = shlex.quote(answer.node)
    there = f"kubectl get pods --all-namespaces --field-selector spec.nodeName={node}"
    if answer.without:
        yield f"the node has no {' and no '.join(answer.without)} at all"
    if any(map(_is_of_a_plugin, answer.without)):
        yield f"see whether its device plugin runs: {there}; kubectl describe node {node}"
    if answer.beyond:
        yield too_small(answer)
    if not objection.is_shortage:
        return
    if len(objection.short) == 1 and answer.lacking:
        (name, short), *_ = objection.short.items()
        smaller = smaller_request(pod, memory if name == MEMORY else short, name)
        if smaller:
            yield f"it would fit with {smaller}"
    if not answer.without and not answer.beyond:
        yield f"see who takes it: {there}"


def _is_of_a_plugin(resource: str) -> bool:
    """Tell whether a device plugin tells of a resource (``nvidia.com/gpu``), not the kubelet."""
    return "/" in resource


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


def smaller_request(pod: Pod, missing: int, resource: str = MEMORY) -> str:
    """Return the one request of a pod that, so much smaller, would have it fit; else empty.

    Of several containers the largest whose request alone can make the difference.
    """
    whole = _whole(pod, resource)
    for spec, where, size in _smaller(pod.spec, missing, resource):
        smaller = msgspec.structs.replace(pod, spec=spec)
        if whole - _whole(smaller, resource) >= missing:
            return f"{where}: {_quantity(resource, size)}"
    return ""


def _whole(pod: Pod, resource: str) -> int:
    if resource == MEMORY:
        return memory_demand(pod).bytes
    return pod_requests(pod).get(resource, 0)


def _quantity(resource: str, size: int) -> str:
    if resource == CPU:
        return f"{size}m" if size % 1000 else str(size // 1000)
    return str(size) if _is_of_a_plugin(resource) else format_quantity(size)


def _smaller(spec: PodSpec, missing: int, resource: str) -> Iterator[tuple[PodSpec, str, int]]:
    """Yield the spec with one request smaller, the field of that request, and its new size."""
    if spec.resources is not None and resource in spec.resources.requests:
        size = _less(spec.resources, missing, resource)
        if size:
            level = _requesting(spec.resources, size, resource)
            changed = msgspec.structs.replace(spec, resources=level)
            yield changed, _fields(spec.resources, resource, "spec."), size
        return
    alone = len(spec.containers) + len(spec.init_containers) == 1
    places = [("containers", spec.containers, n) for n in range(len(spec.containers))]
    places += [
        ("init_containers", spec.init_containers, n) for n in range(len(spec.init_containers))
    ]
    for field, containers, number in sorted(
        places, key=lambda place: -requested(place[1][place[2]].resources, resource)
    ):
        container = containers[number]
        size = _less(container.resources, missing, resource)
        if not size:
            continue
        less = _requesting(container.resources, size, resource)
        new = msgspec.structs.replace(container, resources=less)
        others = (*containers[:number], new, *containers[number + 1 :])
        where = _fields(container.resources, resource)
        where += "" if alone else f" of {_name(field, container)}"
        if field == "containers":
            yield msgspec.structs.replace(spec, containers=others), where, size
        else:
            yield msgspec.structs.replace(spec, init_containers=others), where, size


def _fields(resources: ResourceRequirements, resource: str, of: str = "") -> str:
    """Name the fields that have to change for a smaller request.

    What cannot be overcommitted has a limit, and a request, where there is one, equal to it
    (kubernetes/pkg/apis/core/validation, ValidateContainerResourceRequirements).
    """
    request = f"{of}resources.requests.{resource}"
    if not _is_never_overcommitted(resource):
        return request
    limit = f"{of}resources.limits.{resource}"
    return f"{request} and {limit}" if resource in resources.requests else limit


def _is_never_overcommitted(resource: str) -> bool:
    return _is_of_a_plugin(resource) or resource.startswith("hugepages-")


def _name(field: str, container: Container) -> str:
    return f"{'' if field == 'containers' else 'init '}container {container.name}"


def requested(resources: ResourceRequirements, resource: str = MEMORY) -> int:
    """Return what a container requests of a resource, its limit where it says nothing."""
    return amount(resource, resources.requests.get(resource, resources.limits.get(resource, 0)))


def _less(resources: ResourceRequirements, missing: int, resource: str) -> int:
    """Return a request that is smaller by so much, of bytes whole MiB; 0 where none can be."""
    unit = 1 if resource == CPU or _is_of_a_plugin(resource) else _MIB
    return max(0, (requested(resources, resource) - missing) // unit * unit)


def _requesting(resources: ResourceRequirements, size: int, resource: str) -> ResourceRequirements:
    quantity = {resource: _quantity(resource, size)}
    changed = {"requests": {**resources.requests, **quantity}}
    if _is_never_overcommitted(resource):
        changed["limits"] = {**resources.limits, **quantity}
    return msgspec.structs.replace(resources, **changed)
