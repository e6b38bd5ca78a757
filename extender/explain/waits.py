"""Why a pod waits, in a sentence: who has the model, what those lack, who would have to go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from extender.cluster.holdings import ModelState
from extender.cluster.memory import MEMORY
from extender.cluster.requests import PODS, Amounts
from extender.cluster.requests import in_words as resource_in_words
from extender.cluster.view import PodFacts
from extender.explain.answers import NodeAnswer
from extender.explain.causes import all_that_refuses, of_models, what_would_end
from extender.explain.naming import some
from extender.explain.room import IF_EMPTY, amount_in_words, in_words
from extender.kube.quantity import format_bytes
from extender.placement.in_tree import all_requests
from extender.placement.reasons import OF_THE_CACHE, TEXTS, Reason
from extender.placement.verdict import Judge
from extender.workload.model import ModelReference, Need

_HAVING = frozenset({ModelState.READY, ModelState.STALE})


def why_it_waits(judge: Judge, answers: Sequence[NodeAnswer], pods: Iterable[PodFacts]) -> str:
    """Say why none of these nodes takes a pod, with each counted; ``pods`` are the cluster's."""
    total = len(answers)
    cached = _cached(judge)
    having: list[NodeAnswer] = []
    rest: list[NodeAnswer] = []
    for answer in answers:
        (having if _has_them(answer, cached, judge) else rest).append(answer)
    parts: list[str] = []
    texts: Counter[str] = Counter()
    if having or any(answer.verdict.reason in OF_THE_CACHE for answer in answers):
        it = "all its models" if len(cached) > 1 else "the model"
        parts = [_who_has_it(having, total, it, judge)]
        texts.update(_of_the_cache(answer, judge) for answer in rest if not answer.lacking)
    else:
        texts.update(all_that_refuses(answer, judge) for answer in rest if not answer.lacking)
    parts += [f"{_of(len(short), total)} {lacks}" for short, lacks in _shortages(rest)]
    parts += [f"{number} of {total}: {text}" for text, number in _but_without_it(texts)]
    ends = who_would_have_to_go(judge, answers, pods) or f"waits for {what_would_end(answers)}"
    ends = "; ".join(filter(None, (_too_large(answers), _on_no_node(judge, answers), ends)))
    return f"{', '.join(parts)}; {ends}"


def _too_large(answers: Sequence[NodeAnswer]) -> str:
    """Say that no node is large enough, whatever else refuses it, and by how much; else empty."""
    near = [answer for answer in answers if answer.beyond and not answer.without]
    if not near or not all(answer.beyond or answer.without for answer in answers):
        return ""
    closest = min(near, key=lambda a: (len(a.beyond), *a.beyond.values(), a.node))
    lacks = in_words(closest.beyond)
    return f"no node is large enough: on {closest.node} {lacks} would lack {IF_EMPTY}"


def _on_no_node(judge: Judge, answers: Sequence[NodeAnswer]) -> str:
    """Name the labels that the pod selects and no node of the cluster has; else empty."""
    selected = {
        pair: None
        for answer in answers
        if answer.objection is not None
        for one in answer.objection.everything
        for pair in one.labels.items()
    }
    has = {key: sorted({n.labels[key] for n in judge.view.nodes.values() if key in n.labels})
           for key, _ in selected}  # fmt: skip
    return " and ".join(
        f"no node has the label {key}: {value}" + (f" (but {some(has[key])})" if has[key] else "")
        for key, value in selected
        if value not in has[key]
    )


def _of_the_cache(answer: NodeAnswer, judge: Judge) -> str:
    """Say what is to be said of a node that has not all models; where one is absent, that alone."""
    models = of_models(answer, judge, OF_THE_CACHE)
    if not models:
        return all_that_refuses(answer, judge)
    on_its_way = answer.verdict.reason is not Reason.MODEL_ABSENT
    also = all_that_refuses(answer, judge) if answer.objection is not None and on_its_way else ""
    return " and ".join(filter(None, (models, also)))


def _but_without_it(texts: Counter[str]) -> list[tuple[str, int]]:
    """Return what is to be said of how many nodes, and at last which simply lack the model.

    Where it is all that is in the way on the others, who has it has told that already.
    """
    absent = TEXTS[Reason.MODEL_ABSENT]
    said = [(text, number) for text, number in texts.most_common() if text != absent]
    return [*said, (absent, texts[absent])] if said and absent in texts else said


def _cached(judge: Judge) -> list[ModelReference]:
    """Return the models that have to be in a node's cache; where none has to, those that may."""
    known = [reference for reference, answer in judge.answers.items() if answer.known]
    return [one for one in known if one.need is Need.REQUIRED] or known


