"""What to do about a claim that keeps a pod from nodes, to paste."""

from __future__ import annotations

from extender.placement.objections import InTree
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.workload.model import Source


def claim_remedy(
    reason: Reason | InTree, claim: str, judge: Judge, *, storage_class: str = ""
) -> str:
    """Say what would end a refusal for a claim of the pod's namespace; empty for other reasons.

    ``storage_class`` is the claim's where that is what refuses it.
    """
    namespace = judge.request.namespace or "default"
    space = f"-n {namespace}"
    match reason:
        case Reason.CLAIM_MISSING | InTree.CLAIM_MISSING:
            return (
                "create it, as in deploy/examples/shared-volume.yaml, or name one of: kubectl get "
                f"persistentvolumeclaims {space}"
            )
        case Reason.CLAIM_NOT_BOUND | InTree.CLAIM_NOT_BOUND:
            if storage_class:
                return f"make {storage_class}, or name one of: kubectl get storageclasses"
            return f"see why: kubectl describe persistentvolumeclaim {space} {claim}"
        case InTree.CLAIM_DELETED:
            return (
                "see which pods hold it (Used By), and create it anew once it is gone: kubectl "
                f"describe persistentvolumeclaim {space} {claim}"
            )
        case Reason.CLAIM_UNREACHABLE | InTree.CLAIM_UNREACHABLE:
            return _unreachable(claim, space, judge, storage_class)
        case Reason.CLAIM_FILLING:
            return (
                "none: the pod is woken when it is filled; see how far: kubectl logs -f "
                f"{space} {_job(namespace, claim, judge)}"
            )
        case Reason.CLAIM_FILL_FAILED:
            return (
                f"look at the logs of what failed: kubectl logs {space} "
                f"{_job(namespace, claim, judge)} --all-containers"
            )
        case _:
            return ""


def model_claim(judge: Judge) -> str:
    """Return the claim that a pod's model is in; a word to put one for where it is in none."""
    named = (
        one.claim
        for reference in judge.request.workload.references
        for one in (reference, reference.origin)
        if one is not None and one.source is Source.CLAIM and one.claim
    )
    return next(named, "CLAIM")


def _unreachable(claim: str, space: str, judge: Judge, storage_class: str) -> str:
    if storage_class:
        return (
            "place the pod elsewhere, or see where its class makes volumes, and which there are: "
            f"kubectl get storageclass {storage_class} -o yaml; kubectl get persistentvolumes"
        )
    facts = judge.view.claim(judge.request.namespace, claim)
    if facts is None or not facts.volume:
        return f"place the pod elsewhere: kubectl describe persistentvolumeclaim {space} {claim}"
    return (
        f"place the pod, or the volume, elsewhere: kubectl describe persistentvolume {facts.volume}"
    )


def _job(namespace: str, claim: str, judge: Judge) -> str:
    jobs = sorted({job.name for job, _ in judge.view.writers(namespace, claim)})
    return f"job/{jobs[0]}" if jobs else "job/JOB"
