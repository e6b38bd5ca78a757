"""The views of pods: who waits and for what, and what was decided lately."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from extender.cluster.starts import Started
from extender.cluster.view import PodFacts, View
from extender.explain.answers import KUBE_SCHEDULER
from extender.explain.chosen import chosen_node
from extender.kube.times import unix_time
from extender.placement.reasons import TEXTS, WAITS_FOR, Reason
from extender.placement.request import PodRequest
from extender.serving.page.asked import Asked, Page, cut
from extender.serving.unscheduled import is_unseen, why_refused, why_unscheduled
from extender.verbs.decision import Decision
from extender.waiting.pods import WaitingPod
from extender.workload.model import Strategy, Workload


class Because(msgspec.Struct, frozen=True, kw_only=True):
    """One reason of a waiting pod, on so many nodes."""

    reason: str
    nodes: int
    text: str
    waits_for: str
    example: str


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One waiting pod; times are seconds before now.

    ``why`` has the tokens of all its reasons, ``because`` those of ours with what is known of them.
    ``unscheduled`` is what kube-scheduler says, where no reason of ours does; ``untold`` how it
    stands with a pod of which it says nothing.
    """

    namespace: str
    name: str
    priority: int
    model: str | None
    strategy: str
    waited: float
    why: Collection[str] = ()
    woken: float | None = None
    right_node: str = ""
    because: Sequence[Because] = ()
    unscheduled: str = ""
    untold: str = ""


def waiting_pods(
    question: Asked,
    refused: Sequence[WaitingPod],
    others: Sequence[PodFacts],
    known: Callable[[str], PodFacts | None],
    view: View,
) -> tuple[Page[Waiting], list[str]]:
    """Return one page of the waiting pods, and all their reasons.

    Those that were refused here come first, as they are woken in turn; ``KUBE_SCHEDULER`` stands
    for all others. ``known`` finds a pod by its UID.
    """
    of_ours = [(pod, why_refused(pod, known(pod.request.uid), view)) for pod in refused]
    of_others = [(facts, why_unscheduled(facts, view)) for facts in others]
    reasons = sorted({reason for _, why in (*of_ours, *of_others) for reason in why})
    found: list[tuple[WaitingPod | PodFacts, Collection[str]]] = []
    if question.reason != KUBE_SCHEDULER:
        found += of_ours
    found += of_others
    if question.reason not in {"", KUBE_SCHEDULER}:
        found = [(pod, why) for pod, why in found if question.reason in why]

    def row(one: tuple[WaitingPod | PodFacts, Collection[str]]) -> Waiting:
        pod, why = one
        told = (
            _refused(pod, known(pod.request.uid), view)
            if isinstance(pod, WaitingPod)
            else _unscheduled(pod, view)
        )
        return msgspec.structs.replace(told, why=sorted(why))

    meant = [one for one in found if _is_meant(question, one[0])]
    return cut(meant, question, row), [*reasons, *([KUBE_SCHEDULER] if others else [])]


def _is_meant(question: Asked, pod: WaitingPod | PodFacts) -> bool:
    one = pod.request if isinstance(pod, WaitingPod) else pod
    named = question.q.lower() in f"{one.namespace}/{one.name}".lower()
    return named and question.model.lower() in (_model(one.workload) or "").lower()


def _model(workload: Workload) -> str | None:
    return workload.references[0].model if workload.references else None


def _strategy(workload: Workload) -> str:
    return (workload.references[0].strategy if workload.references else Strategy.NONE).value


def _row(pod: PodRequest | PodFacts, waited: float) -> Waiting:
    """Return what is told of every waiting pod."""
    return Waiting(
        namespace=pod.namespace,
        name=pod.name,
        priority=pod.priority,
        model=_model(pod.workload),
        strategy=_strategy(pod.workload),
        waited=max(0.0, waited),
    )


def _refused(pod: WaitingPod, facts: PodFacts | None, view: View) -> Waiting:
    """Tell of a pod that was refused here; after a restart what the watch shows of it."""
    forgotten = facts if not pod.refused else None
    return msgspec.structs.replace(
        _refusal(pod, view) if forgotten is None else _unscheduled(forgotten, view),
        woken=None if pod.touched_at is None else max(0.0, view.now - pod.touched_at),
        right_node=pod.right_node,
    )


def _refusal(pod: WaitingPod, view: View) -> Waiting:
    ordered = sorted(pod.refused.items(), key=lambda entry: (-entry[1], entry[0]))
    return msgspec.structs.replace(
        _row(pod.request, view.now - pod.since),
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


def _unscheduled(facts: PodFacts, view: View) -> Waiting:
    created = unix_time(facts.created)
    return msgspec.structs.replace(
        _row(facts, 0.0 if created is None else view.now - created),
        unscheduled=facts.unscheduled,
        untold=_untold(facts, view),
    )


def _untold(facts: PodFacts, view: View) -> str:
    """Say how it stands with a pod of which kube-scheduler says nothing."""
    if facts.gated:
        return "its spec.schedulingGates hold it back"
    if is_unseen(facts, view):
        told = str(chosen_node(facts, view) or "no scheduler has looked at it")
        return f"{told}; explain says why that may be"
    return str(chosen_node(facts, view) or "not tried yet")


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
