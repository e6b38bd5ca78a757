"""The pods without a node, whoever keeps them waiting, and a token for why: page, API, metrics.

kube-scheduler asks an extender only where a node has passed all else: what it refuses by itself,
and what nobody looks at, is known from the watch alone.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from enum import StrEnum

from extender.cluster.view import PodFacts, View
from extender.explain.answers import EXTENDER, KUBE_SCHEDULER
from extender.explain.chosen import chosen_node, unheard_of
from extender.placement.reasons import TEXTS
from extender.waiting.pods import WaitingPod


class Unscheduled(StrEnum):
    """Why a pod waits that no reason of ours is known of, beside those as a metric label.

    The first three are kube-scheduler's own (``PodReason...`` in k8s.io/api/core/v1/types.go).
    """

    UNSCHEDULABLE = "Unschedulable"
    FAILED = "SchedulerError"
    GATED = "SchedulingGated"
    CHOSEN = "NodeChosen"
    SILENT = "SchedulerSilent"
    UNTRIED = "NotTriedYet"


TELLS: dict[Unscheduled, str] = {
    Unscheduled.UNSCHEDULABLE: "kube-scheduler refuses it by itself: no node passes its own "
    "plugins, so that no extender is asked",
    Unscheduled.FAILED: "kube-scheduler failed at it when it last tried: an extender that did not "
    "answer, a Binding that was refused",
    Unscheduled.GATED: "its `spec.schedulingGates` hold it back, on purpose: no alert",
    Unscheduled.CHOSEN: "a node is chosen, by kube-scheduler or here, and it waits for a volume "
    "that is made there, for pods that leave, or to be bound",
    Unscheduled.SILENT: "no scheduler has said anything of it for a minute, for 16 where a node is "
    "chosen: its own does not run or is stuck, or, of a chosen one, its volume is late",
    Unscheduled.UNTRIED: "it is new",
}
"""What each means, for people."""


def unscheduled_pods(
    pods: Iterable[PodFacts], schedulers: Container[str], refused: Iterable[WaitingPod]
) -> list[PodFacts]:
    """Return the pods without a node that ask us, and that we have not refused: oldest first."""
    ours = {pod.request.uid for pod in refused}
    found = (
        facts
        for facts in pods
        if facts.has_no_place and facts.scheduler in schedulers and facts.uid not in ours
    )
    return sorted(found, key=lambda facts: (-facts.priority, facts.created, facts.uid))


def is_unseen(facts: PodFacts, view: View) -> bool:
    """Tell whether no scheduler has said a word of a pod, for too long to be well."""
    said = facts.unscheduled or facts.unscheduled_reason or facts.gated
    return not said and unheard_of(facts, view) is not None


def why_refused(pod: WaitingPod, facts: PodFacts | None, view: View) -> Collection[str]:
    """Return the tokens of a pod that was refused here; ``facts``: where the watch shows it.

    After a restart it is known of the watch alone.
    """
    if pod.refused or facts is None:
        return pod.refused
    return why_unscheduled(facts, view)


def why_unscheduled(facts: PodFacts, view: View) -> Collection[str]:
    """Return the tokens of a pod by what the watch shows of it.

    kube-scheduler repeats what it was answered: where that has our words, it was this program, or
    the replica that leads, that refused the pod. Both say the same of it then.
    """
    if facts.gated:
        return (Unscheduled.GATED,)
    if facts.unscheduled:
        ours = [reason for reason, text in TEXTS.items() if text in facts.unscheduled]
        failed = facts.unscheduled_reason == Unscheduled.FAILED
        return ours or (Unscheduled.FAILED if failed else Unscheduled.UNSCHEDULABLE,)
    if is_unseen(facts, view):
        return (Unscheduled.SILENT,)
    chosen = chosen_node(facts, view) is not None
    return (Unscheduled.CHOSEN if chosen else Unscheduled.UNTRIED,)


def refused_by(why: Collection[str]) -> str | None:
    """Return who refuses a pod of these tokens; None where nobody has: it is new, or held."""
    if not set(why).isdisjoint(TEXTS):
        return EXTENDER
    refusals = {Unscheduled.UNSCHEDULABLE, Unscheduled.FAILED}
    return None if refusals.isdisjoint(why) else KUBE_SCHEDULER
