"""A pod from any workload's manifest: the pod itself, or the template that it carries."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.errors import UsageError
from extender.kube.decode import convert
from extender.kube.objects import ObjectMeta, Pod, PodTemplate

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "LeaderWorkerSet": ("spec", "leaderWorkerTemplate", "leaderTemplate"),
    "PodTemplate": ("template",),
}

CARRIERS = ("Pod", *_TEMPLATES)
"""The kinds that carry a pod."""


def pod_of(manifest: Any) -> Pod:
    """Return the pod that a manifest describes.

    Raises UsageError for a kind that carries no pod, InvalidObjectError for one that cannot be
    read.
    """
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if kind == "Pod":
        return convert(manifest, Pod)
    path = _TEMPLATES.get(str(kind))
    if path is None:
        raise UsageError(f"kind {kind!r} carries no pod; known kinds: {', '.join(CARRIERS)}")
    inner = _inner(manifest, path)
    if (
        inner is None and kind == "LeaderWorkerSet"
    ):  # without one, leaders use the workers' template
        inner = _inner(manifest, (*path[:-1], "workerTemplate"))
    template = convert(inner if inner is not None else {}, PodTemplate)
    outer = convert({"metadata": manifest.get("metadata") or {}}, Pod).metadata
    metadata: ObjectMeta = msgspec.structs.replace(
        template.metadata,
        name=template.metadata.name or outer.name,
        namespace=template.metadata.namespace or outer.namespace or "default",
    )
    return Pod(metadata=metadata, spec=template.spec)


def _inner(manifest: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        manifest = manifest.get(key) if isinstance(manifest, dict) else None
    return manifest
