"""Whether another of the four strategies would serve a pod better, in one line with its figures.

Said only where the figures are plain: by the same estimates that place pods, and by more than the
configured half-life, so that it is worth somebody's work.
"""

from __future__ import annotations

from collections.abc import Sequence

from extender.cluster.holdings import ModelState
from extender.cluster.memory import MEMORY
from extender.explain.answers import NodeAnswer
from extender.explain.volumes import model_size
from extender.kube.quantity import format_bytes
from extender.placement import estimate
from extender.placement.objections import InTree
from extender.placement.policy import GB
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.workload.model import ModelReference, Need, Source, Strategy


def better_strategy(judge: Judge, answers: Sequence[NodeAnswer], replicas: int = 1) -> str:
    """Say which strategy would serve the pod better, empty where none plainly would.

    ``replicas`` are the pods that are like it, itself included.
    """
    reference = next(
        (r for r in judge.request.workload.references if r.need is not Need.IGNORE), None
    )
    size = model_size(reference) if reference is not None else None
    if reference is None or size is None or not answers:
        return ""
    if reference.strategy is Strategy.NODE_CACHE:
        return _a_shared_volume(judge, answers, reference, size)
    cached = size / judge.policy.bandwidths.disk / GB + judge.policy.engine_start
    starts = [answer.start.seconds for answer in answers if answer.fits and answer.start]
    if not starts:
        return _a_node_cache(judge, answers, reference, cached)
    best = min(starts)
    if best - cached <= judge.policy.half_life:
        return ""
    return (
        f"a node cache (hostPath) would start it in about {cached:.0f} s on every node that holds "
        f"the model; {_now(reference)} it takes {best:.0f} s at best"
        + _fetched(reference, size, replicas)
    )


def _a_node_cache(
    judge: Judge, answers: Sequence[NodeAnswer], reference: ModelReference, seconds: float
) -> str:
    """Recommend a node cache for what alone keeps a pod from nodes that would take it otherwise.

    Nodes that refuse it for anything else are none of its business.
    """
    total = len(answers)
    demand = judge.request.demand
    counted = sum(volume.bytes or 0 for volume in demand.volumes if volume.counted)
    volumes = demand.volume_bytes or counted  # of what the pod requests, where it requests them
    if reference.strategy is Strategy.MEMORY:
        full = [
            answer
            for answer in answers
            if len(answer.lacking) == 1 and 0 < answer.lacking.get(MEMORY, 0) <= volumes
        ]
        if not full:
            return ""
        lack = "no node has" if len(full) == total else _lack(len(full), total)
        return (
            f"a node cache (hostPath) would take none of the {format_bytes(volumes)} of memory "
            f"that {lack}: about {seconds:.0f} s to start from disk"
        )
    claims = {reference.claim, reference.origin.claim if reference.origin else None}
    out_of_reach = [
        answer
        for answer in answers
        if (objection := answer.objection) is not None
        and objection.reason is InTree.CLAIM_UNREACHABLE
        and objection.claim in claims
        and not (objection.short or objection.besides or answer.verdict.missing)
    ]
    if not out_of_reach:
        return ""
    return (
        f"a node cache (hostPath) would start it in about {seconds:.0f} s on the "
        f"{len(out_of_reach)} of {total} nodes that its claim's volume cannot reach"
    )


def _lack(number: int, total: int) -> str:
    return f"{number} of {total} nodes lack{'s' if number == 1 else ''}"


def _now(reference: ModelReference) -> str:
    return {
        Strategy.SHARED_VOLUME: "from its shared volume",
        Strategy.MEMORY: "with its memory-backed volume",
        Strategy.IMAGE: "from its image",
    }.get(reference.strategy, "as it is")


def _fetched(reference: ModelReference, size: int, replicas: int) -> str:
    origin = reference.origin or reference
    if origin.source is not Source.HUB:
        return ""
    each = f"each of {replicas} pods" if replicas > 1 else "every start"
    return f", and {each} downloads {size / GB:.1f} GB anew"


def _a_shared_volume(
    judge: Judge, answers: Sequence[NodeAnswer], reference: ModelReference, size: int
) -> str:
    """Recommend a claim where only the cache keeps a pod from nodes, and no model is on its way.

    Nodes that hold the model and refuse the pod all the same (for memory) do not help it.
    """
    held = (judge.holding(reference, answer.node) for answer in answers)
    states = {holding.state for holding in held if holding is not None}
    without = [
        answer
        for answer in answers
        if answer.objection is None
        and answer.verdict.refusals.keys() == {reference}
        and answer.verdict.reason in {Reason.MODEL_ABSENT, Reason.MODEL_FAILED}
        and not answer.verdict.missing
    ]
    if any(answer.fits for answer in answers) or ModelState.LOADING in states or not without:
        return ""
    shared = estimate.from_claim(size, warm=False, policy=judge.policy).seconds
    total, helped = len(answers), len(without)
    nowhere = not states & {ModelState.READY, ModelState.STALE}
    where = "on no node" if nowhere else "only on nodes that refuse the pod"
    served = f"all {total}" if helped == total else f"{helped} of {total}"
    return (
        f"{judge.called(reference) or 'the model'} is {where}: a shared volume (ReadWriteMany "
        f"claim), filled once by a Job, would serve {served} nodes, about {shared:.0f} s to start"
    )
