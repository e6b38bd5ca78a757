"""What a dump lacks: whole kinds that the cluster must have, and what cannot be said without them.

A list of a kind that was not asked for looks like one of a cluster that has none. What other
objects of the dump refer to was there when they were read.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from extender.kube.objects import Pod
from extender.report import REPORT_ANNOTATION
from extender.snapshot import DUMP_COMMAND, STDIN
from extender.workload.manifest import inner

Documents = Sequence[dict[str, Any]]


class _Gap(msgspec.Struct, frozen=True):
    """A kind that must be there: its resource, why, whether so here, what cannot be said for it.

    ``because`` is empty for a kind of which every cluster has some.
    """

    kind: str
    resource: str
    because: str
    there: Callable[[Documents], bool]
    unsaid: str


def _always(documents: Documents) -> bool:
    return bool(documents)


def _mounts_claims(documents: Documents) -> bool:
    pods = (inner(one, ("spec", "volumes")) for one in documents if one.get("kind") == "Pod")
    return any(
        inner(volume, ("persistentVolumeClaim",)) is not None
        for volumes in pods
        if isinstance(volumes, list)
        for volume in volumes
    )


def _claims(field: str) -> Callable[[Documents], bool]:
    def there(documents: Documents) -> bool:
        claims = (one for one in documents if one.get("kind") == "PersistentVolumeClaim")
        return any(inner(claim, ("spec", field)) for claim in claims)

    return there


def _of_jobs(documents: Documents) -> bool:
    owners = (inner(one, ("metadata", "ownerReferences")) for one in documents)
    return any(
        inner(owner, ("kind",)) == "Job"
        for some in owners
        if isinstance(some, list)
        for owner in some
    )


def _reports(documents: Documents) -> bool:
    return any(inner(one, ("metadata", "annotations", REPORT_ANNOTATION)) for one in documents)


_GAPS = (
    _Gap("Node", "nodes", "", _always, "there is nowhere to place a pod"),
    _Gap(
        "Pod", "pods", "", _always,
        "every node looks empty: what pods take of its memory and other resources is not known, "
        "nor which loaders are Ready",
    ),
    _Gap(
        "DaemonSet", "daemonsets.apps", "", _always,
        "loaders are known by their pods alone: a host path that is one's without a pod refuses no "
        "node",
    ),
    _Gap(
        "Namespace", "namespaces", "", _always,
        "none of their labels is known: whose loaders are trusted, whose pods come to this "
        "scheduler",
    ),
    _Gap(
        "PersistentVolumeClaim", "persistentvolumeclaims", "pods mount claims", _mounts_claims,
        "every claim counts as missing",
    ),
    _Gap(
        "PersistentVolume", "persistentvolumes", "claims are bound to some", _claims("volumeName"),
        "which nodes can mount a claim is not known, and refuses none",
    ),
    _Gap(
        "StorageClass", "storageclasses.storage.k8s.io", "claims name some",
        _claims("storageClassName"),
        "whether a claim that is not bound waits for its first pod is not known",
    ),
    _Gap(
        "Job", "jobs.batch", "pods belong to some", _of_jobs,
        "whether a claim is still being filled is not known, and refuses no node",
    ),
    _Gap(
        "Lease", "leases.coordination.k8s.io", "loaders that report renew one on each node",
        _reports, "whether loaders are alive and how far their downloads are is not known",
    ),
)  # fmt: skip


def gaps(path: Path, documents: Documents, asked: Iterable[Pod] = ()) -> dict[str, str]:
    """Return the kinds that a dump must have and has not, with what that means and how to add them.

    ``asked`` are pods that are judged and are no part of it.
    """
    kinds = [one.get("kind") for one in documents]  # of a broken dump anything
    claimed = any(v.persistent_volume_claim for pod in asked for v in pod.spec.volumes)
    return {
        gap.kind: _said(gap, path)
        for gap in _GAPS
        if gap.kind not in kinds
        and (gap.there(documents) or (gap.kind == "PersistentVolumeClaim" and claimed))
    }


def _said(gap: _Gap, path: Path) -> str:
    because = f", and {gap.because}" if gap.because else ""
    return f"holds no {gap.kind}{because}: {gap.unsaid}; {_how_to_add(path, gap.resource)}"


def _how_to_add(path: Path, resource: str) -> str:
    """Say how to add a kind; to one document of JSON nothing can be added."""
    if path == STDIN or path.suffix == ".json":
        return f"make it anew: {DUMP_COMMAND} > cluster.yaml"
    get = f"kubectl get {resource} --all-namespaces -o yaml"
    return f"add them: (echo ---; {get}) >> {shlex.quote(str(path))}"
