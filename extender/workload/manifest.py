"""The pods of any workload's manifest: the pod itself, or each template that it carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from extender.errors import InvalidObjectError, UsageError
from extender.kube.amounts import wrong_amount
from extender.kube.decode import NO_NAME, convert
from extender.kube.objects import KubeObject, ObjectMeta, OwnerReference, Pod, PodTemplate
from extender.workload.claim_templates import claim_templates
from extender.workload.constraints import Constraints, read_constraints
from extender.workload.inference_services import WORKER, llm_templates, service_templates

TEMPLATES: dict[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "PodTemplate": ("template",),
}

POD_SPEC = "spec"
"""The field of a pod that has its spec."""

LEADER = "leader"
"""The part of a LeaderWorkerSet beside its workers."""

GROUP_NAME = "leaderworkerset.sigs.k8s.io/name"
"""A label of every pod of a LeaderWorkerSet
(https://lws.sigs.k8s.io/docs/reference/labels-annotations-and-environment-variables/)."""

_OF_DAEMONS = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
"""Taints that the DaemonSet controller has its pods tolerate (``AddOrUpdateDaemonPodTolerations``
in kubernetes/pkg/controller/daemon/util/daemonset_util.go)."""

Raw = tuple[str, str, Any]
"""A template as it is written: its part's name, the field of its pod's spec, plain data."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of a workload.

    ``name`` tells it from the other parts (``leader``), empty where it is the whole; where workers
    are all there is, it is told. ``asked`` is what its spec asks of kube-scheduler, ``field`` where
    that spec stands in the manifest.
    """

    name: str
    pod: Pod
    asked: Constraints
    field: str = POD_SPEC


def _leader_and_worker(manifest: Any) -> Iterator[Raw]:
    """Yield a LeaderWorkerSet's templates; without one of their own leaders are like workers."""
    templates = inner(manifest, ("spec", "leaderWorkerTemplate"))
    leads = inner(templates, ("leaderTemplate",)) is not None
    for name, key in ((LEADER, "leaderTemplate"), (WORKER, "workerTemplate")):
        template = inner(templates, (key,))
        if template is not None or (name == WORKER and not leads):
            yield name, f"spec.leaderWorkerTemplate.{key}.spec", _in_group(template, manifest)


def _in_group(template: Any, manifest: Any) -> Any:
    """Return a template with the label that its controller gives every pod."""
    metadata = inner(template, ("metadata",))
    metadata = {} if metadata is None else metadata
    labels = inner(metadata, ("labels",))
    labels = {} if labels is None else labels
    if not all(isinstance(one, dict) for one in (template, metadata, labels)):
        return template  # to be refused by its field
    name = inner(manifest, ("metadata", "name")) or ""
    labelled = {**labels, GROUP_NAME: str(name)}
    return {**template, "metadata": {**metadata, "labels": labelled}}


def _daemon(manifest: Any) -> Iterator[Raw]:
    template = inner(manifest, TEMPLATES["DaemonSet"])
    spec = inner(template, ("spec",))
    if isinstance(spec, dict):
        said = spec.get("tolerations")
        added = [{"key": k, "operator": "Exists", "effect": e} for k, e in _OF_DAEMONS]
        said = [] if said is None else said
        tolerations = [*said, *added] if isinstance(said, list) else said
        template = {**template, "spec": {**spec, "tolerations": tolerations}}
    yield "", "spec.template.spec", template


_MADE: dict[str, Callable[[Any], Iterator[Raw]]] = {
    "LeaderWorkerSet": _leader_and_worker,
    "InferenceService": service_templates,
    "LLMInferenceService": llm_templates,
}
"""Kinds that carry several templates, or none, from which a controller makes some."""

CARRIERS = ("Pod", *TEMPLATES, *_MADE)
"""The kinds that carry a pod."""


def parts_of(manifest: Any) -> tuple[Part, ...]:
    """Return the pods that a manifest describes: at least one.

    Raises UsageError for a kind that carries no pod, InvalidObjectError for one that cannot be
    read, or in which there is nothing to judge.
    """
    kind = str(manifest.get("kind") if isinstance(manifest, dict) else None)
    if kind not in CARRIERS:
        raise UsageError(f"kind {kind!r} carries no pod; known kinds: {', '.join(CARRIERS)}")
    if kind == "Pod":
        pod = convert(manifest, Pod)
        return (_part("", pod, object_name(manifest), POD_SPEC, manifest.get("spec")),)
    parts = [
        _part(
            name,
            _pod(manifest, field, template),
            object_name(manifest),
            field,
            inner(template, ("spec",)),
        )
        for name, field, template in _raw(kind, manifest)
    ]
    if kind == "StatefulSet":
        parts = [_with_claims(part, manifest) for part in parts]
    if len(parts) == 1 and parts[0].name != WORKER:
        return (msgspec.structs.replace(parts[0], name=""),)
    return tuple(parts)


def object_name(manifest: Any) -> str:
    """Name an object for people: kind, namespace and name."""
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    namespace, name = metadata.get("namespace"), metadata.get("name") or NO_NAME
    return f"{manifest.get('kind')} {f'{namespace}/' if namespace else ''}{name}"


def _raw(kind: str, manifest: Any) -> Iterator[Raw]:
    if kind in _MADE:
        try:
            yield from _MADE[kind](manifest)
        except InvalidObjectError as error:
            raise InvalidObjectError(f"{object_name(manifest)}: {error}") from error
    elif kind == "DaemonSet":
        yield from _daemon(manifest)
    else:
        path = TEMPLATES[kind]
        yield "", ".".join((*path, "spec")), inner(manifest, path)


def _pod(manifest: Any, field: str, template: Any) -> Pod:
    who = object_name(manifest)
    if template is None:
        raise InvalidObjectError(f"{who}: {field} is missing: there is no pod to judge")
    try:
        outer = convert({"metadata": manifest.get("metadata")}, KubeObject).metadata
    except InvalidObjectError as error:
        raise InvalidObjectError(f"{who}: {error}") from error
    try:
        read = convert(template, PodTemplate)
    except InvalidObjectError as error:
        raise InvalidObjectError(f"{who}: {field.removesuffix('.spec')}: {error}") from error
    metadata: ObjectMeta = msgspec.structs.replace(
        read.metadata,
        name=read.metadata.name or outer.name,
        namespace=read.metadata.namespace or outer.namespace or "default",
        owner_references=_owners(manifest["kind"], outer.name),
    )
    return Pod(metadata=metadata, spec=read.spec)


def _owners(kind: str, name: str) -> tuple[OwnerReference, ...]:
    """Return the owner of pods that are treated by it: those of daemons and jobs."""
    owner = {"DaemonSet": "DaemonSet", "Job": "Job", "CronJob": "Job"}.get(kind)
    return (OwnerReference(kind=owner, name=name, controller=True),) if owner else ()


def _part(name: str, pod: Pod, who: str, field: str, spec: Any) -> Part:
    """Put a part together, unless it has no container, or an amount that is none.

    ``spec`` is its spec as plain data, which stands in ``field`` of the object ``who``.
    """
    if not pod.spec.containers:
        raise InvalidObjectError(
            f"{who}: {field}.containers is missing or empty: there is nothing to judge; a pod has "
            "one container at least"
        )
    wrong = wrong_amount(pod.spec, field)
    if wrong:
        raise InvalidObjectError(f"{who}: {wrong}")
    try:
        return Part(name=name, pod=pod, asked=read_constraints(spec), field=field)
    except InvalidObjectError as error:
        raise InvalidObjectError(f"{who}: {field}: {error}") from error


def _with_claims(part: Part, manifest: Any) -> Part:
    """Add the claims that each pod of a StatefulSet gets. Raises InvalidObjectError."""
    try:
        templates = claim_templates(manifest)
    except InvalidObjectError as error:
        raise InvalidObjectError(f"{object_name(manifest)}: {error}") from error
    asked = msgspec.structs.replace(part.asked, claim_templates=templates)
    return msgspec.structs.replace(part, asked=asked)


def inner(manifest: Any, path: tuple[str, ...]) -> Any:
    """Return what stands at a path of keys in plain data; None where there is nothing."""
    for key in path:
        manifest = manifest.get(key) if isinstance(manifest, dict) else None
    return manifest
