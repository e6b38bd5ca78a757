"""preempt: of the evictions that kube-scheduler considers, those that would let the pod run.

The candidates are nodes that failed in-tree, which filter never judged. One is kept where the pod's
model is there, or can be fetched, and where the node has the memory once its victims are gone. All
others would evict pods for nothing. Victims come back as they were proposed: kube-scheduler has
found that fewer do not suffice.

Where one candidate is left, kube-scheduler evicts there: the pod counts as nominated to that node
from the answer on, so that the same room is not made for a second pod before the watch tells of
the nomination (``cluster.awaited``). Where several are left, the choice is kube-scheduler's: the
next answer that this decides waits for the nomination, for a moment, and is given without it then.

Nobody is evicted elsewhere while room is made for the pod already. kube-scheduler waits for those
that it has evicted where the pod is nominated, but takes that node for lost once filter refuses it
(pkg/scheduler/framework/plugins/defaultpreemption, PodEligibleToPreemptOthers). Filter does where
kube-scheduler has heard a moment earlier than this program that they are gone.

With old knowledge nobody is evicted for a pod that needs certainty, whatever ``onStale`` says: that
is about where pods may go, which they can leave again. An eviction on a guess cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Container

from extender.cluster.view import Nominated, View
from extender.placement.evictions import NoEviction, freed, has_room_soon, refused_eviction
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.verbs.context import Context, Late, never
from extender.verbs.decision import Decision, count, decision
from extender.wire import PreemptArgs, Victims

WAIT_SECONDS = 0.5
"""So long after an answer that leaves several candidates the next one waits for the nomination, at
most: kube-scheduler writes it before it asks for the next pod, and the watch tells of it within
milliseconds."""

_LOOK_EVERY_SECONDS = 0.005
_MOST_LOOKS = round(WAIT_SECONDS / _LOOK_EVERY_SECONDS)


AGAIN_SECONDS = 5.0
"""After so long a pod is tried again of which it was not judged whether evictions help."""


def no_eviction(args: PreemptArgs, made: Decision | None, context: Context) -> NoEviction:
    """Return what follows from an answer that kept nothing; ``made`` is its decision."""
    request = context.request(args.pod)
    nominated = args.pod.status.nominated_node_name
    again_at = context.state.steady() + AGAIN_SECONDS
    if made is None:
        return NoEviction(request=request, again_at=again_at, lost=nominated, in_doubt=True)
    if Reason.OTHERS_LEAVE.value in made.refused:
        return NoEviction(request=request, again_at=again_at)
    return NoEviction(
        request=request,
        victims={name: victims.uids for name, victims in args.candidates.items()},
        again_at=context.state.awaits_nomination(args.candidates),
        lost=nominated,
        in_doubt=bool(made.stale),
        once_fresh=bool(made.stale and nominated),
    )


def preempt(
    args: PreemptArgs, context: Context, *, late: Late = never
) -> tuple[dict[str, Victims], Decision | None]:
    """Answer one preempt request: the candidates that are worth it.

    None before the first lists, and none where the answer would come too late.
    """
    if context.unsynced() or late():
        return {}, None
    judge = context.judge(args.pod)
    if _becomes_free(args, judge, context):
        refused = dict.fromkeys(args.candidates, Reason.OTHERS_LEAVE)
    else:
        judge, refused = _decide(args, judge, context, late)
    context.refused_nominations.drop(judge.request.uid)
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


def _decide(
    args: PreemptArgs, judge: Judge, context: Context, late: Late
) -> tuple[Judge, dict[str, Reason]]:
    """Have the pod awaited where it may evict; return what is refused, and by which judge."""
    refused = refused_candidates(args, judge, context)
    if _wait(args, judge, refused, context, late):
        judge = context.judge(args.pod)
        refused = refused_candidates(args, judge, context)
    while overtaken := _await(args, judge, refused, context):
        refused |= overtaken
    return judge, refused


def refused_candidates(args: PreemptArgs, judge: Judge, context: Context) -> dict[str, Reason]:
    """Return the candidates whose evictions would not help, with the reasons; commits nothing."""
    reasons = {
        node: _reason(judge, context, node, args.candidates[node]) for node in args.candidates
    }
    return {node: reason for node, reason in reasons.items() if reason is not None}


def _becomes_free(args: PreemptArgs, judge: Judge, context: Context) -> bool:
    """Tell whether the node that the pod is nominated to, refused just now, has room or will soon.

    Soon is when those are gone that kube-scheduler has evicted there. Just now is in this try of
    the pod: where kube-scheduler clears the nomination in between, it writes to the pod.
    """
    nominated, request = args.pod.status.nominated_node_name, judge.request
    refused = nominated, args.pod.metadata.resource_version
    if not nominated or context.refused_nominations.get(request.uid) != refused or judge.stale:
        return False
    making_way = context.state.making_way(nominated, request.priority)
    return has_room_soon(judge, nominated, making_way, context.state.pod)


def _wait(
    args: PreemptArgs,
    judge: Judge,
    refused: Container[str],
    context: Context,
    late: Late,
) -> bool:
    """Wait until it is known where pods go for which room was just made; return whether it was."""
    left = {node: victims for node, victims in args.candidates.items() if node not in refused}
    looks = 0
    while (
        context.pause is not None
        and looks < _MOST_LOOKS
        and not late()
        and any(_depends(judge, context, node, victims) for node, victims in left.items())
    ):
        context.pause(_LOOK_EVERY_SECONDS)
        looks += 1
    return looks > 0


def _depends(judge: Judge, context: Context, name: str, victims: Victims) -> bool:
    """Tell whether a node has the memory only if others do not come there, who may."""
    node, request = judge.view.nodes.get(name), judge.request
    others = context.state.undecided(name, request.uid, request.priority)
    if node is None or not others:
        return False
    room = judge.free(node) + freed(node, victims.uids, context.state.pod)
    return request.demand.on(node.allocatable) > room - others


def _await(
    args: PreemptArgs, judge: Judge, refused: Container[str], context: Context
) -> dict[str, Reason]:
    """Have the pod awaited on what is left of the candidates.

    Returns those that are not left any more: another pod came to be awaited there just before.
    """
    state, request = context.state, judge.request
    left = {node for node in args.candidates if node not in refused}
    known = [judge.view.nodes[node] for node in left if node in judge.view.nodes]
    demand = max(
        (request.demand.on(node.allocatable) for node in known), default=request.demand.bytes
    )
    if not (request.uid and left and demand):
        state.stop_awaiting(request.uid)
        return {}

    def overtaken(view: View) -> dict[str, Reason] | None:
        again = Judge(judge.asked, view, context.policy, stale=judge.stale)
        reasons = {node: _reason(again, context, node, args.candidates[node]) for node in left}
        return {node: reason for node, reason in reasons.items() if reason is not None} or None

    nominated = Nominated(uid=request.uid, priority=request.priority, bytes=demand)
    awaited = context.hold_seconds if len(left) == 1 else WAIT_SECONDS
    expires = state.steady() + awaited
    return state.await_nomination(nominated, left, expires, overtaken) or {}


def _reason(judge: Judge, context: Context, node: str, victims: Victims) -> Reason | None:
    return refused_eviction(judge, node, victims.uids, context.state.pod)
