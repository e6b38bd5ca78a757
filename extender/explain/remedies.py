"""What would end a refusal, to paste where it can be pasted."""

from __future__ import annotations

from extender.explain.answers import NodeAnswer
from extender.explain.claims import claim_remedy, model_claim
from extender.explain.filling import how_to_fill
from extender.explain.room import in_tree_remedy, smaller_request, too_small
from extender.kube.objects import Pod
from extender.kube.quantity import format_bytes, format_quantity
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge, Verdict


def remedy(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    """Say what would end a node's refusal; empty where it fits."""
    if answer.objection is not None:
        return in_tree_remedy(answer, judge, pod)
    verdict = answer.verdict
    match verdict.reason:
        case None:
            return ""
        case Reason.INSUFFICIENT_MEMORY:
            return _memory(answer, judge, pod)
        case Reason.MODEL_ABSENT:
            return how_to_fill(verdict.node, judge)
        case Reason.MODEL_LOADING:
            return f"none: the pod is woken when it is ready{_follow(verdict, judge, 'logs -f')}"
        case Reason.MODEL_FAILED:
            asked = _witness(verdict, judge, "logs", " --all-containers --previous")
            return f"look at the logs of its loader: {asked}" if asked else "look at its loader"
        case Reason.MODEL_STALE:
            asked = _witness(verdict, judge, "describe pod")
            return f"see why its loader is not Ready: {asked}" if asked else "look at its loader"
        case Reason.NODE_UNKNOWN:
            return "none: it passes once the watch has shown the node"
        case Reason.NODE_GONE:
            return "none: the node was deleted; one that comes back by its name is judged anew"
        case Reason.KNOWLEDGE_STALE:
            return "see /readyz of the extender, and model-cache-extender doctor"
        case _:
            return claim_remedy(verdict.reason, model_claim(judge), judge)


def memory_request(judge: Judge) -> str:
    """Return the request that would show a pod's memory-backed volumes to everyone; else empty."""
    demand = judge.request.demand
    if not demand.volume_bytes:
        return ""
    quantity = format_quantity(demand.bytes)
    return f"spec.resources.requests.memory: {quantity} (of the pod, Kubernetes 1.34 or newer)"


def _memory(answer: NodeAnswer, judge: Judge, pod: Pod) -> str:
    verdict = answer.verdict
    lacking = f"lacks {format_bytes(verdict.missing)}"
    small = f"; {too_small(answer)}" if answer.beyond else ""
    request = memory_request(judge)
    if request:
        return (
            f"{lacking}, which autoscalers do not see; no node is added for it before the pod "
            f"requests it: {request}{small}"
        )
    smaller = smaller_request(pod, verdict.missing)
    return lacking + (f"; it would fit with {smaller}" if smaller else "") + small


def _follow(verdict: Verdict, judge: Judge, verb: str) -> str:
    asked = _witness(verdict, judge, verb, " --all-containers")
    return f"; see how far: {asked}" if asked else ""


def _witness(verdict: Verdict, judge: Judge, verb: str, flags: str = "") -> str:
    """Return a kubectl command on the loader pod that speaks for a node; empty without one."""
    for answer in judge.answers.values():
        holding = answer.nodes.get(verdict.node)
        namespace, slash, name = (holding.witness if holding else "").partition("/")
        if slash and name and " " not in name:
            return f"kubectl {verb} -n {namespace} {name}{flags}"
    return ""
