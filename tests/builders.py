"""Small builders of Kubernetes objects for tests: say what matters, leave out the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from extender.cluster.state import ClusterState
from extender.kube.decode import convert
from extender.kube.objects import (
    Condition,
    DaemonSet,
    Job,
    KubeObject,
    Lease,
    Namespace,
    Node,
    OwnerReference,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    SchedulingGate,
    StorageClass,
)
from extender.kube.times import time_text
from extender.report import (
    LEASE_LABEL,
    PROGRESS_ANNOTATION,
    REPORT_ANNOTATION,
    WANTED_ANNOTATION,
    Progress,
    Report,
    ReportedModel,
    ReportedState,
    Wanted,
    lease_name,
    write,
)

MODEL = "/models/llama-3.1-8b-instruct"
HOST_MODEL = "/var/lib/models/llama-3.1-8b-instruct"
DOWNLOAD = (
    f"if [ ! -f {MODEL}/config.json ]; then pip install huggingface_hub && "
    'python -c "from huggingface_hub import snapshot_download; '
    "snapshot_download('meta-llama/Llama-3.1-8B-Instruct', "
    f"local_dir='{MODEL}')\"; fi"
)
GPU = "nvidia.com/gpu"


def node(name: str, memory: str = "64Gi", **metadata: Any) -> Node:
    """Build a node; ``gpus`` is how many it has, ``images`` maps names to bytes."""
    images, gpus = metadata.pop("images", {}), metadata.pop("gpus", 0)
    devices = {GPU: str(gpus)} if gpus else {}
    return convert(
        {
            "metadata": {"name": name, **metadata},
            "status": {
                "allocatable": {"memory": memory, **devices},
                "images": [{"names": [n], "sizeBytes": size} for n, size in images.items()],
            },
        },
        Node,
    )


def loader_spec(script: str = DOWNLOAD) -> dict[str, Any]:
    return {
        "initContainers": [
            {
                "name": "download",
                "image": "python:3.12-slim",
                "command": ["bash", "-c"],
                "args": [script],
                "volumeMounts": [{"name": "models", "mountPath": "/models"}],
            }
        ],
        "containers": [{"name": "pause", "image": "registry.k8s.io/pause:3.10"}],
        "volumes": [
            {"name": "models", "hostPath": {"path": "/var/lib/models", "type": "DirectoryOrCreate"}}
        ],
    }


def loader(
    name: str = "model-loader", namespace: str = "inference", script: str = DOWNLOAD
) -> DaemonSet:
    return convert(
        {
            "metadata": {"name": name, "namespace": namespace, "uid": f"ds-{namespace}-{name}"},
            "spec": {
                "template": {"metadata": {"labels": {"app": name}}, "spec": loader_spec(script)}
            },
        },
        DaemonSet,
    )


READY: dict[str, Any] = {
    "phase": "Running",
    "conditions": [
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ],
}
LOADING: dict[str, Any] = {
    "phase": "Pending",
    "conditions": [
        {"type": "Initialized", "status": "False"},
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ],
    "initContainerStatuses": [{"name": "download", "state": {"running": {}}}],
}
CRASHING: dict[str, Any] = {
    "phase": "Pending",
    "conditions": LOADING["conditions"],
    "initContainerStatuses": [
        {
            "name": "download",
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }
    ],
}
STOPPED: dict[str, Any] = {
    "phase": "Running",
    "conditions": [
        {"type": "Initialized", "status": "True"},
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:10:00Z"},
    ],
    "containerStatuses": [
        {
            "name": "pause",
            "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        }
    ],
}


OUR_LOADER: dict[str, Any] = {
    "containers": [
        {
            "name": "loader",
            "image": "model-cache-extender:test",
            "args": ["loader", "run", "--catalog", "/etc/c.yaml", "--directory", "/cache"],
            "volumeMounts": [{"name": "models", "mountPath": "/cache"}],
        }
    ],
    "volumes": [{"name": "models", "hostPath": {"path": "/var/lib/models"}}],
}


def our_loader(name: str = "model-cache-loader", namespace: str = "inference") -> DaemonSet:
    """Build the DaemonSet of this program's own loader."""
    metadata = {"name": name, "namespace": namespace, "uid": f"ds-{namespace}-{name}"}
    return convert(
        {"metadata": metadata, "spec": {"template": {"metadata": {}, "spec": OUR_LOADER}}},
        DaemonSet,
    )


