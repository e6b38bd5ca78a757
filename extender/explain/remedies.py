"""What would end a refusal, to paste where it can be pasted."""

from __future__ import annotations

from collections.abc import Mapping

from extender.cluster.holdings import Holding
from extender.explain.answers import NodeAnswer
from extender.explain.causes import of_models
from extender.explain.claims import claim_remedy
from extender.explain.filling import how_to_fill, or_declare
from extender.explain.logs import follow, see_why
from extender.explain.room import TOGETHER, in_tree_remedy, too_small, what_fits, who_takes_it
from extender.explain.smaller import smaller_volume
from extender.kube.lives import ContainerLog
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes, format_quantity
from extender.placement.objections import Objection
from extender.placement.reasons import Reason
from extender.placement.request import Refusal
from extender.placement.verdict import Judge
from extender.workload.model import ModelReference

_LOOK = "look at its loader"


def remedy(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    """Say what would end a node's refusal; empty where it fits."""
    if answer.objection is not None:
        return in_tree_remedy(answer, judge, pod, _besides(answer, answer.objection, judge))
    match answer.verdict.reason:
        case Reason.INSUFFICIENT_MEMORY:
            return _memory(answer, judge, pod)
        case Reason.NODE_UNKNOWN:
            return "none: it passes once the watch has shown the node"
        case Reason.NODE_GONE:
            return "none: the node was deleted; one that comes back by its name is judged anew"
        case Reason.KNOWLEDGE_STALE:
            return "see /readyz of the extender, and model-cache-extender doctor"
        case _:
            return _for_models(answer, judge, pod)


def _for_models(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    """Say what each model needs for which the node refuses the pod; empty where it fits."""
    verdict = answer.verdict
    together = _of_each(verdict.refusals, verdict.node, judge)
    if verdict.refusals and verdict.missing:
        together.append(f"besides, it {_memory(answer, judge, pod)}")
    return "; ".join([*together, TOGETHER] if len(together) > 1 else together)


def _besides(answer: NodeAnswer, objection: Objection, judge: Judge) -> str:
    """Say for which of its models a node that kube-scheduler refuses is none, and what ends that.

    What the objection tells already is left out.
    """
    told = {one.reason.value for one in objection.everything}
    reasons = frozenset(reason for reason in Reason if reason.value not in told)
    refusals = {
        r: refusal for r, refusal in answer.verdict.refusals.items() if refusal.reason in reasons
    }
    said = of_models(answer, judge, reasons)
    return "; ".join([said, *_of_each(refusals, answer.node, judge)]) if said else ""


def _of_each(refusals: Mapping[ModelReference, Refusal], node: str, judge: Judge) -> list[str]:
    absent = [one for one, why in refusals.items() if why.reason is Reason.MODEL_ABSENT]
    said = []
    for one, why in refusals.items():
        text = _for_model(one, why, node, judge)
        said.append(f"for {judge.called(one)}: {text}" if len(refusals) > 1 else text)
        if absent and one is absent[-1]:
            said[-1] += f"; {or_declare(absent, node, judge)}"
    return said


def _for_model(reference: ModelReference, refusal: Refusal, node: str, judge: Judge) -> str:
    told = _told_by(judge.holding(reference, node))
    match refusal.reason:
        case Reason.MODEL_ABSENT:
            return how_to_fill(reference, node, judge)
        case Reason.MODEL_LOADING:
            asked = f"; see how far: {follow(*told)}" if told else ""
            return f"none: the pod is woken when it is ready{asked}"
        case Reason.MODEL_FAILED:
            return f"see why its loader failed: {see_why(*told)}" if told else _LOOK
        case Reason.MODEL_STALE:
            asked = see_why(*told[:2], None) if told else ""
            return f"see why its loader is not Ready: {asked}" if asked else _LOOK
        case _:
            return claim_remedy(refusal.reason, refusal.claim, judge, job=refusal.job)


def memory_request(judge: Judge) -> str:
    """Return the request that would show a pod's memory-backed volumes to everyone; else empty."""
    demand = judge.request.demand
    if not demand.volume_bytes:
        return ""
    quantity = format_quantity(demand.bytes)
    return f"spec.resources.requests.memory: {quantity} (of the pod, Kubernetes 1.34 or newer)"


def _memory(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    said = [f"lacks {format_bytes(answer.verdict.missing)}"]
    request = memory_request(judge)
    if request:
        said[0] += (
            ", which autoscalers do not see; no node is added for it before the pod requests it: "
            f"{request}"
        )
    if answer.beyond:
        said.append(too_small(answer))
    if answer.beyond or not request:
        said += what_fits(answer, judge, pod)
    elif answer.lacking:
        smaller = smaller_volume(judge.request, pod, answer.verdict.missing)
        said += [f"it would fit with {smaller}"] if smaller else []
    if not answer.beyond:
        said.append(who_takes_it(answer.node))
    return "; ".join(said)


def _told_by(holding: Holding | None) -> tuple[str, str, ContainerLog | None] | None:
    """Return the loader pod that speaks for a model, and where it says more; None without one."""
    namespace, slash, name = (holding.witness if holding else "").partition("/")
    if holding is None or not (slash and name) or " " in name:
        return None
    return namespace, name, holding.log
