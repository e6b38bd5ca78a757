"""What would end a refusal of kube-scheduler itself, to paste where it can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

from extender.cluster.memory import MEMORY
from extender.cluster.requests import PODS, Amounts, is_of_a_plugin
from extender.cluster.requests import in_words as resource_in_words
from extender.explain.answers import NodeAnswer
from extender.explain.claims import claim_remedy
from extender.explain.naming import some
from extender.explain.smaller import of_unknown_content, what_would_fit, whole
from extender.explain.taints import taints_remedy
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes, parse_quantity
from extender.placement.objections import InTree, Objection
from extender.placement.verdict import Judge

_HUGE = re.compile(r"hugepages-([1-9][0-9]*[KMG])i")
"""A size of pages, as the kernel's ``hugepagesz=`` takes it (kernel-parameters.txt)."""
_TOLD_BY_MACHINES = re.compile(
    r"([\w-]+\.)*(kubernetes|k8s)\.io/.*"
    r"|nvidia\.com/(gpu\.(?!deploy\.|workload\.)|cuda\.|mig-|mig\.(capable|strategy|config\.state)).*"
    r"|(beta\.)?amd\.com/(gpu|cpu)\..*|gpu\.intel\.com/.*"
    r"|karpenter\.(sh|k8s\.aws|azure\.com)/.*|eks\.amazonaws\.com/.*|cloud\.google\.com/.*"
    r"|kubernetes\.azure\.com/.*"
)
"""Labels that the kubelet, controllers, feature discovery and cloud providers set, which say what
is so (https://kubernetes.io/docs/reference/labels-annotations-taints/,
https://github.com/NVIDIA/k8s-device-plugin/blob/main/docs/gpu-feature-discovery/README.md,
https://github.com/ROCm/k8s-device-plugin/blob/master/cmd/k8s-node-labeller/README.md)."""
IF_EMPTY = "even if all pods left that can"
TOGETHER = "to end one alone would not help"


def in_tree_remedy(answer: NodeAnswer, judge: Judge, pod: Pod, of_models: str) -> str:
    """Say what would end kube-scheduler's refusal of a node; empty where it does not refuse it.

    What else is in the way there is told, too; ``of_models`` is what its models are refused for.
    """
    objection = answer.objection
    if objection is None:
        return ""
    said = [] if objection.is_shortage else [_fixed(objection, answer.node, judge, pod)]
    for other in objection.besides:
        detail = f": {other.detail}" if other.detail else ""
        said.append(f"besides, {other.text}{detail}; {_fixed(other, answer.node, judge, pod)}")
    said += _room(answer, judge, pod)
    if of_models:
        said.append(f"besides, {of_models}")
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
    if any(_TOLD_BY_MACHINES.fullmatch(key) for key in labels):
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
    """Say what lacks, whether the node has so much at all, and what would fit."""
    objection = answer.objection
    if objection is None or not answer.short:
        return
    lacking = [
        _memory(size, objection.short.get(MEMORY, 0))
        if name == MEMORY
        else resource_in_words(name, size)
        for name, size in answer.short.items()
        if name != PODS
    ]
    if lacking:
        yield f"{'' if objection.is_shortage else 'besides, it '}lacks {' and '.join(lacking)}"
    for name in answer.without:
        yield from _without(name, answer, judge, pod)
    if answer.beyond:
        yield too_small(answer)
    yield from what_fits(answer, judge, pod)
    if objection.is_shortage and not answer.without and not answer.beyond:
        yield who_takes_it(answer.node)


def who_takes_it(node: str) -> str:
    """Say how to see the pods of a node."""
    return f"see who takes it: {_there(node)}"


def _there(node: str) -> str:
    return f"kubectl get pods --all-namespaces --field-selector spec.nodeName={shlex.quote(node)}"


def _without(resource: str, answer: NodeAnswer, judge: Judge, pod: Pod) -> Iterator[str]:
    """Say that a node has none of a resource, and what would give it some."""
    node = shlex.quote(answer.node)
    yield f"the node has no {resource} at all"
    huge = _HUGE.fullmatch(resource)
    if huge is not None:
        pages = -(-whole(pod, resource) // parse_quantity(f"{huge[1]}i"))
        yield (
            f"have its kernel set some aside (hugepagesz={huge[1]} hugepages={pages}) and start "
            f"its kubelet anew, or leave out {resource}"
        )
    elif is_of_a_plugin(resource):
        room = judge.view.nodes[answer.node].room
        domain = resource.partition("/")[0]
        others = [f"{size} {name}" for name, size in room.items() if _is_of(domain, name) and size]
        yield (
            f"its device plugin offers {some(others)}: ask for that, or have it offer {resource}: "
            f"kubectl describe node {node}"
            if others
            else f"see whether its device plugin runs: {_there(answer.node)}; kubectl describe "
            f"node {node}"
        )
    else:
        yield f"see what it has: kubectl describe node {node}"


def _is_of(domain: str, resource: str) -> bool:
    return resource.startswith(f"{domain}/")


def what_fits(answer: NodeAnswer, judge: Judge, pod: Pod) -> Iterator[str]:
    """Say what would have a node room for a pod, which then fits where amounts are all that lacks.

    Smaller requests or volumes; where none would do, less of the pods that stay, or a larger node.
    What the node has none of is told apart.
    """
    short = {name: size for name, size in answer.short.items() if name not in answer.without}
    ways = what_would_fit(judge.request, pod, short)
    if ways:
        fits = answer.lacking and not answer.without
        would = "it would fit" if fits else "there would be room"
        yield f"{would} with {', or with '.join(ways)}"
    elif answer.staying:
        one, *others = answer.staying
        who = f"of {len(others) + 1} pods that stay there" if others else "what stays there is"
        most = " takes most" if others else ""
        kept = (
            f"edit daemonset -n {shlex.quote(one.namespace)} {shlex.quote(one.daemon_set)}"
            if one.daemon_set
            else f"get pod -n {shlex.quote(one.namespace)} {shlex.quote(one.name)} -o yaml"
        )
        yield (
            f"{who} {one.namespace}/{one.name}{most}: have it request less, or keep it off the "
            f"node: kubectl {kept}"
        )
    elif answer.beyond:
        yield _what_fits_once_empty(answer, judge, pod)


def _what_fits_once_empty(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    """Say what would fit once all have left who may, where no smaller pod fits beside them."""
    ways = what_would_fit(judge.request, pod, answer.beyond)
    if ways:
        return f"once others have left, it would fit with {', or with '.join(ways)}"
    volumes = of_unknown_content(judge.request, pod) if MEMORY in answer.beyond else []
    if volumes:
        sizes = some([f"spec.volumes[{number}].emptyDir.sizeLimit" for number in volumes])
        return (
            f"only a smaller {sizes} may do, if what is written there fits into it (its size is "
            "not known); else it takes a larger node"
        )
    return "nothing smaller of it would do: it takes a larger node"


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
    said = f"{format_bytes(lacking)} of memory"
    if not by_requests:
        return f"{said} once memory-backed volumes are counted"
    if lacking == by_requests:
        return said
    return f"{said} ({format_bytes(by_requests)} by requests alone)"
