"""filter: the nodes on which the pod can run.

A node is refused only for what is known: its cache does not hold a model that the pod requires and
cannot fetch, its memory is promised already, or the claim cannot be opened there. Everything that
only this program sees is unresolvable: preemption's dry run never asks an extender, so a refusal
listed as resolvable would evict pods for nothing (kubernetes/pkg/scheduler/framework/preemption).
Nothing is committed: filter is asked again for nominated nodes, in retries and in simulations.
"""

from __future__ import annotations

from extender.placement.reasons import TEXTS, Reason
from extender.placement.verdict import Judge
from extender.verbs.context import (
    LOOK_AT_THE_CLOCK_EVERY,
    TOO_LATE,
    Context,
    Late,
    ListRejected,
    never,
    not_listed,
)
from extender.verbs.decision import Decision, count, decision
from extender.wire import ExtenderArgs, FilterResult


def filter_nodes(
    args: ExtenderArgs, context: Context, *, late: Late = never
) -> tuple[FilterResult, Decision | None]:
    """Answer one filter request; an answer that would be too late is an error, soon."""
    unsynced = context.unsynced()
    if unsynced:
        return FilterResult(error=not_listed(unsynced)), None
    judge = context.judge(args.pod)
    passed: list[str] = []
    refused: dict[str, Reason] = {}
    for index, name in enumerate(args.names):
        if index % LOOK_AT_THE_CLOCK_EVERY == 0 and late():
            return FilterResult(error=TOO_LATE), None
        reason = judge.reason(name)
        if reason is None:
            passed.append(name)
        else:
            refused[name] = reason
    made = decision(
        "filter",
        judge.request,
        time=judge.view.now,
        asked=len(args.names),
        passed=len(passed),
        refused=count(refused),
        examples=_examples(judge, refused),
        stale=judge.stale,
    )
    listed = not passed or context.list_rejected is ListRejected.ALWAYS
    texts = {name: TEXTS[reason] for name, reason in refused.items()} if listed else {}
    return FilterResult(names=passed, unresolvable=texts), made


def _examples(judge: Judge, refused: dict[str, Reason]) -> dict[str, str]:
    """Say one node's detail for each reason."""
    first: dict[Reason, str] = {}
    for name, reason in refused.items():
        if reason not in first:
            first[reason] = name
    return {
        reason.value: f"{name}: {judge.verdict(name).detail or TEXTS[reason]}"
        for reason, name in first.items()
    }
