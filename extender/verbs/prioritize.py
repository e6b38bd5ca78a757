"""prioritize: how soon the pod would serve on each node, as a score from 0 to 10.

Every node asked about is in the answer: kube-scheduler breaks ties at random only among nodes that
an extender scored. Where nodes do not differ for this pod, all get 0 and others decide.
"""

from __future__ import annotations

from extender.placement.score import crowding_seconds, scores
from extender.placement.verdict import Judge
from extender.verbs.context import Context
from extender.verbs.decision import Decision, decision
from extender.wire import ExtenderArgs

_KEPT_SCORES = 10


def prioritize_nodes(
    args: ExtenderArgs, context: Context
) -> tuple[list[tuple[str, int]], Decision | None]:
    """Answer one prioritize request: each node with its score."""
    if context.unsynced():
        return [(name, 0) for name in args.names], None
    judge = context.judge(args.pod)
    table = node_scores(judge, args.names)
    ranked = [(name, table.get(name, 0)) for name in args.names]
    best = sorted(ranked, key=lambda entry: -entry[1])[:_KEPT_SCORES]
    made = decision(
        "prioritize",
        judge.request,
        time=judge.view.now,
        asked=len(args.names),
        passed=len(args.names),
        scores=dict(best),
        stale=judge.stale,
    )
    return ranked, made


def node_scores(judge: Judge, names: tuple[str, ...]) -> dict[str, int]:
    """Score the known nodes of a request; empty where the pod has no preference among them."""
    if not judge.has_preference and not judge.request.demand.volume_bytes:
        return {}
    nodes = judge.view.nodes
    demand = judge.request.demand
    seconds = {}
    for name in names:
        node = nodes.get(name)
        if node is None:
            continue
        crowding = crowding_seconds(node, demand.on(node.allocatable)) if demand.volumes else 0.0
        seconds[name] = judge.start(node).seconds + crowding
    return scores(seconds, judge.policy)
