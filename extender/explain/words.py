"""Sentences for people: what was found, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from extender.cluster.view import PodFacts
from extender.explain.answers import NodeAnswer
from extender.explain.causes import all_that_refuses
from extender.explain.chosen import chosen_node
from extender.explain.claims import see_claim
from extender.explain.daemons import meant, of_no_node, where_they_go
from extender.explain.held import DELETED, ENDED, SILENT, Held
from extender.explain.naming import some
from extender.explain.remedies import memory_request
from extender.explain.standing import Standing
from extender.explain.waits import why_it_waits
from extender.placement.patience import patience_ends
from extender.placement.reasons import OF_THE_CACHE, Reason
from extender.placement.verdict import Judge
from extender.workload.counts import EACH_NODE, Wanted
from extender.workload.model import ModelReference, Need, Source

SEEN_HERE_ALONE = OF_THE_CACHE | {Reason.INSUFFICIENT_MEMORY}
"""Refusals that an autoscaler's simulation does not know, and that a new node might end."""


_TELL_ALL = frozenset({SILENT, DELETED, ENDED})
"""What was chosen for a pod is told by these already, or means nothing any more."""


def summarize(
    judge: Judge,
    answers: Sequence[NodeAnswer],
    pods: Sequence[PodFacts],
    *,
    held: Held | None = None,
    stands: Standing | None = None,
    wanted: Wanted | None = None,
    pinned: bool = False,
) -> str:
    """Say where a pod can go, or why it waits, and then what it asks for.

    What holds it back from every node comes first, then what would be so without that; of one that
    has a node how it ``stands`` there, then what would be so if it were placed again. One that
    names its node itself is not placed. ``wanted`` are the pods that its workload asks for.
    ``pinned``: it was made for these nodes and no other, as a DaemonSet makes them.
    """
    if held is None and stands is not None and not judge.request.node:
        return f"{stands.message}; {asks_for(judge)}"
    uid = judge.request.uid
    facts = next((one for one in pods if uid and one.uid == uid), None)
    if wanted is not None and wanted.said == EACH_NODE and answers:
        can_go = where_they_go(judge, answers, pods, _soonest(meant(answers)))
    else:
        can_go = of_no_node(answers, facts) or _can_go(judge, answers, pods)
    if pinned:
        can_go = f"is for {some(answer.node for answer in answers)} alone and {can_go}"
    first = ""
    told = facts is None or (held is not None and held.reason in _TELL_ALL)
    chosen = "" if facts is None or told else _chosen(facts, judge, pods)
    fits = any(answer.fits for answer in answers)
    if held is not None:
        first = f"{held.message}; {held.remedy}; without that: "
    elif stands is not None:
        see = f"; see {stands.remedy}" if stands.remedy else ""
        again = "placed again, it " if answers and not fits else ""
        first = f"{stands.message}{see}; {again}"
    elif wanted is not None and not wanted.pods and wanted.said != EACH_NODE and answers:
        first = f"asks for no pod now ({wanted.said}); if it asked for one, that "
    elif fits and facts is not None:
        first = _kept_waiting(facts)
    return "; ".join(filter(None, (f"{first}{can_go}", chosen, asks_for(judge))))


def _kept_waiting(facts: PodFacts) -> str:
    """Begin with why kube-scheduler last left a pod without a node, though some fit."""
    said = facts.unscheduled.rstrip(". ")
    return f"waits: kube-scheduler said last: {said}; by what is seen here it " if said else ""


def _chosen(facts: PodFacts, judge: Judge, pods: Sequence[PodFacts]) -> str:
    """Say which node was chosen for a pod that waits, and whom it waits for there.

    kube-scheduler evicts those that are in the way, and tries again when they are gone.
    """
    chosen = chosen_node(facts, judge.view)
    if chosen is None:
        return ""
    if chosen.claim:
        return f"{chosen.told(judge.view)}; {see_claim(facts.namespace, chosen.claim)}"
    gone = (one for one in pods if one.node == chosen.node and one.leaving)
    leaving = [f"{one.namespace}/{one.name}" for one in gone]
    verb = "is" if len(leaving) == 1 else "are"
    where = f", where {some(leaving)} {verb} being deleted" if leaving else ""
    return f"{chosen.told(judge.view)}{where}"


