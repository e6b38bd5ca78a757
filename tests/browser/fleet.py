"""A dump of a large cluster: what loaders report of twenty models on thousands of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from extender.cluster.decisions import BoundDecision
from extender.cluster.holdings import Evidence
from extender.cluster.tiers import Tier
from extender.kube.objects import KubeObject, Pod
from extender.kube.times import time_text
from extender.report import Disk, Progress, Report, ReportedModel, ReportedState, Transfer
from extender.workload.model import Strategy
from tests.builders import READY, loader_lease, node, our_loader, pod, reporting_pod, tmpfs, vllm

NOW = 1_793_000_000.0
MODELS = (
    "llama-3.1-8b-instruct llama-3.3-70b-instruct qwen2.5-7b-instruct qwen3-32b mistral-7b-v0.3 "
    "mixtral-8x7b gemma-2-9b-it gemma-3-27b phi-4 deepseek-r1-distill-32b falcon-40b yi-34b-chat "
    "command-r-35b granite-3-8b olmo-2-13b starcoder2-15b codellama-34b nemotron-4b smollm2-1.7b "
    "whisper-large-v3"
).split()
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
"""Named by one node's loader and by one waiting pod."""
GB = 10**9
_NOBODY_RENEWS = 86_400
"""Time goes on from the dump's: however long the tests take, its loaders live."""


def node_name(index: int) -> str:
    return f"gpu-{index:04d}"


def _model(index: int, place: int) -> ReportedModel | None:
    kind = (index * 7 + place * 13) % 29
    size = (4 + place * 3) * GB
    name = MODELS[place]
    if kind > 19:
        return None
    source = f"hf://org/{name}"
    if kind == 3:
        return ReportedModel(path=name, state=ReportedState.LOADING, model=source)
    if kind == 7:
        reason = "the hub refused the token"
        return ReportedModel(path=name, state=ReportedState.FAILED, model=source, reason=reason)
    proven = time_text(NOW - 60 * (1 + (index + place) % 600))
    return ReportedModel(
        path=name, state=ReportedState.READY, model=source, bytes=size, proven_at=proven
    )


def _loader(index: int) -> Iterator[KubeObject]:
    models = [found for place in range(len(MODELS)) if (found := _model(index, place))]
    if index == 0:
        models.append(ReportedModel(path=HOSTILE.replace("/", "|"), state=ReportedState.READY))
    name = node_name(index)
    report = Report(directory="/var/lib/models", models=tuple(models))
    yield reporting_pod(name, READY, report)
    transfers = tuple(
        Transfer(path=m.path, bytes_done=(index % 10) * GB, bytes_total=12 * GB,
                 bytes_per_second=0.2 * GB)
        for m in models
        if m.state is ReportedState.LOADING
    )  # fmt: skip
    disk = Disk(free_bytes=500 * GB, total_bytes=2000 * GB, read_bytes_per_second=2.4 * GB)
    progress = Progress(transfers=transfers, disk=disk)
    yield loader_lease(name, time_text(NOW), progress=progress, seconds=_NOBODY_RENEWS)


def _started(index: int) -> KubeObject:
    """Build a pod that this program bound, with the start that it had."""
    place = node_name(index)
    decision = BoundDecision(
        time=NOW - 3600,
        node=place,
        model="/models/llama-3.1-8b-instruct",
        strategy=Strategy.NODE_CACHE,
        evidence=Evidence.VERIFIED,
        tier=Tier.DISK,
        estimated_start_seconds=28.0,
    )
    conditions = [
        {"type": kind, "status": "True", "lastTransitionTime": time_text(NOW - 3600 + after)}
        for kind, after in (("PodScheduled", 0), ("Ready", 35 + index % 9))
    ]
    spec = msgspec.to_builtins(vllm(on=place, memory="16Gi").spec)
    return pod(
        f"serving-{index}",
        metadata={"annotations": decision.annotations()},
        spec=spec,
        status={"phase": "Running", "conditions": conditions},
    )


def _objects(nodes: int) -> Iterator[KubeObject]:
    yield our_loader()
    for index in range(nodes):
        labels = {
            "kubernetes.io/hostname": node_name(index),
            "topology.kubernetes.io/zone": f"zone-{'abc'[index % 3]}",
            "node.kubernetes.io/instance-type": f"gpu-{(1, 4, 8)[index % 7 % 3]}x",
        }
        yield node(node_name(index), "256Gi", labels=labels)
        yield from _loader(index)
        if index % 3 == 0:
            yield _started(index)
        if index % 4 == 0:
            yield tmpfs(f"ram-{index}", size=f"{20 + index % 160}Gi", memory="8Gi",
                        on=node_name(index))  # fmt: skip
    yield from waiting_pods()
    yield _never_asked_about()


def _never_asked_about() -> KubeObject:
    """Build a pod that no node passes in-tree: no extender is asked."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/5000 nodes are available: 1500 Insufficient nvidia.com/gpu, 3500 node(s) had "
        "untolerated taint(s). no new claims to deallocate, preemption: not eligible.",
    }
    return pod(
        "no-gpu",
        metadata={"creationTimestamp": time_text(NOW - 300)},
        spec=msgspec.to_builtins(vllm().spec) | {"schedulerName": "model-cache-scheduler"},
        status={"phase": "Pending", "conditions": [condition]},
    )


def waiting_pods() -> list[Pod]:
    """Pods that no node takes, one of them with a hostile name for its model."""
    absent = [vllm(f"waits-{index}", model=f"/models/absent-{index % 4}") for index in range(60)]
    return [*absent, vllm("hostile", model=f"/models/{HOSTILE}"), tmpfs("too-big", size="400Gi")]


def write_dump(path: Path, nodes: int) -> None:
    items = [
        {"apiVersion": "v1", "kind": type(obj).__name__, **msgspec.to_builtins(obj)}
        for obj in _objects(nodes)
    ]
    path.write_bytes(msgspec.json.encode({"kind": "List", "items": items}))
