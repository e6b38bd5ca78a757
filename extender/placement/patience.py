"""``evidence.requiredTimeoutSeconds``: how long a pod insists on a model that it could fetch.

A pod whose author said ``modelcache.dev/need: required`` waits for a node that has its model. Where
the pod can fetch, waiting for ever is worse than a slow start: after the time, counted from the
pod's creation, the model is only preferred. A pod that cannot fetch keeps its need: on a node
without the model it would never serve.
"""

from __future__ import annotations

import msgspec

from extender.placement.policy import Policy
from extender.placement.request import PodRequest
from extender.workload.model import ModelReference, Need, Source


def patience_ends(request: PodRequest, policy: Policy) -> float | None:
    """Return when (UNIX seconds) some required model becomes preferred; None where none ever does.

    A pod without a creation time (a manifest that somebody asks about) has not begun to wait.
    """
    if policy.required_timeout <= 0 or request.created is None:
        return None
    if not any(map(_may_give_way, request.workload.references)):
        return None
    return request.created + policy.required_timeout


def impatient(request: PodRequest, policy: Policy, now: float) -> bool:
    """Tell whether the time is over."""
    ends = patience_ends(request, policy)
    return ends is not None and now >= ends


def without_patience(request: PodRequest) -> PodRequest:
    """Return the request as it is once the time is over."""
    references = tuple(
        msgspec.structs.replace(reference, need=Need.PREFERRED)
        if _may_give_way(reference)
        else reference
        for reference in request.workload.references
    )
    workload = msgspec.structs.replace(request.workload, references=references)
    return msgspec.structs.replace(request, workload=workload)


def _may_give_way(reference: ModelReference) -> bool:
    return (
        reference.need is Need.REQUIRED
        and reference.source is Source.HOST_PATH
        and reference.can_fetch
    )
