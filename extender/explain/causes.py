"""All that keeps a pod from nodes, in words: what each says, and what would end the wait.

A node is no better for one thing less where another is in the way there, too. So what a pod waits
for is told of a node as a whole, and nothing of nodes where more is in the way than on others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from extender.cluster.memory import MEMORY
from extender.explain.answers import NodeAnswer
from extender.explain.taints import ends_taints
from extender.kube.objects import Taint
from extender.placement.objections import CORDON, WOULD_END, InTree
from extender.placement.reasons import OF_THE_CACHE, TEXTS, WAITS_FOR, Reason
from extender.placement.verdict import Judge

_NODE_THAT: dict[InTree | Reason, str] = {
    InTree.NODE_NAMED: "that it names",
    InTree.CORDONED: "that is not cordoned",
    InTree.TAINT: "whose taints it tolerates",
    InTree.AFFINITY: "that its selector and affinity match",
    InTree.CLAIM_UNREACHABLE: "that the claim's volume can be mounted on",
    Reason.CLAIM_UNREACHABLE: "that the claim's volume can be mounted on",
    **dict.fromkeys(OF_THE_CACHE, "that has what it loads"),
}
"""What a node would have to be; no other reason is about one node."""


class _Cause(msgspec.Struct, frozen=True):
    """One thing that is in the way; where ``name`` is the same, the same thing.

    ``needs`` is what it takes: of a node, or at all.
    """

    name: str
    needs: str
    of_node: bool = True


def all_that_refuses(answer: NodeAnswer, judge: Judge) -> str:
    """Say all for which a node refuses a pod: what kube-scheduler holds against it, else we."""
    if answer.objection is not None:
        return " and ".join(dict.fromkeys(one.text for one in answer.objection.everything))
    return of_models(answer, judge, frozenset(Reason)) or answer.text


def of_models(answer: NodeAnswer, judge: Judge, reasons: frozenset[Reason]) -> str:
    """Say for which of its models a node refuses a pod, for some reasons; else empty.

    Where the pod has one model there is no need to name it.
    """
    models: dict[Reason, list[str]] = {}
    for reference, refusal in answer.verdict.refusals.items():
        if refusal.reason in reasons:
            models.setdefault(refusal.reason, []).append(judge.called(reference))
    return " and ".join(
        ": ".join(filter(None, (TEXTS[reason], " and ".join(called))))
        for reason, called in models.items()
    )


def what_would_end(answers: Iterable[NodeAnswer]) -> str:
    """Say what would end the wait, that of the most nodes first."""
    said: dict[frozenset[str], str] = {}
    alike: Counter[frozenset[str]] = Counter()
    for answer in answers:
        causes = {cause.name: cause for cause in _causes(answer)}
        names = frozenset(causes)
        if names not in said:
            said[names] = answer.would_end if len(names) == 1 else _together(causes.values())
        alike[names] += 1
    ends: Counter[str] = Counter()
    for names, number in alike.items():
        if not any(fewer < names for fewer in alike):
            ends[said[names]] += number
    return ", or ".join(end for end, _ in ends.most_common())


def _causes(answer: NodeAnswer) -> Iterator[_Cause]:
    """Yield what is in the way on a node; of amounts which lack, and not by how much."""
    verdict, objection = answer.verdict, answer.objection
    for one in objection.everything if objection is not None else ():
        if one.taints:
            yield from map(_of_taint, one.taints)
        elif not one.is_shortage:
            yield _cause(one.reason, WOULD_END[one.reason], one.claim)
    for reference, refusal in verdict.refusals.items():
        of = refusal.claim or reference.title
        yield _cause(refusal.reason, WAITS_FOR[refusal.reason], of)
    short = set(objection.short) if objection is not None else set()
    for resource in sorted(short | ({MEMORY} if verdict.missing else set())):
        room = "that is large enough" if answer.beyond else "that has room for it"
        yield _Cause(resource, f"that has {resource}" if resource in answer.without else room)
    if verdict.reason not in {None, Reason.INSUFFICIENT_MEMORY} and not verdict.refusals:
        yield _cause(verdict.reason, WAITS_FOR[verdict.reason])


def _cause(reason: InTree | Reason, ends: str, of: str = "") -> _Cause:
    needs = _NODE_THAT.get(reason)
    return _Cause(f"{reason.value} {of}", needs or ends, of_node=needs is not None)


def _of_taint(taint: Taint) -> _Cause:
    """Return a cordon, a taint that passes, or one that is to be tolerated."""
    reason = InTree.CORDONED if taint.key == CORDON else InTree.TAINT
    return _Cause(ends_taints((taint,)) or reason.value, _NODE_THAT[reason])


def _together(causes: Iterable[_Cause]) -> str:
    """Say what has to come true at once; all that is asked of a node is asked of one."""
    needs = dict.fromkeys((cause.of_node, cause.needs) for cause in causes)
    others = [text for of_node, text in needs if not of_node]
    node = " and ".join(text for of_node, text in needs if of_node)
    return ", and ".join([*others, *([f"a node {node}"] if node else [])])
