"""The views of pods: who waits and for what, and what was decided lately."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from extender.cluster.starts import Started
from extender.placement.reasons import TEXTS, WAITS_FOR, Reason
from extender.serving.page.asked import Asked, Page, cut
from extender.verbs.decision import Decision
from extender.waiting.pods import WaitingPod


class Because(msgspec.Struct, frozen=True, kw_only=True):
    """One reason of a waiting pod, on so many nodes."""

    reason: str
    nodes: int
    text: str
    waits_for: str
    example: str


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One waiting pod; times are seconds before now."""

    pod: WaitingPod
    model: str | None
    strategy: str
    waited: float
    woken: float | None
    because: Sequence[Because]


def waiting_pods(
    question: Asked, pods: Iterable[WaitingPod], now: float
) -> tuple[Page[Waiting], list[str]]:
    """Return one page of the waiting pods, as they are woken in turn, and all their reasons."""
    everything = list(pods)
    reasons = sorted({reason for pod in everything for reason in pod.refused})
    found = [
        pod
        for pod in everything
        if question.q.lower() in f"{pod.request.namespace}/{pod.request.name}".lower()
        and (not question.reason or question.reason in pod.refused)
        and question.model.lower() in (_model(pod) or "").lower()
    ]
    return cut(found, question, lambda pod: _waiting(pod, now)), reasons


def _model(pod: WaitingPod) -> str | None:
    first = next(iter(pod.request.workload.references), None)
    return first.model if first else None


def _waiting(pod: WaitingPod, now: float) -> Waiting:
    first = next(iter(pod.request.workload.references), None)
    ordered = sorted(pod.refused.items(), key=lambda entry: (-entry[1], entry[0]))
    return Waiting(
        pod=pod,
        model=_model(pod),
        strategy=first.strategy.value if first else "none",
        waited=max(0.0, now - pod.since),
        woken=None if pod.touched_at is None else max(0.0, now - pod.touched_at),
        because=[
            Because(
                reason=token,
                nodes=number,
                text=TEXTS[Reason(token)],
                waits_for=WAITS_FOR[Reason(token)],
                example=_example(pod.examples.get(token, ""), TEXTS[Reason(token)]),
            )
            for token, number in ordered
        ],
    )


def _example(example: str, text: str) -> str:
    """Leave out an example that only says the reason again."""
    return "" if example.endswith(text) else example


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One node that prioritize looked at; seconds. ``actual`` is of the one that was taken."""

    node: str
    score: int | None
    estimated: float | None
    actual: float | None
    taken: bool


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided of one pod, by verb. ``latest`` is the last of them."""

    latest: Decision
    filter: Decision | None
    bind: Decision | None
    start: Started | None
    candidates: Sequence[Candidate]


def decided_pods(
    question: Asked, decisions: Iterable[Decision], starts: Mapping[str, Started]
) -> Page[Decided]:
    """Return one page of the pods that were decided about, the latest first."""
    by_pod: dict[str, dict[str, Decision]] = {}
    for made in decisions:
        key = made.uid or f"{made.namespace}/{made.pod}"
        by_pod.setdefault(key, {}).setdefault(made.verb, made)
    found = [verbs for verbs in by_pod.values() if _asked_for(question, verbs)]
    return cut(found, question, lambda verbs: _decided(verbs, starts))


def _asked_for(question: Asked, verbs: Mapping[str, Decision]) -> bool:
    one = next(iter(verbs.values()))
    named = question.q.lower() in f"{one.namespace}/{one.pod}".lower()
    return named and question.model.lower() in (one.model or "").lower()


def _decided(verbs: Mapping[str, Decision], starts: Mapping[str, Started]) -> Decided:
    latest = next(iter(verbs.values()))
    ranked, bound = verbs.get("prioritize"), verbs.get("bind")
    start = starts.get(latest.uid)
    taken = bound.node if bound is not None and bound.passed else ""
    scores = dict(ranked.scores) if ranked is not None else {}
    estimates = dict(ranked.starts) if ranked is not None else {}
    if bound is not None and taken:
        estimates |= bound.starts
    names = sorted({*scores, *([taken] if taken else [])},
                   key=lambda name: (name != taken, -scores.get(name, 0), name))  # fmt: skip
    return Decided(
        latest=latest,
        filter=verbs.get("filter"),
        bind=bound,
        start=start,
        candidates=[
            Candidate(
                node=name,
                score=scores.get(name),
                estimated=estimates.get(name),
                actual=start.actual if start is not None and start.node == name else None,
                taken=name == taken,
            )
            for name in names
        ],
    )
