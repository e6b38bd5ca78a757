"""A pod from any workload's manifest: the pod itself, or the template that it carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from extender.errors import UsageError
from extender.kube.decode import convert
from extender.kube.objects import ObjectMeta, Pod, PodTemplate
from extender.workload.inference_services import llm_template, predictor_template

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

_MADE: dict[str, Callable[[Any], Any]] = {
    "InferenceService": predictor_template,
    "LLMInferenceService": llm_template,
}
"""Kinds that carry no template, from which a controller makes one."""

CARRIERS = ("Pod", *_TEMPLATES, *_MADE)
"""The kinds that carry a pod."""


def pod_of(manifest: Any) -> Pod:
    """Return the pod that a manifest describes.

    Raises UsageError for a kind that carries no pod, InvalidObjectError for one that cannot be
    read.
    """
    inner = template_of(manifest)
    if manifest.get("kind") == "Pod":
        return convert(inner, Pod)
    template = convert(inner, PodTemplate)
    outer = convert({"metadata": manifest.get("metadata") or {}}, Pod).metadata
    metadata: ObjectMeta = msgspec.structs.replace(
        template.metadata,
        name=template.metadata.name or outer.name,
        namespace=template.metadata.namespace or outer.namespace or "default",
    )
    return Pod(metadata=metadata, spec=template.spec)


def template_of(manifest: Any) -> Any:
    """Return the part of a manifest that describes a pod, as plain data: the pod, or its template.

    Raises UsageError for a kind that carries no pod.
    """
    kind = str(manifest.get("kind") if isinstance(manifest, dict) else None)
    if kind == "Pod":
        return manifest
    if kind in _MADE:
        return _MADE[kind](manifest)
    path = _TEMPLATES.get(kind)
    if path is None:
        raise UsageError(f"kind {kind!r} carries no pod; known kinds: {', '.join(CARRIERS)}")
    inner = _inner(manifest, path)
    if (
        inner is None and kind == "LeaderWorkerSet"
    ):  # without one, leaders use the workers' template
        inner = _inner(manifest, (*path[:-1], "workerTemplate"))
    return inner if inner is not None else {}


def _inner(manifest: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        manifest = manifest.get(key) if isinstance(manifest, dict) else None
    return manifest
