"""filter: the nodes on which the pod can run.

A node is refused only for what is known: its cache does not hold a model that the pod requires and
cannot fetch, its memory is promised already, or the claim cannot be opened there. Everything that
only this program sees is unresolvable: preemption's dry run never asks an extender, so a refusal
listed as resolvable would evict pods for nothing (kubernetes/pkg/scheduler/framework/preemption).
Nothing is committed: filter is asked again for nominated nodes, in retries and in simulations.

Where more nodes fit than kube-scheduler would look for by itself, a pod that is asked about for
the first time is offered the best of them (``placement.narrowing``): scoring thousands of nodes is
most of what a pod costs kube-scheduler. Not in a chain of extenders, where another one may refuse
all of these.
"""

from __future__ import annotations

from collections.abc import Sequence

from extender.placement.narrowing import enough, narrowed, prefers_nodes
from extender.placement.reasons import TEXTS
from extender.placement.refusals import Found
from extender.placement.verdict import Judge
from extender.verbs.context import TOO_LATE, Context, Late, ListRejected, never, not_listed
from extender.verbs.decision import Decision, decision
from extender.verbs.prioritize import expected
from extender.wire import ExtenderArgs, FilterResult


def filter_nodes(
    args: ExtenderArgs, context: Context, *, late: Late = never
) -> tuple[FilterResult, Decision | None]:
    """Answer one filter request; an answer that would be too late is an error, soon."""
    unsynced = context.unsynced()
    if unsynced:
        return FilterResult(error=not_listed(unsynced)), None
    first = context.remembered(args.pod.metadata.uid) is None
    judge = context.judge(args.pod)
    table = None if late() else context.refusals.of(judge, late)
    if table is None:
        return FilterResult(error=TOO_LATE), None
    found = table.find(args.names, args.asked, judge)
    _note_nomination(args, found, context)
    offered, slowest = _offered(args, found, judge, context, late) if first else (found.names, None)
    made = decision(
        "filter",
        judge.request,
        time=judge.view.now,
        asked=len(args.names),
        passed=len(found.names),
        offered=len(offered) if len(offered) < len(found.names) else None,
        slowest=slowest,
        refused={reason.value: count for reason, count in found.refused.items()},
        examples={
            reason.value: f"{name}: {judge.verdict(name).detail or TEXTS[reason]}"
            for reason, name in found.examples.items()
        },
        stale=judge.stale,
    )
    listed = not found.names or context.list_rejected is ListRejected.ALWAYS
    texts = found.table.texts(args.asked) if listed else {}
    return FilterResult(names=offered, unresolvable=texts), made


def _note_nomination(args: ExtenderArgs, found: Found, context: Context) -> None:
    """Note for preempt whether the node that the pod is nominated to was refused just now."""
    metadata, nominated = args.pod.metadata, args.pod.status.nominated_node_name
    if nominated and nominated in args.asked and nominated not in found.passed:
        context.refused_nominations.put(metadata.uid, (nominated, metadata.resource_version))
    elif nominated:
        context.refused_nominations.drop(metadata.uid)


def _offered(
    args: ExtenderArgs, found: Found, judge: Judge, context: Context, late: Late
) -> tuple[Sequence[str], float | None]:
    """Return the nodes that kube-scheduler is to choose from; all of them where in doubt.

    Beside them, where some are left out, the seconds of the slowest start on any that passed.
    """
    room = enough(len(judge.view.nodes), context.offered_percentage)
    everyone = found.names, None
    chained = context.list_rejected is ListRejected.ALWAYS
    if len(found.names) <= room or chained or not args.pod.metadata.uid or prefers_nodes(args.pod):
        return everyone
    all_of_them = expected(found.passed, judge, context, late=late)
    if all_of_them is None:
        return everyone
    offered = narrowed(found.passed, all_of_them.ranks, room, judge.view, context.draw)
    return (offered, all_of_them.slowest) if offered else everyone
