"""Who made a pod, and where in its manifest the pod's spec stands: what is to be changed.

A pod of a controller is not what one edits: the change goes into the template, of the outermost
owner that a person wrote.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

import msgspec

from extender.kube.objects import Job, ObjectMeta, Pod
from extender.workload.manifest import GROUP_NAME, TEMPLATES

_TEMPLATE_HASH = "pod-template-hash"
_WORKER_INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
_INFERENCE_SERVICE = "serving.kserve.io/inferenceservice"
_PART_OF, _NAME = "app.kubernetes.io/part-of", "app.kubernetes.io/name"
_LLM = "llminferenceservice"
"""Labels of every pod that KServe's controllers have made (pkg/constants/constants.go of
kserve/kserve); what its Deployment says they overwrite."""

_RESTARTED = frozenset({"Deployment", "StatefulSet"})
"""Owners that make their pods anew when they are told to (``kubectl rollout restart``)."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` is ``NAMESPACE/NAME``; ``template`` the field that holds metadata and spec.

    ``template`` is empty for a pod that nobody made, where it is the object itself, and None for
    owners that keep it nobody here knows where, or not in the form of a pod.
    """

    kind: str
    name: str
    template: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def at(self, field: str) -> str:
        """Return the whole path of one of the pod's fields: ``spec.template.spec.volumes[0]``."""
        if self.template is None:
            return f"its pod template's {field}"
        return f"{self.template}.{field}" if self.template else field

    def made_anew(self, pod: Pod) -> str:
        """Say what makes its pods anew, of which this is one."""
        namespace, _, name = self.name.partition("/")
        namespace, name = shlex.quote(namespace), shlex.quote(name)
        if self.kind in _RESTARTED:
            return f"kubectl rollout restart {self.kind.lower()} -n {namespace} {name}"
        if self.kind == "Pod":
            return f"delete it and create it again (kubectl delete pod -n {namespace} {name})"
        one = shlex.quote(pod.metadata.name)
        return f"delete its pods (kubectl delete pod -n {namespace} {one} ...)"


class Owners:
    """Finds owners; ``jobs`` tell which of them a CronJob made."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._jobs = {(job.metadata.namespace, job.metadata.name): job for job in jobs}

    def of(self, pod: Pod) -> Owner:
        """Return what one edits to change this pod; a Deployment's ReplicaSets are one."""
        metadata, made_by = pod.metadata, pod.metadata.controller()
        if made_by is None:
            return Owner(kind="Pod", name=_full(metadata, metadata.name), template="")
        kind, name = made_by.kind, made_by.name
        service = _inference_service(metadata)
        if service is not None:
            return service
        if kind == "Job":
            job = self._jobs.get((metadata.namespace, name))
            return _made(kind, metadata, name) if job is None else self.of_job(job)
        group = metadata.labels.get(GROUP_NAME)
        if kind == "StatefulSet" and group:
            leads = metadata.labels.get(_WORKER_INDEX) == "0"
            which = "leaderTemplate" if leads else "workerTemplate"
            return Owner(
                kind="LeaderWorkerSet",
                name=_full(metadata, group),
                template=f"spec.leaderWorkerTemplate.{which}",
            )
        template = metadata.labels.get(_TEMPLATE_HASH, "")
        if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
            kind, name = "Deployment", name.removesuffix(f"-{template}")
        return _made(kind, metadata, name)

    def of_job(self, job: Job) -> Owner:
        """Return the CronJob that made a Job, or the Job."""
        made_by = job.metadata.controller()
        if made_by is not None and made_by.kind == "CronJob":
            return _made("CronJob", job.metadata, made_by.name)
        return _made("Job", job.metadata, job.metadata.name)


def daemon_set_owner(metadata: ObjectMeta) -> Owner:
    """Return a DaemonSet as an owner."""
    return _made("DaemonSet", metadata, metadata.name)


def _inference_service(metadata: ObjectMeta) -> Owner | None:
    labels = metadata.labels
    if name := labels.get(_INFERENCE_SERVICE):
        return Owner(kind="InferenceService", name=_full(metadata, name))
    if labels.get(_PART_OF) == _LLM and (name := labels.get(_NAME)):
        return Owner(kind="LLMInferenceService", name=_full(metadata, name))
    return None


def _made(kind: str, metadata: ObjectMeta, name: str) -> Owner:
    """Name an owner; where others than these keep their template is not known."""
    template = ".".join(TEMPLATES[kind]) if kind in TEMPLATES else None
    return Owner(kind=kind, name=_full(metadata, name), template=template)


def _full(metadata: ObjectMeta, name: str) -> str:
    return f"{metadata.namespace}/{name}"
