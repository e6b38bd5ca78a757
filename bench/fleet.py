"""A synthetic cluster of any size, as the JSON that an apiserver would send.

Objects have the size of real ones (about 6 KB a pod, 10 KB a node, most of it managedFields), so
that reading them costs what it costs in a real cluster. Everything follows from the numbers in
``Fleet``: the benchmark and the local apiserver, two processes, see the same cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from tests.builders import READY, loader_spec

NAMESPACE = "inference"
WORKLOAD_LABEL = "bench.modelcache.dev/workload"
WORKLOADS = ("required", "preferred", "memory", "none")
"""The mixed workload, a quarter each: a model that must be there, one that is better there, a
memory-backed volume, and no model at all."""

ZONES = 3
_TEMPLATES = 40
_HOLDERS = {"required": 50, "preferred": 5}
"""One node in so many holds the model: 2 % and 20 %."""

_MODELS = {"required": "llama-3.1-8b-instruct", "preferred": "qwen2.5-7b-instruct"}
_POD_BYTES = 6_000
_NODE_BYTES = 9_600
_BORN = "2026-01-01T00:00:00Z"
_NOT_READY: dict[str, Any] = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": _BORN}],
}


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """``nodes`` nodes, the loader pods of two models, and ``pods`` other pods spread over them."""

    nodes: int
    pods: int

    def node_name(self, index: int) -> str:
        """Return a name as long as those of machines are: 112 KB for 5,000 of them."""
        return f"gpu-pool-a-{index:05d}-x7"

    def node_names(self) -> list[str]:
        """Return every node's name."""
        return [self.node_name(index) for index in range(self.nodes)]

    def node(self, index: int, *, provides: bool = False) -> dict[str, Any]:
        """Return one node with 64 GiB of memory.

        With ``provides`` it says itself which models it holds: for a control plane without loaders.
        """
        name = self.node_name(index)
        resources = {"memory": "64Gi", "cpu": "32", "pods": "110"}
        images = [
            {"names": [f"registry.example/app-{n}:v{index % 7}"], "sizeBytes": 10**8 + n}
            for n in range(10)
        ]
        document = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "uid": f"node-{index}",
                "resourceVersion": "1",
                "creationTimestamp": _BORN,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "topology.kubernetes.io/zone": f"zone-{index % ZONES}",
                },
                "annotations": {"modelcache.dev/provides": self._held(index)} if provides else {},
            },
            "spec": {},
            "status": {"allocatable": resources, "capacity": resources, "images": images},
        }
        return _padded(document, _NODE_BYTES)

    def _held(self, index: int) -> str:
        models = [model for name, model in _MODELS.items() if index % _HOLDERS[name] == 0]
        return "\n".join(f"/var/lib/models/{model}" for model in models)

    def daemonsets(self) -> list[dict[str, Any]]:
        """Return the two loaders."""
        return [
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {
                    "name": f"loader-{workload}",
                    "namespace": NAMESPACE,
                    "uid": f"ds-{workload}",
                    "resourceVersion": "1",
                },
                "spec": {"template": {"metadata": {}, "spec": _loader_spec(model)}},
            }
            for workload, model in _MODELS.items()
        ]

    def loader_pods(self) -> Iterator[dict[str, Any]]:
        """Yield the loaders' pods, all Ready."""
        for workload, model in _MODELS.items():
            for index in range(0, self.nodes, _HOLDERS[workload]):
                owner = {"kind": "DaemonSet", "name": f"loader-{workload}", "controller": True}
                yield {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"loader-{workload}-{index}",
                        "namespace": NAMESPACE,
                        "uid": f"loader-{workload}-{index}",
                        "resourceVersion": "1",
                        "creationTimestamp": _BORN,
                        "ownerReferences": [{**owner, "uid": f"ds-{workload}"}],
                    },
                    "spec": {**_loader_spec(model), "nodeName": self.node_name(index)},
                    "status": READY,
                }

    def pod(self, index: int, *, ready: bool, version: int) -> str:
        """Return one of the other pods, bound and running, as JSON."""
        text = _POD_TEXTS[index % _TEMPLATES, ready]
        name = f"app-{index % _TEMPLATES}-6d5f7c9b8-{index:06d}"
        node = self.node_name(index * 7919 % self.nodes)
        return (
            text.replace("@NAME@", name).replace("@NODE@", node).replace("@VERSION@", f"{version}")
        )


def question(workload: str, number: int, *, scheduler: str = "default-scheduler") -> dict[str, Any]:
    """Return a pod that is to be scheduled."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{workload}-{number}",
            "namespace": NAMESPACE,
            "uid": f"{workload}-{number}",
            "labels": {WORKLOAD_LABEL: workload, "app": workload},
            "annotations": {"modelcache.dev/need": "preferred"} if workload == "preferred" else {},
        },
        "spec": {"schedulerName": scheduler, **_question_spec(workload)},
    }


def _question_spec(workload: str) -> dict[str, Any]:
    requests = {"cpu": "100m", "memory": "1Gi"}
    container: dict[str, Any] = {
        "name": "main",
        "image": "vllm/vllm-openai:v0.8.0",
        "resources": {"requests": requests},
    }
    if workload == "none":
        return {"containers": [container]}
    if workload == "memory":
        container["args"] = ["--model", "/weights/llama"]
        container["volumeMounts"] = [{"name": "weights", "mountPath": "/weights"}]
        volume: dict[str, Any] = {"emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}
        return {"containers": [container], "volumes": [{"name": "weights", **volume}]}
    container["args"] = ["--model", f"/models/{_MODELS[workload]}"]
    read_only = workload == "required"
    container["volumeMounts"] = [{"name": "weights", "mountPath": "/models", "readOnly": read_only}]
    volume = {"hostPath": {"path": "/var/lib/models"}}
    return {"containers": [container], "volumes": [{"name": "weights", **volume}]}


def _loader_spec(model: str) -> dict[str, Any]:
    return loader_spec(f"hf download example/{model} --local-dir /models/{model}")


def _pod_text(template: int, *, ready: bool) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "@NAME@",
            "namespace": f"team-{template % 8}",
            "uid": "uid-@NAME@",
            "resourceVersion": "@VERSION@",
            "creationTimestamp": _BORN,
            "labels": {"app": f"app-{template}", "pod-template-hash": "6d5f7c9b8"},
            "ownerReferences": [
                {"kind": "ReplicaSet", "name": f"app-{template}", "uid": "rs", "controller": True}
            ],
        },
        "spec": {
            "schedulerName": "default-scheduler",
            "nodeName": "@NODE@",
            "containers": [
                {
                    "name": "main",
                    "image": f"registry.example/app-{template}:v1",
                    "args": ["--port", "8080"],
                    "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
                }
            ],
        },
        "status": READY if ready else _NOT_READY,
    }
    return json.dumps(_padded(document, _POD_BYTES), separators=(",", ":"))


def _padded(document: dict[str, Any], size: int) -> dict[str, Any]:
    """Bring an object to the size of a real one with what nobody here reads."""
    missing = size - len(json.dumps(document, separators=(",", ":")))
    field: dict[str, Any] = {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}
    entry = {"manager": "kubelet", "operation": "Update", "fieldsV1": field}
    count = max(0, missing // (len(json.dumps(entry, separators=(",", ":"))) + 1))
    metadata = {**document["metadata"], "managedFields": [entry] * count}
    return {**document, "metadata": metadata}


_POD_TEXTS = {
    (template, ready): _pod_text(template, ready=ready)
    for template in range(_TEMPLATES)
    for ready in (True, False)
}
