"""Why a pod waits, in a sentence: who has the model, what those lack, who would have to go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from extender.cluster.holdings import ModelState
from extender.cluster.view import PodFacts
from extender.kube.quantity import format_bytes
from extender.placement.reasons import TEXTS, WAITS_FOR, Reason
from extender.placement.verdict import Judge, Verdict

_OF_THE_CACHE = frozenset(
    {Reason.MODEL_ABSENT, Reason.MODEL_LOADING, Reason.MODEL_FAILED, Reason.MODEL_STALE}
)


def why_it_waits(judge: Judge, verdicts: Sequence[Verdict], pods: Iterable[PodFacts]) -> str:
    """Say why no node takes a pod; ``pods`` are those of the cluster."""
    total = len(verdicts)
    parts = []
    reasons: Counter[Reason] = Counter(v.reason for v in verdicts if v.reason is not None)
    short = [v for v in verdicts if v.reason is Reason.INSUFFICIENT_MEMORY]
    having = [v for v in verdicts if _has_it(v)]
    if having or reasons.keys() & _OF_THE_CACHE:
        parts.append(_who_has_it(having, total))
        short = [verdict for verdict in short if not _has_it(verdict)]
        told = set(Reason) - {Reason.MODEL_LOADING}
    else:
        told = {Reason.INSUFFICIENT_MEMORY}
    parts += [f"{_of(len(short), total)} {_lacks(short)}"] if short else []
    rest = {reason: number for reason, number in reasons.items() if reason not in told}
    parts += [f"{number} of {total}: {TEXTS[reason]}" for reason, number in rest.items()]
    ends = who_would_have_to_go(judge, verdicts, pods) or _waits_for(reasons)
    return f"waits: {', '.join(parts)}; {ends}"


def _waits_for(reasons: Counter[Reason]) -> str:
    """Say what would end the wait, that of the most nodes first."""
    return f"waits for {', or '.join(WAITS_FOR[reason] for reason, _ in reasons.most_common())}"


def _has_it(verdict: Verdict) -> bool:
    return verdict.reason not in _OF_THE_CACHE and verdict.state in {
        ModelState.READY,
        ModelState.STALE,
    }


def _who_has_it(having: Sequence[Verdict], total: int) -> str:
    """Say on how many nodes the model is, and what those lack."""
    if not having:
        return f"none of {total} nodes has the model"
    count = len(having)
    has = f"{count} of {total} nodes {'has' if count == 1 else 'have'} the model"
    short = [v for v in having if v.reason is Reason.INSUFFICIENT_MEMORY]
    others = Counter(
        TEXTS[v.reason]
        for v in having
        if v.reason is not None and v.reason is not Reason.INSUFFICIENT_MEMORY
    )
    lacking = [f"{_all(len(short), count)} {_lacks(short)}"] if short else []
    lacking += [f"{number}: {text}" for text, number in others.most_common()]
    return ", ".join([has, *lacking])


def _all(number: int, total: int) -> str:
    if number < total:
        return f"{number} of them"
    return "it" if total == 1 else f"all {total}"


def _of(number: int, total: int) -> str:
    if number < total:
        return f"{number} of {total} nodes"
    return "the one node" if total == 1 else f"all {total} nodes"


def _lacks(short: Sequence[Verdict]) -> str:
    """Say how much memory those nodes lack, at the least."""
    least, most = min(v.missing for v in short), max(v.missing for v in short)
    verb = "lacks" if len(short) == 1 else "lack"
    more = "" if least == most else " or more"
    return f"{verb} {format_bytes(least)}{more} of memory"


def who_would_have_to_go(
    judge: Judge, verdicts: Sequence[Verdict], pods: Iterable[PodFacts]
) -> str:
    """Name the one pod of no higher priority whose going would make room; empty without one.

    Of several the least important, then the smallest. Nobody evicts it: it is for people to weigh.
    """
    request = judge.request
    missing = {v.node: v.missing for v in verdicts if v.reason is Reason.INSUFFICIENT_MEMORY}
    best: tuple[int, int, str, PodFacts] | None = None
    for pod in pods:
        lacking = missing.get(pod.node)
        if lacking is None or not pod.counts or pod.uid == request.uid:
            continue
        size = pod.demand.on(judge.view.nodes[pod.node].allocatable)
        if pod.priority > request.priority or size < lacking:
            continue
        candidate = (pod.priority, size, f"{pod.node}/{pod.namespace}/{pod.name}", pod)
        best = candidate if best is None or candidate[:3] < best[:3] else best
    if best is None:
        return ""
    priority, size, _, pod = best
    return (
        f"node {pod.node} would fit if pod {pod.namespace}/{pod.name} (priority {priority}, "
        f"{format_bytes(size)}) went"
    )
