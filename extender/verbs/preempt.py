"""preempt: of the evictions that kube-scheduler considers, those that would let the pod run.

The candidates are nodes that failed in-tree, which filter never judged. One is kept where the pod's
model is there, or can be fetched, and where the node has the memory once its victims are gone. All
others would evict pods for nothing. Victims come back as they were proposed: kube-scheduler has
found that fewer do not suffice.

Where one candidate is left, kube-scheduler evicts there: the pod counts as nominated to that node
from the answer on, so that the same room is not made for a second pod before the watch tells of
the nomination (``cluster.awaited``). Where several are left, the choice is kube-scheduler's.

With old knowledge nobody is evicted for a pod that needs certainty, whatever ``onStale`` says: that
is about where pods may go, which they can leave again. An eviction on a guess cannot be taken back.
"""

from __future__ import annotations

from extender.cluster.view import Nominated, View
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
    refused = refused_candidates(args, judge, context)
    left = args.candidates.keys() - refused.keys()
    if len(left) == 1:
        (node,) = left
        reason = _await(node, args, judge, context)
        if reason is not None:
            refused[node] = reason
    else:  # what was answered before counts no more
        context.state.stop_awaiting(judge.request.uid)
    kept = {node: victims for node, victims in args.candidates.items() if node not in refused}
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


def refused_candidates(args: PreemptArgs, judge: Judge, context: Context) -> dict[str, Reason]:
    """Return the candidates whose evictions would not help, with the reasons; commits nothing."""
    reasons = {
        node: _reason(judge, context, node, args.candidates[node]) for node in args.candidates
    }
    return {node: reason for node, reason in reasons.items() if reason is not None}


def _await(node: str, args: PreemptArgs, judge: Judge, context: Context) -> Reason | None:
    """Count the pod as nominated to the only node that is left, unless another just was."""
    request, known = judge.request, judge.view.nodes.get(node)
    demand = request.demand.on(known.allocatable) if known is not None else 0
    if not (request.uid and demand):
        return None

    def refused(view: View) -> Reason | None:
        again = Judge(judge.asked, view, context.policy, stale=judge.stale)
        return _reason(again, context, node, args.candidates[node])

    nominated = Nominated(uid=request.uid, priority=request.priority, bytes=demand)
    expires = context.state.steady() + context.hold_seconds
    return context.state.await_nomination(nominated, node, expires, refused)


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
