"""The pods of a DaemonSet, told together: one on each node that matches, and which of them wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from extender.cluster.view import PodFacts
from extender.explain.answers import NodeAnswer
from extender.explain.causes import all_that_refuses
from extender.explain.naming import some
from extender.explain.waits import why_it_waits
from extender.kube.objects import Pod
from extender.placement.objections import InTree
from extender.placement.verdict import Judge

_NO_POD_THERE = frozenset({InTree.NODE_NAMED, InTree.CORDONED, InTree.TAINT, InTree.AFFINITY})
"""What the DaemonSet controller looks at, and nothing else
(``NodeShouldRunDaemonPod`` in kubernetes/pkg/controller/daemon/daemon_controller.go)."""


def is_template(pod: Pod) -> bool:
    """Tell whether a pod is the template of a DaemonSet, and none that this has made."""
    owner = pod.metadata.controller()
    return owner is not None and owner.kind == "DaemonSet" and not pod.metadata.uid


def made_for(answers: Sequence[NodeAnswer]) -> list[NodeAnswer]:
    """Return the answers of the nodes that a pod may be for: of a DaemonSet's the one of its own.

    All where the node that it was made for is not there.
    """
    own = [
        answer
        for answer in answers
        if answer.objection is None
        or all(one.reason is not InTree.NODE_NAMED for one in answer.objection.everything)
    ]
    return own or list(answers)


def of_no_node(answers: Sequence[NodeAnswer], facts: PodFacts | None) -> str:
    """Say that none of the nodes that a pod was made for is in the cluster; else empty.

    The DaemonSet controller deletes such a pod (``getUnscheduledPodsWithoutNodes`` in
    kubernetes/pkg/controller/daemon/daemon_controller.go).
    """
    named = {
        one.detail
        for answer in answers
        if answer.objection is not None
        for one in answer.objection.everything
        if one.reason is InTree.NODE_NAMED
    }
    if not named or made_for(answers) != list(answers):
        return ""
    ends = (
        f"DaemonSet {facts.daemon_set} takes it away by itself while kube-controller-manager runs"
        if facts is not None and facts.daemon_set
        else "change spec.affinity.nodeAffinity"
    )
    return (
        f"waits: it is for {', '.join(sorted(named))} alone (matchFields), and no such node is in "
        f"the cluster: kubectl get nodes; {ends}"
    )


def meant(answers: Sequence[NodeAnswer]) -> list[NodeAnswer]:
    """Return the answers of the nodes that a DaemonSet has a pod on."""
    return [
        answer
        for answer in answers
        if answer.objection is None
        or not any(one.reason in _NO_POD_THERE for one in answer.objection.everything)
    ]


def where_they_go(
    judge: Judge, answers: Sequence[NodeAnswer], pods: Sequence[PodFacts], soonest: str
) -> str:
    """Say of how many of its nodes the pod fits, and why those of the others wait.

    ``soonest`` is said where all fit.
    """
    own = meant(answers)
    told = {answer.node for answer in own}
    others = Counter(all_that_refuses(a, judge) for a in answers if a.node not in told)
    not_for = ", ".join(f"{number} {text}" for text, number in others.most_common())
    if not own:
        return f"is for none of {len(answers)} nodes: {not_for}"
    rest = f"; for no other: {not_for}" if not_for else ""
    waiting = [answer for answer in own if not answer.fits]
    if not waiting:
        return f"fits on {_all(len(own))} that it is for{soonest}{rest}"
    one = len(waiting) == 1
    fitting = len(own) - len(waiting)
    fit = f"; {'the other one fits' if fitting == 1 else f'the other {fitting} fit'}"
    who = f"{len(waiting)} of its {len(own)} pods, one for each node that it is for,"
    return (
        f"{who if len(own) > 1 else 'its one pod'} {'waits, that' if one else 'wait, those'} of "
        f"{some(answer.node for answer in waiting)}: "
        f"{why_it_waits(judge, waiting, pods)}{fit * bool(fitting)}{rest}"
    )


def _all(number: int) -> str:
    return "the one node" if number == 1 else f"all {number} nodes"
