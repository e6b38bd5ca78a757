"""What would end a refusal of kube-scheduler itself, to paste where it can be pasted."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from extender.cluster.memory import MEMORY, memory_demand
from extender.cluster.requests import PODS
from extender.cluster.requests import in_words as amount_in_words
from extender.explain.answers import NodeAnswer
from extender.kube.objects import Container, Pod, PodSpec, ResourceRequirements, Taint
from extender.kube.quantity import format_bytes, format_quantity, parse_quantity
from extender.placement.in_tree import InTree, Objection, node_has
from extender.placement.verdict import Judge

_MIB = 2**20


def in_tree_remedy(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    """Say what would end kube-scheduler's refusal of a node; empty where it does not refuse it."""
    objection, node = answer.objection, answer.node
    if objection is None:
        return ""
    match objection.reason:
        case InTree.CORDONED:
            return f"kubectl uncordon {node}"
        case InTree.TAINT:
            return _toleration(objection.taint or Taint())
        case InTree.AFFINITY:
            return (
                "change spec.nodeSelector or spec.affinity.nodeAffinity, or the labels of the "
                f"node: kubectl get node {node} --show-labels"
            )
        case InTree.NODE_NAMED:
            return "leave out spec.nodeName"
        case _:
            return _room(objection, answer, judge, pod)


def _toleration(taint: Taint) -> str:
    value = f', value: "{taint.value}"' if taint.value else ""
    operator = "Equal" if taint.value else "Exists"
    return (
        f"if it may run there: spec.tolerations: [{{key: {taint.key}, operator: {operator}{value}, "
        f"effect: {taint.effect}}}]"
    )


def _room(objection: Objection, answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    """Say what lacks, whether the node has so much at all, and what would fit."""
    view = judge.view.nodes[answer.node]
    memory = max(answer.verdict.missing, objection.short.get(MEMORY, 0))
    lacking = [
        _memory(memory, size) if name == MEMORY else amount_in_words(name, size)
        for name, size in objection.short.items()
        if name != PODS
    ]
    said = [f"lacks {' and '.join(lacking)}"] if lacking else []
    never = [name for name in objection.short if not node_has(view, name)]
    if never:
        said.append(f"the node has no {' and no '.join(never)} at all")
    if set(objection.short) == {MEMORY}:
        smaller = smaller_request(pod, memory)
        if smaller:
            said.append(f"it would fit with {smaller}")
    if not never:
        said.append(
            "see who takes it: kubectl get pods --all-namespaces "
            f"--field-selector spec.nodeName={answer.node}"
        )
    return "; ".join(said)


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
        places, key=lambda place: -_requested(place[1][place[2]].resources)
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


def _requested(resources: ResourceRequirements) -> int:
    quantity = resources.requests.get(MEMORY, resources.limits.get(MEMORY, 0))
    return parse_quantity(quantity)


def _less(resources: ResourceRequirements, missing: int) -> int:
    """Return a request that is smaller by so much, in whole mebibytes; 0 where it cannot be."""
    return max(0, (_requested(resources) - missing) // _MIB * _MIB)


def _requesting(resources: ResourceRequirements, size: int) -> ResourceRequirements:
    requests = {**resources.requests, MEMORY: size}
    return msgspec.structs.replace(resources, requests=requests)
