"""What a node says to a pod in the end: kube-scheduler's own refusal, and the verdict of ours.

kube-scheduler asks an extender only about the nodes that it does not refuse itself, so its refusal
is the one that is told; what the node's cache holds, and what lacks besides, is known all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from extender.cluster.memory import MEMORY
from extender.cluster.requests import Amounts
from extender.cluster.view import PodFacts
from extender.placement.in_tree import WOULD_END, InTree, Objection, Objections, all_requests
from extender.placement.reasons import TEXTS, WAITS_FOR, Reason
from extender.placement.verdict import Judge, Verdict
from extender.workload.constraints import Constraints

KUBE_SCHEDULER, EXTENDER = "kube-scheduler", "extender"
_AMOUNTS = frozenset(
    {InTree.TOO_MANY_PODS, InTree.INSUFFICIENT_MEMORY, InTree.INSUFFICIENT_RESOURCES}
)


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One node's answer."""

    verdict: Verdict
    objection: Objection | None = None

    @property
    def node(self) -> str:
        """Return the node's name."""
        return self.verdict.node

    @property
    def fits(self) -> bool:
        """Tell whether the pod may go there."""
        return self.objection is None and self.verdict.fits

    @property
    def by(self) -> str | None:
        """Return who refuses it; None where it fits."""
        if self.objection is not None:
            return KUBE_SCHEDULER
        return None if self.verdict.fits else EXTENDER

    @property
    def reason(self) -> InTree | Reason | None:
        """Return the token of what refuses it."""
        return self.verdict.reason if self.objection is None else self.objection.reason

    @property
    def text(self) -> str:
        """Return the stable text of what refuses it; empty where it fits."""
        if self.objection is not None:
            return self.objection.text
        return TEXTS[self.verdict.reason] if self.verdict.reason is not None else ""

    @property
    def detail(self) -> str:
        """Return what else is to be said of the refusal."""
        return self.verdict.detail if self.objection is None else self.objection.detail

    @property
    def would_end(self) -> str:
        """Return what a pod that waits for this node waits for; empty where it fits."""
        if self.objection is not None:
            return WOULD_END[self.objection.reason]
        return WAITS_FOR[self.verdict.reason] if self.verdict.reason is not None else ""

    @property
    def lacking(self) -> Amounts:
        """Return what lacks by resource where amounts are all that refuses; else nothing.

        Of memory what lacks once memory-backed volumes are counted.
        """
        if self.verdict.reason not in {None, Reason.INSUFFICIENT_MEMORY}:
            return {}
        if self.objection is not None and self.objection.reason not in _AMOUNTS:
            return {}
        short = dict(self.objection.short) if self.objection is not None else {}
        memory = max(short.get(MEMORY, 0), self.verdict.missing)
        return {MEMORY: memory} | short | {MEMORY: memory} if memory else short


def answers_for(
    judge: Judge,
    names: Sequence[str],
    pods: Iterable[PodFacts],
    *,
    requests: Amounts,
    asked: Constraints,
) -> list[NodeAnswer]:
    """Ask nodes about a pod; ``requests`` are its own beside memory, ``pods`` the cluster's.

    A pod that runs has chosen its node: kube-scheduler is not asked about that one again, and
    about others as though it had not.
    """
    request = judge.request
    if request.node:
        asked = msgspec.structs.replace(asked, node_name="")
    objections = Objections(judge.view.nodes, pods, asked, uid=request.uid)
    wanted = all_requests(requests, request.demand)
    return [
        NodeAnswer(
            verdict=judge.verdict(name),
            objection=None if name == request.node else objections.of(wanted, name),
        )
        for name in names
    ]