def _has_them(answer: NodeAnswer, cached: Sequence[ModelReference], judge: Judge) -> bool:
    """Tell whether a node has all these models, and nothing refuses it for one of them."""
    refusals = answer.verdict.refusals
    held = [judge.holding(r, answer.node) for r in cached if r not in refusals]
    return (
        not any(refusal.reason in OF_THE_CACHE for refusal in refusals.values())
        and bool(held)
        and all(one is not None and one.state in _HAVING for one in held)
    )


def _who_has_it(having: Sequence[NodeAnswer], total: int, it: str, judge: Judge) -> str:
    """Say on how many nodes ``it`` is, and what those lack."""
    if not having:
        return f"none of {total} nodes has {it}" if total > 1 else f"the one node lacks {it}"
    count = len(having)
    has = f"{count} of {total} nodes {'has' if count == 1 else 'have'} {it}"
    others = Counter(all_that_refuses(a, judge) for a in having if not a.lacking)
    lacking = [f"{_all(len(short), count)} {lacks}" for short, lacks in _shortages(having)]
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


def _shortages(answers: Sequence[NodeAnswer]) -> list[tuple[list[NodeAnswer], str]]:
    """Return the nodes that lack the same resources, most nodes first, with how much they lack."""
    alike: dict[tuple[str, ...], list[NodeAnswer]] = defaultdict(list)
    for answer in answers:
        if answer.lacking:
            alike[tuple(answer.lacking)].append(answer)
    ordered = sorted(alike.values(), key=lambda short: (-len(short), short[0].node))
    return [(short, _lacks(short)) for short in ordered]


def _lacks(short: Sequence[NodeAnswer]) -> str:
    """Say how much those nodes lack, at the least, and which of them lacks least."""
    names = list(short[0].lacking)
    amounts = {name: [answer.lacking[name] for answer in short] for name in names}
    said = [
        amount_in_words(name, min(sizes), more=" or more" if min(sizes) < max(sizes) else "")
        for name, sizes in amounts.items()
    ]
    verb = "lacks" if len(short) == 1 else "lack"
    least = ""
    if any(min(sizes) < max(sizes) for sizes in amounts.values()):
        closest = min(short, key=lambda answer: (*answer.lacking.values(), answer.node))
        least = f" ({closest.node} lacks least)"
    return f"{verb} {' and '.join(said)}{least}"


def who_would_have_to_go(
    judge: Judge, answers: Sequence[NodeAnswer], pods: Iterable[PodFacts]
) -> str:
    """Name the one pod whose going would make room; empty without one.

    One that is going anyway comes first; else, of those of no higher priority that no DaemonSet or
    kubelet puts back, the least important, then the smallest. Nobody evicts it: it is for people to
    weigh.
    """
    request = judge.request
    lacking = {answer.node: answer for answer in answers if answer.lacking}
    best: tuple[bool, int, int, str, PodFacts] | None = None
    for pod in pods:
        answer = lacking.get(pod.node)
        if answer is None or not pod.counts or pod.comes_back or pod.uid == request.uid:
            continue
        size = pod.demand.on(judge.view.nodes[pod.node].allocatable)
        important = pod.priority > request.priority and not pod.leaving
        if important or not _makes_room(pod, size, answer):
            continue
        where = f"{pod.node}/{pod.namespace}/{pod.name}"
        candidate = (not pod.leaving, pod.priority, size, where, pod)
        best = candidate if best is None or candidate[:4] < best[:4] else best
    if best is None:
        return ""
    _, priority, size, _, pod = best
    has: Amounts = {**pod.requests, MEMORY: size}
    gives = (
        format_bytes(size) if name == MEMORY else resource_in_words(name, has[name])
        for name in lacking[pod.node].lacking
        if name != PODS
    )
    if pod.leaving:
        told = ", ".join(gives)
        return (
            f"node {pod.node} fits once pod {pod.namespace}/{pod.name} ({told}) is gone, which "
            "is being deleted"
        )
    told = ", ".join([f"priority {priority}", *gives])
    return f"node {pod.node} would fit if pod {pod.namespace}/{pod.name} ({told}) went"


def _makes_room(pod: PodFacts, size: int, answer: NodeAnswer) -> bool:
    """Tell whether a node would take the pod if this one, which takes ``size`` bytes, went."""
    gives = all_requests(pod.requests, pod.demand)
    short = answer.objection.short if answer.objection is not None else {}
    return size >= answer.verdict.missing and all(
        gives.get(name, 0) >= amount for name, amount in short.items()
    )
