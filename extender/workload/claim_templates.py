"""The claims that each pod of a StatefulSet gets: ``spec.volumeClaimTemplates``."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.errors import InvalidObjectError
from extender.kube.decode import without_nulls
from extender.kube.objects import KubeObject, KubeStruct, PersistentVolumeClaim


class ClaimTemplates(KubeStruct, frozen=True):
    """One claim each of these for every pod.

    ``claims`` are as they are asked for, named up to the pod's ordinal, as
    ``getPersistentVolumeClaimName`` has it
    (kubernetes/pkg/controller/statefulset/stateful_set_utils.go); ``first`` is the lowest ordinal.
    """

    claims: tuple[PersistentVolumeClaim, ...] = ()
    first: int = 0


class _Ordinals(KubeStruct, frozen=True):
    start: int = 0


class _Spec(KubeStruct, frozen=True):
    volume_claim_templates: tuple[PersistentVolumeClaim, ...] = ()
    ordinals: _Ordinals = _Ordinals()


class _StatefulSet(KubeObject, frozen=True):
    spec: _Spec = _Spec()


def claim_templates(manifest: Any) -> ClaimTemplates:
    """Read a StatefulSet's manifest. Raises InvalidObjectError that names the field."""
    try:
        read = msgspec.convert(without_nulls(manifest), _StatefulSet, strict=False)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidObjectError(str(error)) from error
    claims = []
    for template in read.spec.volume_claim_templates:
        name = f"{template.metadata.name}-{read.metadata.name}"
        metadata = msgspec.structs.replace(template.metadata, name=name)
        claims.append(msgspec.structs.replace(template, metadata=metadata))
    return ClaimTemplates(claims=tuple(claims), first=read.spec.ordinals.start)
