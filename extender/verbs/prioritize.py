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
from itertools import compress, islice

import msgspec

from extender.cluster.reservations import Reservation
from extender.placement.narrowing import Rank
from extender.placement.score import MAX_SCORE, scores
from extender.placement.starts import Starts, seconds_on
from extender.placement.verdict import Judge
from extender.verbs.context import Context, Late, never
from extender.verbs.decision import Decision, decision
from extender.wire import Entries, ExtenderArgs, Ranking

_KEPT_SCORES = 10


def prioritize_nodes(
    args: ExtenderArgs, context: Context, *, late: Late = never
) -> tuple[Ranking, Decision | None]:
    """Answer one prioritize request: each node with its score, all 0 where time has run out."""
    nothing = Ranking(args.names, [0] * len(args.names))
    if context.unsynced() or late():
        return nothing, None
    judge = context.judge(args.pod)
    ranking, slowest = nothing, None
    table: Starts | None = None
    if _is_particular(judge):
        table = context.starts.of(judge, late)
        if table is None:
            return nothing, None
        known, seconds = _seconds(args.names, table)
        if known:
            scores = _scores(known, seconds, table, judge, context)
            ranking = _ranking(args.names, known, scores, table.entries)
            slowest = _slowest(known, seconds, judge)
    best = _best(ranking)
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
    names: tuple[str, ...],
    known: tuple[str, ...],
    scores: list[int],
    entries: Sequence[Entries],
) -> Ranking:
    """Return every node with its score; one that is not known has none."""
    if known is not names:
        table = dict(zip(known, scores, strict=True))
        scores = [table.get(name, 0) for name in names]
    return Ranking(names, scores, entries)


def _is_particular(judge: Judge) -> bool:
    """Tell whether nodes differ for the pod, as far as is known and can be trusted."""
    return not judge.stale and (judge.has_preference or judge.request.demand.volume_bytes > 0)


def _seconds(names: tuple[str, ...], table: Starts) -> tuple[tuple[str, ...], list[float]]:
    """Return those of the nodes that are known, and what each is ranked by."""
    try:
        return names, list(map(table.answers.__getitem__, names))
    except KeyError:
        return _seconds(tuple(filter(table.answers.__contains__, names)), table)


def _scores(
    names: tuple[str, ...], seconds: list[float], table: Starts, judge: Judge, context: Context
) -> list[int]:
    best = min(seconds)
    scores = table.scores(best, judge.policy, most=_most(judge))
    found = list(map(scores.__getitem__, seconds))
    if _puts_one_ahead(judge):
        first = min(compress(names, map(best.__eq__, seconds)))
        _hold(first, judge, context)
        found[names.index(first)] = MAX_SCORE
    return found


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
    alike = Expected([Rank(nodes, nodes.__contains__)])
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
    return Expected(ranks, _slowest((slowest,), [table.answers[slowest]], judge))


def _slowest(names: tuple[str, ...], seconds: list[float], judge: Judge) -> float:
    slowest = max(seconds)
    if not _counts_crowding(judge):
        return slowest
    return judge.start(judge.view.nodes[names[seconds.index(slowest)]]).seconds


def _best(ranking: Ranking) -> dict[str, int]:
    """Return the best few nodes, in the order asked where they are equal."""
    names, scores = ranking.names, ranking.scores
    table: dict[str, int] = {}
    for score in sorted(set(scores), reverse=True):
        equal = compress(names, map(score.__eq__, scores))
        table |= dict.fromkeys(islice(equal, _KEPT_SCORES - len(table)), score)
        if len(table) == _KEPT_SCORES:
            break
    return table


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
