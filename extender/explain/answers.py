"""What a node says to a pod in the end: kube-scheduler's own refusal, and the verdict of ours.

kube-scheduler asks an extender only about the nodes that it does not refuse itself, so its refusal
is the one that is told; what the node's cache holds, and what lacks besides, is known all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.cluster.memory import MEMORY
from extender.cluster.requests import Amounts
from extender.cluster.view import PodFacts
from extender.explain.size import Sizes
from extender.explain.taints import ends_taints
from extender.placement.estimate import Start
from extender.placement.in_tree import Objections, all_requests
from extender.placement.objections import WOULD_END, InTree, Objection
from extender.placement.reasons import TEXTS, WAITS_FOR, Reason
from extender.placement.verdict import Judge, Verdict
from extender.workload.constraints import Constraints

KUBE_SCHEDULER, EXTENDER = "kube-scheduler", "extender"


class NodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One node's answer; ``beyond`` is what the pod wants beyond what the node could ever give.

    ``without`` are the resources that the pod wants and the node has none of, ``staying`` the pods
    of DaemonSets and of the kubelet without which it would be large enough, the largest first.
    ``elsewhere``: what keeps the pod from starting there that nobody refuses it for.
    """

    verdict: Verdict
    objection: Objection | None = None
    beyond: Amounts = {}
    without: tuple[str, ...] = ()
    staying: tuple[PodFacts, ...] = ()
    elsewhere: str = ""

    @property
    def node(self) -> str:
        """Return the node's name."""
        return self.verdict.node

    @property
    def fits(self) -> bool:
        """Tell whether the pod may go there."""
        return self.objection is None and self.verdict.fits

    @property
    def start(self) -> Start | None:
        """Return the estimated start; None where nothing is known of what would be loaded."""
        start = self.verdict.start
        return start if start is not None and start.is_told else None

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
        if self.lacking or (self.objection and self.objection.is_shortage):
            needs = [f"has {' and '.join(self.without)}"] if self.without else []
            needs += ["is large enough"] if self.beyond else []
            if needs:
                return f"a node that {' and '.join(needs)}"
        if self.objection is not None:
            return ends_taints(self.objection.taints) or WOULD_END[self.objection.reason]
        return WAITS_FOR[self.verdict.reason] if self.verdict.reason is not None else ""

    @property
    def lacking(self) -> Amounts:
        """Return what lacks by resource where amounts are all that refuses; else nothing."""
        if self.verdict.reason not in {None, Reason.INSUFFICIENT_MEMORY}:
            return {}
        if self.objection is not None and not self.objection.is_shortage:
            return {}
        return self.short

    @property
    def short(self) -> Amounts:
        """Return what lacks by resource, memory first, whatever else refuses the node.

        Of memory what lacks once memory-backed volumes are counted.
        """
        short = dict(self.objection.short) if self.objection is not None else {}
        memory = max(short.get(MEMORY, 0), self.verdict.missing)
        return {MEMORY: memory} | short | {MEMORY: memory} if memory else short


class Answers(msgspec.Struct, frozen=True):
    """What the nodes answer, and what could refuse one and was ``not_judged``."""

    nodes: list[NodeAnswer]
    not_judged: tuple[str, ...]


def answers_for(
    judge: Judge,
    pods: Sequence[PodFacts],
    *,
    requests: Amounts,
    asked: Constraints,
    number: int = 0,
) -> Answers:
    """Ask all nodes about a pod; ``requests`` are its own beside memory, ``pods`` the cluster's.

    ``number`` is which of its workload's pods it is, from 0.

    A pod that runs has chosen its node: kube-scheduler is not asked about that one again, and
    about others as though it had not.
    """
    request, view = judge.request, judge.view
    if request.node:
        asked = msgspec.structs.replace(asked, node_name="")
    objections = Objections(
        view,
        pods,
        asked,
        namespace=request.namespace,
        references=request.workload.references,
        uid=request.uid,
    )
    wanted = all_requests(requests, request.demand)
    sizes = Sizes(view, pods, request, requests)
    has_claims = bool(objections.claims(number))
    answers = [
        NodeAnswer(
            verdict=judge.verdict(name),
            objection=None if name == request.node else objections.of(wanted, name, number=number),
            beyond=sizes.beyond(name),
            without=sizes.without(name),
            staying=sizes.staying(name),
            elsewhere=objections.elsewhere(name, number=number) if has_claims else "",
        )
        for name in sorted(view.nodes)
    ]
    return Answers(answers, objections.not_judged())


def refusal_message(answer: NodeAnswer, remedy: str) -> str:
    """Say why a node refuses a pod, in detail, and what would end that; empty where it fits."""
    detail = f": {answer.detail}" if answer.detail else ""
    return f"{answer.text}{detail}" + (f"; {remedy}" if remedy else "")
