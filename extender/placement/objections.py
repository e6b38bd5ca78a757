"""Why kube-scheduler refuses a node: the tokens, what would end each, and one refusal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from extender.cluster.requests import Amounts
from extender.kube.objects import Taint


class InTree(StrEnum):
    """CamelCase tokens, beside those of ``reasons``: on the wire kube-scheduler says its own."""

    NODE_NAMED = "AnotherNodeNamed"
    CORDONED = "NodeCordoned"
    TAINT = "UntoleratedTaint"
    AFFINITY = "NodeAffinityMismatch"
    CLAIM_MISSING = "ClaimMissing"
    CLAIM_DELETED = "ClaimBeingDeleted"
    CLAIM_NOT_BOUND = "ClaimNotBound"
    CLAIM_UNREACHABLE = "ClaimUnreachable"
    CLAIM_IN_USE = "ClaimInUse"
    TOO_MANY_PODS = "TooManyPods"
    INSUFFICIENT_MEMORY = "InsufficientMemory"
    INSUFFICIENT_RESOURCES = "InsufficientResources"


CORDON = "node.kubernetes.io/unschedulable"
"""The key of the taint that a cordoned node has."""

WOULD_END: dict[InTree, str] = {
    InTree.NODE_NAMED: "the node that it names",
    InTree.CORDONED: "a node to be uncordoned",
    InTree.TAINT: "a node whose taints it tolerates",
    InTree.AFFINITY: "a node that its selector and affinity match",
    InTree.CLAIM_MISSING: "its claim to be created",
    InTree.CLAIM_DELETED: "its claim to be made anew",
    InTree.CLAIM_NOT_BOUND: "its claim to be bound",
    InTree.CLAIM_UNREACHABLE: "a node that the claim's volume can be mounted on",
    InTree.CLAIM_IN_USE: "the pod that has its claim to leave",
    InTree.TOO_MANY_PODS: "other pods to leave, or another node",
    InTree.INSUFFICIENT_MEMORY: "other pods to leave, or a node with more memory",
    InTree.INSUFFICIENT_RESOURCES: "other pods to leave, or a node with more of what it requests",
}
"""For people: the rest of a sentence that begins with "the pod waits for"."""


SHORTAGES = frozenset(
    {InTree.TOO_MANY_PODS, InTree.INSUFFICIENT_MEMORY, InTree.INSUFFICIENT_RESOURCES}
)


class Objection(msgspec.Struct, frozen=True, kw_only=True):
    """Why kube-scheduler refuses a node.

    ``text`` is its own, as far as that is short; ``detail`` is ours. ``short`` has what is lacking
    by resource (memory in bytes, CPU in thousandths), also beside another reason. ``taints`` are
    all that keep the pod out, a cordon among them; ``labels`` what its node selector asks for and
    the node has not; ``claim`` is the one that keeps it out, and ``storage_class`` its class where
    that is why. ``besides`` is what else is in the way, which
    kube-scheduler does not come to.
    """

    reason: InTree
    text: str
    detail: str = ""
    short: Amounts = {}
    taints: tuple[Taint, ...] = ()
    labels: Mapping[str, str] = {}
    claim: str = ""
    storage_class: str = ""
    besides: tuple[Objection, ...] = ()

    @property
    def everything(self) -> tuple[Objection, ...]:
        """Return all that is in the way, this first."""
        return (self, *self.besides)

    @property
    def is_shortage(self) -> bool:
        """Tell whether amounts are all that is in the way."""
        return self.reason in SHORTAGES


def together(objections: Iterable[Objection]) -> Objection | None:
    """Return the first objection with all others besides; None without any."""
    found = tuple(objections)
    if len(found) < 2:
        return next(iter(found), None)
    return msgspec.structs.replace(found[0], besides=found[1:])
