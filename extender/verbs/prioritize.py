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

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import islice

import msgspec

from extender.cluster.reservations import Reservation
from extender.placement.narrowing import Rank
from extender.placement.score import MAX_SCORE, scores
from extender.placement.starts import Starts, seconds_on
from extender.placement.verdict import Judge
from extender.verbs.context import Context, Late, never
from extender.verbs.decision import Decision, decision
from extender.wire import ExtenderArgs, Ranking

_KEPT_SCORES = 10


def prioritize_nodes(
    args: ExtenderArgs, context: Context, *, late: Late = never
) -> tuple[Ranking, Decision | None]:
    """Answer one prioritize request: each node with its score, all 0 where time has run out."""
    nothing = Ranking([(0, args.names)], alike=args.asked)
    if context.unsynced() or late():
        return nothing, None
    judge = context.judge(args.pod)
    ranking, slowest = nothing, None
    table: Starts | None = None
    if _is_particular(judge):
        table = context.starts.of(judge, late)
        if table is None:
            return nothing, None
        order = table.among(args.names, args.asked)
        if order:
            ranking = _ranking(args, order, table, judge, context)
            slowest = _slowest(order[-1], table, judge)
    best = dict(islice(ranking, _KEPT_SCORES))
    starts = {} if table is None or ranking is nothing else _starts(judge, table, best)
    made = decision(
        "prioritize",
        judge.request,
        time=judge.view.now,
        asked=len(args.names),
        passed=len(args.names),
        scores=best,
        starts=starts,
        slowest=slowest,
        stale=judge.stale,
    )
    return ranking, made


def _ranking(
    args: ExtenderArgs, order: Sequence[str], table: Starts, judge: Judge, context: Context
) -> Ranking:
    """Return every node with its score; one that is not known has none.

    ``order`` has the known ones, the soonest first.
    """
    scores = table.scores(table.answers[order[0]], judge.policy, most=_most(judge))
    groups = [(its, order[begin:end]) for its, begin, end in table.groups(order, scores)]
    written = None
    if _puts_one_ahead(judge):
        _hold(order[0], judge, context)
        its, equal = groups[0]
        groups[:1] = [(MAX_SCORE, equal[:1]), (its, equal[1:])]
    else:
        written = table.written(args.asked, scores)
    if len(order) < len(args.names):
        groups.append((0, [name for name in args.names if name not in table.answers]))
    return Ranking(groups, table.entries, written=written)


def _is_particular(judge: Judge) -> bool:
    """Tell whether nodes differ for the pod, as far as is known and can be trusted."""
    return not judge.stale and (judge.has_preference or judge.request.demand.volume_bytes > 0)


def _puts_one_ahead(judge: Judge) -> bool:
    return bool(judge.request.uid and judge.request.demand.volume_bytes)


def _most(judge: Judge) -> int:
    return MAX_SCORE - 1 if _puts_one_ahead(judge) else MAX_SCORE


class Expected(msgspec.Struct, frozen=True):
    """Nodes by what they would score, and the seconds of the slowest start on one that passed."""

    ranks: Iterable[Rank]
    slowest: float | None = None


def expected(
    passed: AbstractSet[str], judge: Judge, context: Context, *, late: Late
) -> Expected | None:
    """Say what prioritize would, before it puts one node ahead; None where time has run out."""
    nodes = judge.view.nodes
    alike = Expected([Rank(len(nodes), nodes.keys, partial(filter, nodes.keys().__contains__))])
    if not _is_particular(judge):
        return alike
    table = context.starts.of(judge, late)
    if table is None:
        return None
    order, known = table.order, passed.__contains__
    soonest, slowest = next(filter(known, order), None), next(filter(known, reversed(order)), None)
    if soonest is None or slowest is None:
        return alike
    ranks = table.ranks(table.answers[soonest], judge.policy, most=_most(judge))
    return Expected(ranks, _slowest(slowest, table, judge))


def _slowest(name: str, table: Starts, judge: Judge) -> float:
    """Return the seconds of the slowest start; ``name`` is the last node in order."""
    if not _counts_crowding(judge):
        return table.answers[name]
    return judge.start(judge.view.nodes[name]).seconds


def _starts(judge: Judge, table: Starts, names: Iterable[str]) -> dict[str, float]:
    """Return the estimated starts on the known ones of these nodes."""
    nodes, answers = judge.view.nodes, table.answers
    known = (name for name in names if name in nodes and name in answers)
    if _counts_crowding(judge):
        return {name: judge.start(nodes[name]).seconds for name in known}
    return {name: answers[name] for name in known}


def _counts_crowding(judge: Judge) -> bool:
    """Tell whether nodes are ranked by more than their start (``starts.seconds_on``)."""
    return bool(judge.request.demand.volumes)


def _hold(name: str, judge: Judge, context: Context) -> None:
    """Keep the memory where the pod is expected to be bound."""
    allocatable = judge.view.nodes[name].allocatable
    context.state.hold(
        Reservation(
            uid=judge.request.uid,
            node=name,
            bytes=judge.request.demand.on(allocatable),
            expires=context.state.steady() + context.hold_seconds,
        )
    )


def node_scores(judge: Judge, names: tuple[str, ...]) -> dict[str, int]:
    """Score the known nodes of a request, before one of the best is put ahead.

    Empty where the pod has no preference among them, or where what is known is too old to trust.
    """
    if not _is_particular(judge):
        return {}
    known = (name for name in names if name in judge.view.nodes)
    seconds = {name: seconds_on(judge, name) for name in known}
    return scores(seconds, judge.policy)