def reporting_pod(
    on: str,
    status: dict[str, Any],
    report: Report | str | None,
    *,
    namespace: str = "inference",
    uid: str | None = None,
    deleted: bool = False,
) -> Pod:
    """Build our loader's pod on a node, with what it reports (or some other text there)."""
    plain = loader_pod(
        on,
        status,
        name="model-cache-loader",
        namespace=namespace,
        spec=OUR_LOADER,
        uid=uid,
        deleted=deleted,
    )
    if report is None:
        return plain
    text = report if isinstance(report, str) else write(report)
    metadata = msgspec.structs.replace(plain.metadata, annotations={REPORT_ANNOTATION: text})
    return msgspec.structs.replace(plain, metadata=metadata)


def reported(
    state: ReportedState = ReportedState.READY, path: str = "llama-3.1-8b-instruct", **more: Any
) -> Report:
    """Build a report of one model."""
    model = ReportedModel(path=path, state=state, **more)
    return Report(directory="/var/lib/models", models=(model,))


def loader_lease(
    node_name: str,
    renewed: str,
    *,
    namespace: str = "inference",
    progress: Progress | str | None = None,
    wanted: Wanted | None = None,
    seconds: int = 90,
) -> Lease:
    """Build the Lease that our loader keeps for a node; ``renewed`` is an RFC 3339 time.

    After so many ``seconds`` without another renewal it gives no sign of life.
    """
    annotations = {}
    if progress is not None:
        text = progress if isinstance(progress, str) else write(progress)
        annotations[PROGRESS_ANNOTATION] = text
    if wanted is not None:
        annotations[WANTED_ANNOTATION] = write(wanted)
    metadata = {
        "name": lease_name(node_name),
        "namespace": namespace,
        "labels": {LEASE_LABEL: "true"},
        "annotations": annotations,
    }
    spec = {"renewTime": renewed, "leaseDurationSeconds": seconds}
    return convert({"metadata": metadata, "spec": spec}, Lease)


def loader_pod(
    on: str,
    status: dict[str, Any],
    *,
    name: str = "model-loader",
    namespace: str = "inference",
    script: str = DOWNLOAD,
    spec: dict[str, Any] | None = None,
    uid: str | None = None,
    deleted: bool = False,
) -> Pod:
    metadata: dict[str, Any] = {
        "name": f"{name}-{on}",
        "namespace": namespace,
        "uid": uid or f"pod-{namespace}-{name}-{on}",
        "labels": {"app": name},
        "ownerReferences": [
            {
                "kind": "DaemonSet",
                "name": name,
                "uid": f"ds-{namespace}-{name}",
                "controller": True,
            }
        ],
    }
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:20:00Z"
    spec = {**(spec or loader_spec(script)), "nodeName": on}
    return convert({"metadata": metadata, "spec": spec, "status": status}, Pod)


def pod(name: str = "p", namespace: str = "inference", **more: Any) -> Pod:
    """Build a pod; ``spec``, ``status``, ``metadata`` are plain data."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        **more.get("metadata", {}),
    }
    spec = more.get("spec", {"containers": [{"name": "main", "image": "busybox:1.37"}]})
    return convert({"metadata": metadata, "spec": spec, "status": more.get("status", {})}, Pod)


def vllm(
    name: str = "llama",
    *,
    volume: dict[str, Any] | None = None,
    model: str = MODEL,
    memory: str = "8Gi",
    namespace: str = "inference",
    on: str = "",
    gpus: int = 0,
) -> Pod:
    """Build the article's vLLM pod: a local path on a read-only hostPath unless told otherwise."""
    source = volume or {"hostPath": {"path": "/var/lib/models", "type": "Directory"}}
    devices = {GPU: str(gpus)} if gpus else {}
    return pod(
        name,
        namespace,
        spec={
            "nodeName": on,
            "containers": [
                {
                    "name": "vllm",
                    "image": "vllm/vllm-openai:v0.11.0",
                    "args": ["--model", model],
                    "resources": {"requests": {"memory": memory, **devices}, "limits": devices},
                    "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
                    "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
                }
            ],
            "volumes": [{"name": "models", **source}],
        },
        status={"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        if on
        else {"phase": "Pending"},
    )


def tmpfs(
    name: str = "ram", *, size: str = "20Gi", memory: str = "1Gi", on: str = "", phase: str = ""
) -> Pod:
    """Build a pod with a memory-backed emptyDir that its request does not cover."""
    return pod(
        name,
        spec={
            "nodeName": on,
            "containers": [
                {
                    "name": "main",
                    "image": "busybox:1.37",
                    "resources": {"requests": {"memory": memory}},
                    "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
                }
            ],
            "volumes": [{"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": size}}],
        },
        status={"phase": phase or ("Running" if on else "Pending")},
    )


