"""Clusters put together for one question, and pods that ask the questions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from extender.cluster.memory import VolumeCounting
from extender.cluster.state import ClusterState
from extender.kube.objects import KubeObject, Pod
from extender.placement.policy import Policy
from extender.placement.verdict import Judge
from extender.verbs.context import Context
from tests.builders import HOST_MODEL, MODEL, pod, vllm

GI = 2**30
ZONE = "topology.kubernetes.io/zone"
IMAGE = "registry.example/llama:1"


class Clock:
    """Says what time it is told; 2026-01-01T00:15:00Z to begin with."""

    def __init__(self, now: str = "2026-01-01T00:15:00Z") -> None:
        self.set(now)

    def set(self, now: str) -> None:
        self.now = datetime.fromisoformat(now).timestamp()

    def __call__(self) -> float:
        return self.now


def cluster(
    *objects: KubeObject,
    clock: Clock | None = None,
    counting: VolumeCounting = VolumeCounting.SIZED,
) -> ClusterState:
    """Return a state that has seen these objects, one after another."""
    state = ClusterState(clock=clock or Clock(), counting=counting)
    for obj in objects:
        state.upsert(obj)
    return state


def judge(
    asker: Pod,
    state: ClusterState,
    policy: Policy | None = None,
    *,
    stale: tuple[str, ...] = (),
) -> Judge:
    """Prepare the answers for a pod."""
    return Context(state=state, policy=policy or Policy(), stale=lambda: stale).judge(asker)


def plain() -> Pod:
    """Return a pod that asks for no model and no memory."""
    return pod("plain")


def from_claim(claim: str = "model-store") -> Pod:
    """Return the server that reads its model from a claim."""
    source = {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    return vllm("from-claim", volume=source)


def from_image(reference: str = IMAGE) -> Pod:
    """Return the server whose model is an image volume."""
    return vllm("from-image", volume={"image": {"reference": reference}})


def from_hub() -> Pod:
    """Return a server that downloads its model, wherever it lands."""
    args = ["--model", "meta-llama/Llama-3.1-8B-Instruct"]
    image = "vllm/vllm-openai:v0.11.0"
    return pod("hub", spec={"containers": [{"name": "vllm", "image": image, "args": args}]})


def annotated(asker: Pod, **annotations: str) -> Pod:
    """Return a pod with ``modelcache.dev/`` annotations."""
    said = {f"modelcache.dev/{key}": value for key, value in annotations.items()}
    metadata = msgspec.structs.replace(asker.metadata, annotations=said)
    return msgspec.structs.replace(asker, metadata=metadata)


def copied_to_memory(size: str = "20Gi") -> Pod:
    """Return a server whose init container copies the model from the node's cache to memory."""
    copy = {
        "name": "copy",
        "image": "busybox:1.37",
        "command": ["sh", "-c", "cp -r /cache/llama-3.1-8b-instruct /models/"],
        "volumeMounts": [
            {"name": "cache", "mountPath": "/cache", "readOnly": True},
            {"name": "ram", "mountPath": "/models"},
        ],
    }
    serve = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", MODEL],
        "resources": {"requests": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "ram", "mountPath": "/models"}],
    }
    return pod(
        "copied",
        spec={
            "initContainers": [copy],
            "containers": [serve],
            "volumes": [
                {"name": "cache", "hostPath": {"path": "/var/lib/models", "type": "Directory"}},
                {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": size}},
            ],
        },
    )


def memory_pod(*, on: str = "", request: str | None = None, **volume: Any) -> Pod:
    """Return a pod with one memory-backed volume; ``mount`` says where, ``size`` how large."""
    mount = volume.pop("mount", "/ram")
    source = {"medium": "Memory"} | ({"sizeLimit": volume["size"]} if "size" in volume else {})
    resources: dict[str, Any] = {"requests": {"memory": request}} if request else {}
    if "limit" in volume:
        resources["limits"] = {"memory": volume["limit"]}
    container = {
        "name": "main",
        "image": "busybox:1.37",
        "resources": resources,
        "volumeMounts": [{"name": "ram", "mountPath": mount}],
    }
    volumes = [{"name": "ram", "emptyDir": source}]
    name = f"memory-{on or 'asks'}"
    return pod(name, spec={"nodeName": on, "containers": [container], "volumes": volumes})


def provides(path: str = HOST_MODEL) -> dict[str, str]:
    """Return the annotation of a node whose machine image has the model."""
    return {"modelcache.dev/provides": path}
