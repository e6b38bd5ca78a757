"""filter: the nodes on which the pod can run.

A node is refused only for what is known: its cache does not hold a model that the pod requires and
cannot fetch, its memory is promised already, or the claim cannot be opened there. Everything that
only this program sees is unresolvable: preemption's dry run never asks an extender, so a refusal
listed as resolvable would evict pods for nothing (kubernetes/pkg/scheduler/framework/preemption).
Nothing is committed: filter is asked again for nominated nodes, in retries and in simulations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from extender.placement.reasons import TEXTS, Reason
from extender.placement.verdict import Judge
from extender.verbs.context import TOO_LATE, Context, Late, ListRejected, never, not_listed
from extender.verbs.decision import Decision, decision
from extender.wire import ExtenderArgs, FilterResult

_NOBODY: Mapping[Reason, AbstractSet[str]] = {}


def filter_nodes(
    args: ExtenderArgs, context: Context, *, late: Late = never
) -> tuple[FilterResult, Decision | None]:
    """Answer one filter request; an answer that would be too late is an error, soon."""
    unsynced = context.unsynced()
    if unsynced:
        return FilterResult(error=not_listed(unsynced)), None
    judge = context.judge(args.pod)
    table = None if late() else context.refusals.of(judge, late)
    if table is None:
        return FilterResult(error=TOO_LATE), None
    passed, refused = args.names, _NOBODY
    if not args.asked <= table.passing:
        table = table.among(args.asked, judge)
        passed = tuple(filter(table.passing.__contains__, args.names))
        refused = table.refused(args.asked)
    made = decision(
        "filter",
        judge.request,
        time=judge.view.now,
        asked=len(args.names),
        passed=len(passed),
        refused={reason.value: len(names) for reason, names in refused.items()},
        examples=_examples(judge, args.names, refused),
        stale=judge.stale,
    )
    listed = not passed or context.list_rejected is ListRejected.ALWAYS
    return FilterResult(names=passed, unresolvable=table.texts(args.asked) if listed else {}), made


def _examples(
    judge: Judge, names: Sequence[str], refused: Mapping[Reason, AbstractSet[str]]
) -> dict[str, str]:
    """Say one node's detail for each reason."""
    first = {reason: next(n for n in names if n in nodes) for reason, nodes in refused.items()}
    return {
        reason.value: f"{name}: {judge.verdict(name).detail or TEXTS[reason]}"
        for reason, name in first.items()
    }