def unplaced(
    found: Pod,
    *,
    at: float,
    says: str = "",
    reason: str = "Unschedulable",
    scheduler: str = "model-cache-scheduler",
    nominated: str = "",
) -> Pod:
    """Return a pod that was made ``at``, and what its scheduler said of why it has no node."""
    condition = Condition(type="PodScheduled", status="False", reason=reason, message=says)
    return msgspec.structs.replace(
        found,
        metadata=msgspec.structs.replace(found.metadata, creation_timestamp=time_text(at)),
        spec=msgspec.structs.replace(found.spec, scheduler_name=scheduler),
        status=msgspec.structs.replace(
            found.status,
            conditions=(condition,) if says else (),
            nominated_node_name=nominated,
        ),
    )


def requesting(name: str, memory: str) -> Pod:
    """Build a pod that needs no model and no volume: kube-scheduler counts all that it asks for."""
    resources = {"requests": {"memory": memory}}
    container = {"name": "main", "image": "busybox:1.37", "resources": resources}
    return pod(name, spec={"containers": [container]})


def deleted(found: Pod) -> Pod:
    """Return a pod that is being deleted: its grace period runs, or a finalizer keeps it."""
    metadata = msgspec.structs.replace(found.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    return msgspec.structs.replace(found, metadata=metadata)


def gated(found: Pod) -> Pod:
    """Return a pod that a scheduling gate holds back."""
    spec = msgspec.structs.replace(found.spec, scheduling_gates=(SchedulingGate(),))
    return msgspec.structs.replace(found, spec=spec)


def owned(found: Pod, kind: str, name: str = "owner") -> Pod:
    """Return a pod as a controller's."""
    owner = OwnerReference(kind=kind, name=name, controller=True)
    metadata = msgspec.structs.replace(found.metadata, owner_references=(owner,))
    return msgspec.structs.replace(found, metadata=metadata)


def claim(
    name: str = "model-store",
    *,
    phase: str = "Bound",
    selected_node: str = "",
    **spec: Any,
) -> PersistentVolumeClaim:
    """Build a claim; ``selected_node`` is where kube-scheduler has its volume made."""
    chosen = {"volume.kubernetes.io/selected-node": selected_node} if selected_node else {}
    metadata = {"name": name, "namespace": "inference", "annotations": chosen}
    return convert(
        {
            "metadata": metadata,
            "spec": {"volumeName": f"pv-{name}", "accessModes": ["ReadWriteMany"], **spec},
            "status": {"phase": phase},
        },
        PersistentVolumeClaim,
    )


def volume(
    name: str = "pv-model-store",
    *,
    zone: str | None = None,
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> PersistentVolume:
    """Build a volume; ``zone`` is what its affinity ties it to."""
    if zone:
        expression = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}
        terms = [{"matchExpressions": [expression]}]
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
    metadata = {"name": name, "labels": labels or {}}
    return convert({"metadata": metadata, "spec": spec}, PersistentVolume)


def storage_class(
    name: str = "late", *, mode: str = "WaitForFirstConsumer", zone: str = "", **more: Any
) -> StorageClass:
    """Build a class; ``zone`` is the only one that it makes volumes in."""
    topologies = []
    if zone:
        label = {"key": "topology.kubernetes.io/zone", "values": [zone]}
        topologies = [{"matchLabelExpressions": [label]}]
    return convert(
        {
            "metadata": {"name": name, **more.pop("metadata", {})},
            "provisioner": "disk.example",
            "volumeBindingMode": mode,
            "allowedTopologies": topologies,
            **more,
        },
        StorageClass,
    )


def job(name: str, conditions: tuple[str, ...] = (), script: str = DOWNLOAD) -> Job:
    """Build the article's download Job: it fills claim ``model-store``."""
    spec = loader_spec(script)
    container = {**spec["initContainers"][0]}
    template = {
        "containers": [container],
        "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "model-store"}}],
    }
    return convert(
        {
            "metadata": {"name": name, "namespace": "inference", "uid": f"job-{name}"},
            "spec": {"template": {"spec": template}},
            "status": {
                "conditions": [
                    {"type": c, "status": "True", "reason": "BackoffLimitExceeded"}
                    for c in conditions
                ],
                "succeeded": int("Complete" in conditions),
            },
        },
        Job,
    )


def namespace(name: str, *, trusted: bool = False) -> Namespace:
    labels = {"modelcache.dev/loaders": "trusted"} if trusted else {}
    return convert({"metadata": {"name": name, "labels": labels}}, Namespace)


def relist(state: ClusterState, kind: type[KubeObject], objects: Sequence[KubeObject]) -> None:
    """Have a state told of a complete list, of which the answer comes at once."""
    draft = state.listing(kind)
    draft.add(objects)
    draft.replace()
