"""Whether another of the four strategies would serve a pod better, in one line with its figures.

Said only where the figures are plain: by the same estimates that place pods, and by more than the
configured half-life, so that it is worth somebody's work.
"""

from __future__ import annotations

from collections.abc import Sequence

from extender.cluster.holdings import ModelState
from extender.explain.volumes import model_size
from extender.kube.quantity import format_bytes
from extender.placement import estimate
from extender.placement.policy import GB
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge, Verdict
from extender.workload.model import ModelReference, Need, Source, Strategy


def better_strategy(judge: Judge, verdicts: Sequence[Verdict], replicas: int = 1) -> str:
    """Say which strategy would serve the pod better, empty where none plainly would.

    ``replicas`` are the pods that are like it, itself included.
    """
    reference = next(
        (r for r in judge.request.workload.references if r.need is not Need.IGNORE), None
    )
    size = model_size(reference) if reference is not None else None
    if reference is None or size is None or not verdicts:
        return ""
    cached = size / judge.policy.bandwidths.disk / GB + judge.policy.engine_start
    if reference.strategy is Strategy.NODE_CACHE:
        return _absent_everywhere(judge, verdicts, size)
    if all(v.reason is Reason.INSUFFICIENT_MEMORY for v in verdicts):
        if reference.strategy is not Strategy.MEMORY:
            return ""
        taken = format_bytes(judge.request.demand.volume_bytes)
        return (
            f"a node cache (hostPath) would take none of the {taken} of memory that no node has: "
            f"about {cached:.0f} s to start from disk"
        )
    starts = [v.start.seconds for v in verdicts if v.fits and v.start is not None]
    best = min(starts, default=0.0)
    if best - cached <= judge.policy.half_life:
        return ""
    return (
        f"a node cache (hostPath) would start it in about {cached:.0f} s on every node that holds "
        f"the model; {_now(reference)} it takes {best:.0f} s at best"
        + _fetched(reference, size, replicas)
    )


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


def _absent_everywhere(judge: Judge, verdicts: Sequence[Verdict], size: int) -> str:
    """Recommend a claim where the model is on no node, nor on its way to one."""
    if any(v.state is not ModelState.ABSENT for v in verdicts):
        return ""
    shared = estimate.from_claim(size, warm=False, policy=judge.policy).seconds
    return (
        "the model is on no node: a shared volume (ReadWriteMany claim), filled once by a Job, "
        f"would serve all {len(verdicts)} nodes, about {shared:.0f} s to start"
    )
