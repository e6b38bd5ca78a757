"""prioritize: how soon the pod would serve on each node, as a score from 0 to 10.

Every node asked about is in the answer: kube-scheduler breaks ties at random only among nodes that
an extender scored. Where nodes do not differ for this pod, or the knowledge of them is too old, all
get 0 and others decide.

A pod with memory-backed volumes is different: kube-scheduler does not see that the node it chose
last has less room now. So one of several equally good nodes is put a point ahead, and its memory is
held for the pod for a few seconds: the next pod of a burst is sent to another one. Bind turns the
hold into a reservation, wherever the pod went.
"""

from __future__ import annotations

from collections.abc import Mapping

from extender.cluster.reservations import Reservation
from extender.placement.estimate import Start
from extender.placement.score import crowding_seconds, scores
from extender.placement.verdict import Judge
from extender.verbs.context import Context, Late, never
from extender.verbs.decision import Decision, decision
from extender.wire import ExtenderArgs

_KEPT_SCORES = 10


def prioritize_nodes(
    args: ExtenderArgs, context: Context, *, late: Late = never
) -> tuple[list[tuple[str, int]], Decision | None]:
    """Answer one prioritize request: each node with its score, all 0 where time has run out."""
    if context.unsynced() or late():
        return [(name, 0) for name in args.names], None
    judge = context.judge(args.pod)
    starts = _starts(judge, args.names)
    table = _scores(judge, starts)
    if table and judge.request.uid and judge.request.demand.volume_bytes:
        table = _lead(table, judge)
        _hold(max(table, key=lambda name: table[name]), judge, context)
    ranked = [(name, table.get(name, 0)) for name in args.names]
    best = sorted(ranked, key=lambda entry: -entry[1])[:_KEPT_SCORES]
    made = decision(
        "prioritize",
        judge.request,
        time=judge.view.now,
        asked=len(args.names),
        passed=len(args.names),
        scores=dict(best),
        starts={name: starts[name].seconds for name, _ in best if name in starts},
        slowest=max((start.seconds for start in starts.values()), default=None),
        stale=judge.stale,
    )
    return ranked, made


def _lead(table: dict[str, int], judge: Judge) -> dict[str, int]:
    """Put the roomiest of the best nodes one point before the others."""
    top = max(table.values())
    equal = [name for name, score in table.items() if score == top]
    first = max(equal, key=lambda name: (judge.free(judge.view.nodes[name]), name))
    return table | {name: top - 1 for name in equal if name != first}


def _hold(name: str, judge: Judge, context: Context) -> None:
    """Keep the memory where the pod is expected to be bound."""
    allocatable = judge.view.nodes[name].allocatable
    context.state.hold(
        Reservation(
            uid=judge.request.uid,
            node=name,
            bytes=judge.request.demand.on(allocatable),
            expires=judge.view.now + context.hold_seconds,
            firm=False,
        )
    )


def node_scores(judge: Judge, names: tuple[str, ...]) -> dict[str, int]:
    """Score the known nodes of a request.

    Empty where the pod has no preference among them, or where what is known is too old to trust.
    """
    return _scores(judge, _starts(judge, names))


def _starts(judge: Judge, names: tuple[str, ...]) -> dict[str, Start]:
    if judge.stale or not (judge.has_preference or judge.request.demand.volume_bytes):
        return {}
    nodes = judge.view.nodes
    return {name: judge.start(nodes[name]) for name in names if name in nodes}


def _scores(judge: Judge, starts: Mapping[str, Start]) -> dict[str, int]:
    demand = judge.request.demand
    seconds = {}
    for name, start in starts.items():
        seconds[name] = start.seconds
        if demand.volumes:
            node = judge.view.nodes[name]
            wanted = demand.on(node.allocatable)
            seconds[name] += crowding_seconds(node.allocatable, judge.free(node), wanted)
    return scores(seconds, judge.policy)