def asks_for(judge: Judge) -> str:
    """Say what the pod asks for."""
    references = judge.request.workload.references
    if not references:
        return "asks for no model that can be told from its spec"
    return "asks for " + " and ".join(describe(reference) for reference in references)


def describe(reference: ModelReference) -> str:
    """Say what one reference is, where it is read from and how much it matters."""
    where = {
        Source.HOST_PATH: f"from {reference.host_path or 'a host path'} on the node",
        Source.CLAIM: f"from claim {reference.claim}",
        Source.MEMORY: f"from memory-backed volume {reference.volume}",
        Source.IMAGE: f"from image {reference.image}",
        Source.HUB: "which it downloads itself",
        Source.UNKNOWN: "from a place that cannot be told",
    }[reference.source]
    need = {
        Need.REQUIRED: "required",
        Need.PREFERRED: "preferred",
        Need.IGNORE: "ignored by annotation",
        Need.UNKNOWN: f"need unknown: {reference.unknown or 'the spec does not say'}",
    }[reference.need]
    return f"{reference.title} {where} ({need})"


def _can_go(judge: Judge, answers: Sequence[NodeAnswer], pods: Sequence[PodFacts]) -> str:
    """Say how many nodes fit and count what refuses the others, or why none does."""
    if not answers:
        return "there are no nodes"
    fitting = [answer for answer in answers if answer.fits]
    if not fitting:
        return f"waits: {why_it_waits(judge, answers, pods)}"
    refused = Counter(all_that_refuses(a, judge) for a in answers if not a.fits)
    lacks = ", ".join(f"{number} {text}" for text, number in refused.most_common())
    held_up = sum(bool(answer.elsewhere) for answer in fitting)
    others = f"; {lacks}" if lacks else ""
    but = f", and would not start on {held_up} of them (see the warning)" if held_up else ""
    return f"fits on {len(fitting)} of {len(answers)} nodes{but}{_soonest(fitting)}{others}"


def _soonest(fitting: Sequence[NodeAnswer]) -> str:
    """Say on which node a pod would start soonest, claims of others apart; else empty."""
    free = [answer for answer in fitting if not answer.elsewhere] or fitting
    starts = [(answer.start.seconds, answer.node) for answer in free if answer.start]
    if not starts:
        return ""
    seconds, node = min(starts)
    return f", soonest on {node} (about {seconds:.0f} s)"


def elsewhere(answers: Sequence[NodeAnswer]) -> str:
    """Say that a claim keeps a pod from starting where kube-scheduler may place it; else empty."""
    told = Counter(answer.elsewhere for answer in answers if answer.fits and answer.elsewhere)
    if not told:
        return ""
    total = len(answers)
    return (
        " and ".join(f"{text}: {number} of {total} nodes" for text, number in told.items())
        + " cannot attach it before that pod has gone (Multi-Attach), and kube-scheduler does not "
        "look at that; keep the pod where the claim is (spec.nodeSelector), or use one that is "
        "ReadWriteMany"
    )


def no_new_node(judge: Judge, answers: Collection[Reason | None]) -> str:
    """Say why no autoscaler will help a pod that fits on no node; empty where one may.

    ``answers`` are what the nodes refuse it for, with None where one takes it.
    """
    refused = set(answers)
    if None in refused or not refused & SEEN_HERE_ALONE:
        return ""
    advice, request = "", memory_request(judge)
    if request:
        advice = f"; request its memory: {request}"
    elif Reason.INSUFFICIENT_MEMORY in refused:
        advice = "; let the pods that fill the nodes request their memory-backed volumes"
    return (
        "cluster-autoscaler and Karpenter do not ask scheduler extenders: where only this program "
        f"refuses the nodes, the pod looks schedulable to them and no node is added{advice}"
    )


def patience(judge: Judge) -> str:
    """Say how long the pod insists on a model that it can fetch; empty where it always does."""
    ends = patience_ends(judge.request, judge.policy)
    setting = f"evidence.requiredTimeoutSeconds ({judge.policy.required_timeout:g} s)"
    if judge.impatient:
        return f"the pod has waited longer than {setting} and can fetch: its model is preferred now"
    if ends is None:
        return ""
    left = ends - judge.view.now
    return f"the pod insists on its model for {left:.0f} s more, as {setting} says: it can fetch"
