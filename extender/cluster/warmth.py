"""What pods bring into a node's page cache: models that are open there, or about to be."""

from __future__ import annotations

from typing import Literal

import msgspec

from extender.workload.model import ModelReference, Source, Workload

WarmKey = tuple[Literal["hostPath", "claim"], str, str, str]
"""What a running pod keeps warm: (kind, namespace or "", claim or "", path)."""


class Opening(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A model that a pod on its way to Ready is bringing in: fetching it, or reading it."""

    uid: str
    key: WarmKey
    reference: ModelReference


def openings(uid: str, workload: Workload, namespace: str) -> tuple[Opening, ...]:
    """Return what a pod brings into a node's page cache, as far as it can be named."""
    keyed = ((warm_key(reference, namespace), reference) for reference in workload.references)
    return tuple(
        Opening(uid=uid, key=key, reference=reference)
        for key, reference in keyed
        if key is not None
    )


def warm_key(reference: ModelReference, namespace: str) -> WarmKey | None:
    """Return what a pod with this reference keeps in a node's page cache, if it can be named."""
    if reference.source is Source.HOST_PATH and reference.host_path:
        return "hostPath", "", "", reference.host_path
    if reference.source is Source.CLAIM and reference.claim and reference.claim_path is not None:
        return "claim", namespace, reference.claim, reference.claim_path
    return None
