"""What is watched: kinds, where the apiserver has them, and what is left out at the source.

Pods that have ended are not asked for. They hold no node's memory, and in a cluster that runs
batch jobs they are most of all pods. With this selector, which kube-scheduler's own informer uses
too, the end of a pod arrives as its deletion. Of the Leases only those of loaders are asked for:
the kubelet of each node keeps one, too.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.kube import objects
from extender.report import LEASE_LABEL


class Resource(msgspec.Struct, frozen=True):
    """One watched resource: ``path`` is the collection over all namespaces."""

    kind: type[objects.KubeObject]
    path: str
    selectors: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """The API kind, as logs and metrics name it."""
        return self.kind.__name__


NODES = Resource(objects.Node, "/api/v1/nodes")
PODS = Resource(
    objects.Pod,
    "/api/v1/pods",
    {"fieldSelector": "status.phase!=Succeeded,status.phase!=Failed"},
)
DAEMON_SETS = Resource(objects.DaemonSet, "/apis/apps/v1/daemonsets")
JOBS = Resource(objects.Job, "/apis/batch/v1/jobs")
CLAIMS = Resource(objects.PersistentVolumeClaim, "/api/v1/persistentvolumeclaims")
VOLUMES = Resource(objects.PersistentVolume, "/api/v1/persistentvolumes")
STORAGE_CLASSES = Resource(objects.StorageClass, "/apis/storage.k8s.io/v1/storageclasses")
NAMESPACES = Resource(objects.Namespace, "/api/v1/namespaces")
LOADER_LEASES = Resource(
    objects.Lease,
    "/apis/coordination.k8s.io/v1/leases",
    {"labelSelector": f"{LEASE_LABEL}=true"},
)

RESOURCES: tuple[Resource, ...] = (
    NODES,
    PODS,
    DAEMON_SETS,
    JOBS,
    CLAIMS,
    VOLUMES,
    STORAGE_CLASSES,
    NAMESPACES,
    LOADER_LEASES,
)
"""Everything that the cluster state is made of."""
