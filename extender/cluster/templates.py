"""Reading pod templates once: thousands of pods share a few hundred templates.

Those of DaemonSets and Jobs, too, which are told of anew whenever one of their pods changes.

The key is made of the exact content that the readers look at (containers, volumes, some annotations
and labels), so two pods share a reading only where it cannot differ. Volumes and mounts of service
account tokens carry a random name in each pod and are left out of it.

Other labels differ in each pod of a Job or StatefulSet (``job-completion-index``, ``pod-index``),
which are read once all the same. Pods of different templates that ask for the same share one
workload, and with it whatever is worked out for it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from threading import Lock
from typing import TypeVar

import msgspec
from cachetools import LRUCache

from extender.cluster.requests import Amounts, pod_requests
from extender.errors import InvalidQuantityError
from extender.kube.objects import Container, DaemonSet, DaemonSetSpec, Job, Pod, PodTemplate
from extender.workload.expand import field_value
from extender.workload.jobs import read_job
from extender.workload.loaders import read_loader
from extender.workload.model import (
    LOADER_LABEL,
    MODEL_ANNOTATION,
    MODELS_ANNOTATION,
    NEED_ANNOTATION,
    ClaimWriter,
    LoaderTemplate,
    Workload,
)
from extender.workload.references import read_workload
from extender.workload.stacks.groups import AIBRIX_LABEL, is_mark
from extender.workload.stacks.ome import SERVICE_LABEL
from extender.workload.volumes import mounted_claims

TOKEN_VOLUME_PREFIX = "kube-api-access-"  # noqa: S105 - the name the apiserver gives the volume

_OURS = frozenset({MODEL_ANNOTATION, NEED_ANNOTATION, MODELS_ANNOTATION})
"""What an author writes; reports and marks change all the time and are no part of a template."""

_LABELS = frozenset({LOADER_LABEL, AIBRIX_LABEL, SERVICE_LABEL})
"""What a reader looks at, beside what variables take and the marks of a group."""

T = TypeVar("T")


class Reading(msgspec.Struct, frozen=True):
    """What a pod asks for. ``requests`` is None where an amount cannot be read.

    ``claims`` are those that its volumes name.
    """

    workload: Workload
    requests: Amounts | None
    claims: tuple[str, ...] = ()


class Templates:
    """A bounded cache of readings. Safe to use from several threads."""

    def __init__(self, size: int = 4096) -> None:
        self._readings: LRUCache[bytes, Reading] = LRUCache(size)
        self._loaders: LRUCache[bytes, LoaderTemplate | None] = LRUCache(size)
        self._writes: LRUCache[bytes, tuple[ClaimWriter, ...]] = LRUCache(size)
        self._shared: LRUCache[Workload, Workload] = LRUCache(size)
        self._requests: LRUCache[tuple[tuple[str, int], ...], Amounts] = LRUCache(size)
        self._lock = Lock()

    def workload(self, pod: Pod) -> Workload:
        """Return what the pod asks for: the same object for pods that ask for the same."""
        return self.read(pod).workload

    def read(self, pod: Pod) -> Reading:
        """Return what the pod asks for, and what it requests beside memory."""
        return self._once(self._readings, pod, lambda: self._read(pod))

    def _read(self, pod: Pod) -> Reading:
        workload = read_workload(pod.metadata, pod.spec)
        requests: Amounts | None
        try:
            # As the template says: what a resize has given since differs from pod to pod.
            requests = pod_requests(Pod(spec=pod.spec))
        except InvalidQuantityError:
            requests = None
        claims = tuple(mounted_claims(pod.spec.volumes))
        with self._lock:
            shared = self._shared.setdefault(workload, workload)
            if requests is not None:
                requests = self._requests.setdefault(tuple(requests.items()), requests)
            return Reading(shared, requests, claims)

    def loader(self, pod: Pod) -> LoaderTemplate | None:
        """Return what a DaemonSet's pod loads; None where it is no loader."""
        return self._once(self._loaders, pod, lambda: read_loader(_as_daemonset(pod)))

    def loader_of(self, daemonset: DaemonSet) -> LoaderTemplate | None:
        """Return what a DaemonSet's pods load; None where it is no loader."""
        pod = _as_pod(daemonset.spec.template)
        return self._once(self._loaders, pod, lambda: read_loader(daemonset))

    def writes(self, job: Job) -> tuple[ClaimWriter, ...]:
        """Return the models that a Job's pods write into claims."""
        return self._once(self._writes, _as_pod(job.spec.template), lambda: read_job(job))

    def _once(self, cache: LRUCache[bytes, T], pod: Pod, read: Callable[[], T]) -> T:
        key = template_key(pod)
        with self._lock:
            if key in cache:
                return cache[key]
        value = read()
        with self._lock:
            cache[key] = value
        return value


def _as_pod(template: PodTemplate) -> Pod:
    return Pod(metadata=template.metadata, spec=template.spec)


def _as_daemonset(pod: Pod) -> DaemonSet:
    owner = pod.metadata.controller()
    metadata = msgspec.structs.replace(pod.metadata, name=owner.name if owner else "")
    template = PodTemplate(metadata=pod.metadata, spec=pod.spec)
    return DaemonSet(metadata=metadata, spec=DaemonSetSpec(template=template))


_encoder = msgspec.json.Encoder(order="deterministic")


def template_key(pod: Pod) -> bytes:
    """Return what tells pods apart by what readers look at.

    A digest: what it is of takes a hundred times as much to keep.
    """
    spec, metadata = pod.spec, pod.metadata
    ours = {k: v for k, v in metadata.annotations.items() if _matters(k)}
    owner = metadata.controller()
    read = _encoder.encode(
        (
            [_without_token(container) for container in spec.containers],
            [_without_token(container) for container in spec.init_containers],
            [v for v in spec.volumes if not v.name.startswith(TOKEN_VOLUME_PREFIX)],
            spec.resources,
            spec.overhead,
            ours,
            {k: v for k, v in metadata.labels.items() if k in _LABELS},
            any(map(is_mark, (*metadata.labels, *metadata.annotations))),
            metadata.namespace,
            (owner.kind, owner.name) if owner else None,
            _referred(pod),
        )
    )
    return sha256(read).digest()


def _matters(annotation: str) -> bool:
    """Keep what a reader may look at: ours and the serving stacks' own annotations."""
    return annotation in _OURS or "kserve" in annotation


def _referred(pod: Pod) -> list[tuple[str, str | None]]:
    """Return the fields of the pod's own metadata that its variables take, with their values."""
    spec = pod.spec
    paths = {
        variable.value_from.field_ref.field_path
        for container in (*spec.containers, *spec.init_containers)
        for variable in container.env
        if variable.value_from is not None and variable.value_from.field_ref is not None
    }
    return [(path, field_value(path, pod.metadata)) for path in sorted(paths)]


def _without_token(container: Container) -> Container:
    mounts = tuple(
        mount for mount in container.volume_mounts if not mount.name.startswith(TOKEN_VOLUME_PREFIX)
    )
    if len(mounts) == len(container.volume_mounts):
        return container
    return msgspec.structs.replace(container, volume_mounts=mounts)
