"""preempt: of the evictions that kube-scheduler considers, those that would let the pod run.

The candidates are nodes that failed in-tree, which filter never judged. One is kept where the pod's
model is there, or can be fetched, and where the node has the memory once its victims are gone. All
others would evict pods for nothing. Victims come back as they were proposed: kube-scheduler has
found that fewer do not suffice.

With old knowledge nobody is evicted for a pod that needs certainty, whatever ``onStale`` says: that
is about where pods may go, which they can leave again. An eviction on a guess cannot be taken back.
"""

from __future__ import annotations

from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.verbs.context import Context, Late, never
from extender.verbs.decision import Decision, count, decision
from extender.wire import PreemptArgs, Victims


def preempt(
    args: PreemptArgs, context: Context, *, late: Late = never
) -> tuple[dict[str, Victims], Decision | None]:
    """Answer one preempt request: the candidates that are worth it.

    None before the first lists, and none where the answer would come too late.
    """
    if context.unsynced() or late():
        return {}, None
    judge = context.judge(args.pod)
    kept: dict[str, Victims] = {}
    refused: dict[str, Reason] = {}
    for node, victims in args.candidates.items():
        reason = _reason(judge, context, node, victims)
        if reason is None:
            kept[node] = victims
        else:
            refused[node] = reason
    made = decision(
        "preempt",
        judge.request,
        time=judge.view.now,
        asked=len(args.candidates),
        passed=len(kept),
        refused=count(refused),
        stale=judge.stale,
    )
    return kept, made


def _reason(judge: Judge, context: Context, node: str, victims: Victims) -> Reason | None:
    if judge.stale and judge.request.needs_certainty:
        return Reason.KNOWLEDGE_STALE
    return judge.reason(node, freed=_freed(judge, context, node, victims))


def _freed(judge: Judge, context: Context, node: str, victims: Victims) -> int:
    """Return the bytes of a node's memory that its victims count for."""
    known = judge.view.nodes.get(node)
    if known is None:
        return 0
    pods = (context.state.pod(uid) for uid in victims.uids)
    return sum(
        pod.demand.on(known.allocatable)
        for pod in pods
        if pod is not None and pod.node == node and pod.counts
    )
