"""What to do about a claim that keeps a pod from nodes, to paste."""

from __future__ import annotations

import shlex

from extender.placement.objections import InTree
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge

_OF_ALL = "--all-containers --ignore-errors"
"""Of a Job's pod, which is not known here: one container that has not run is no reason to stop."""


def see_claim(namespace: str, claim: str) -> str:
    """Say how to see why a claim has no volume."""
    space = shlex.quote(namespace or "default")
    return f"see why: kubectl describe persistentvolumeclaim -n {space} {shlex.quote(claim)}"


def claim_remedy(
    reason: Reason | InTree, claim: str, judge: Judge, *, storage_class: str = "", job: str = ""
) -> str:
    """Say what would end a refusal for a claim of the pod's namespace; empty for other reasons.

    ``storage_class`` is the claim's where that is what refuses it, ``job`` what was to fill it.
    """
    space = f"-n {shlex.quote(judge.request.namespace or 'default')}"
    quoted, job = shlex.quote(claim), shlex.quote(job)
    match reason:
        case Reason.CLAIM_MISSING | InTree.CLAIM_MISSING:
            return (
                "create it, as in deploy/examples/shared-volume.yaml, or name one of: kubectl get "
                f"persistentvolumeclaims {space}"
            )
        case Reason.CLAIM_NOT_BOUND | InTree.CLAIM_NOT_BOUND:
            if storage_class:
                return f"make {storage_class}, or name one of: kubectl get storageclasses"
            return see_claim(judge.request.namespace, claim)
        case InTree.CLAIM_IN_USE:
            return (
                "it is free once that pod has gone; for several pods it has to be ReadWriteMany: "
                f"kubectl describe persistentvolumeclaim {space} {quoted}"
            )
        case InTree.CLAIM_DELETED:
            return (
                "see which pods hold it (Used By), and create it anew once it is gone: kubectl "
                f"describe persistentvolumeclaim {space} {quoted}"
            )
        case Reason.CLAIM_UNREACHABLE | InTree.CLAIM_UNREACHABLE:
            return _unreachable(claim, space, judge, storage_class)
        case Reason.CLAIM_FILLING:
            return (
                "none: the pod is woken when it is filled; see how far: kubectl logs -f "
                f"{space} job/{job} {_OF_ALL}"
            )
        case Reason.CLAIM_FILL_FAILED:
            return f"look at the logs of what failed: kubectl logs {space} job/{job} {_OF_ALL}"
        case _:
            return ""


def _unreachable(claim: str, space: str, judge: Judge, storage_class: str) -> str:
    if storage_class:
        return (
            "place the pod elsewhere, or see where its class makes volumes, and which there are: "
            f"kubectl get storageclass {shlex.quote(storage_class)} -o yaml; kubectl get "
            "persistentvolumes"
        )
    facts = judge.view.claim(judge.request.namespace, claim)
    if facts is None or not facts.volume:
        quoted = shlex.quote(claim)
        return f"place the pod elsewhere: kubectl describe persistentvolumeclaim {space} {quoted}"
    return (
        "place the pod, or the volume, elsewhere: kubectl describe persistentvolume "
        f"{shlex.quote(facts.volume)}"
    )
