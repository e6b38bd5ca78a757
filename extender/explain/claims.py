"""What to do about a claim that keeps a pod from nodes, to paste."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from extender.placement.objections import InTree
from extender.placement.reasons import Reason
from extender.placement.verdict import Judge
from extender.placement.volume_binding import NEVER_PROVISIONS
from extender.workload.model import Need, Source

_OF_ALL = "--all-containers --ignore-errors"
"""Of a Job's pod, which is not known here: one container that has not run is no reason to stop."""


def see_claim(namespace: str, claim: str) -> str:
    """Say how to see why a claim has no volume."""
    space = shlex.quote(namespace or "default")
    return f"see why: kubectl describe persistentvolumeclaim -n {space} {shlex.quote(claim)}"


def empty_claims(judge: Judge) -> Iterator[str]:
    """Say which of the pod's models are read from a claim whose volume is only made for the pod.

    One that a class makes is empty, unless it is made of a snapshot, a clone or by a populator
    (``dataSource`` and ``dataSourceRef``). One that is there already may become the claim's, with
    what it holds.
    """
    view, namespace = judge.view, judge.request.namespace
    required = (r for r in judge.request.workload.references if r.need is Need.REQUIRED)
    for name in dict.fromkeys(r.claim for r in required if r.source is Source.CLAIM and r.claim):
        claim, facts = view.claims.get((namespace, name)), view.claim(namespace, name)
        if claim is None or facts is None or facts.bound or facts.volume:
            continue
        spec = claim.spec
        storage_class = view.classes.get(spec.storage_class_name or "")
        if (
            storage_class is None
            or not facts.waits_for_consumer
            or storage_class.provisioner == NEVER_PROVISIONS
            or spec.data_source is not None
            or spec.data_source_ref is not None
            or any(one.spec.storage_class_name == spec.storage_class_name and not one.spec.claim_ref
                   for one in view.volumes.values())
        ):  # fmt: skip
            continue
        yield (
            f"claim {name} has no volume yet: storage class {spec.storage_class_name} makes an "
            "empty one when a pod that mounts it is placed, and this pod reads its model there; "
            "have a Job fill it first, as in deploy/examples/shared-volume.yaml"
        )


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
