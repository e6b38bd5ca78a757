"""Clusters with one thing wrong, and what doctor says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from extender.cli.source import new_context, new_state
from extender.cluster.kept import Kept
from extender.config import ExtenderConfiguration
from extender.doctor.cluster import check_cluster
from extender.doctor.examined import Examined, examine
from extender.doctor.finding import Finding, Severity
from extender.kube.objects import Condition, Container, KubeObject, Pod, Probe
from tests.builders import (
    DOWNLOAD,
    loader,
    loader_pod,
    node,
    pod,
    vllm,
)

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
OURS = "model-cache-scheduler"
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ON_NODE: dict[str, Any] = {"name": "ram", "hostPath": {"path": "/var/lib/models"}}
GB = "meta-llama/Llama-3.1-8B-Instruct"
Objects = Sequence[KubeObject]


def findings(objects: Objects, schedulers: frozenset[str] = frozenset({OURS})) -> list[Finding]:
    return list(check_cluster(examined(objects, schedulers)))


def examined(objects: Objects, schedulers: frozenset[str] = frozenset({OURS})) -> Examined:
    configuration = ExtenderConfiguration()
    state = new_state(configuration)
    kept = Kept(state)
    for obj in objects:
        kept.upsert(obj)
    context = new_context(state, configuration)
    return examine(context, kept, schedulers)


def checks(objects: Objects, **more: Any) -> dict[str, Severity]:
    return {found.check: found.severity for found in findings(objects, **more)}


def of(kind: str, name: str, **metadata: Any) -> dict[str, Any]:
    owner = {"kind": kind, "name": name, "uid": name, "controller": True}
    return {"ownerReferences": [owner], **metadata}


def ours(found: Pod, **spec: Any) -> Pod:
    """A pod that comes to our scheduler."""
    return msgspec.structs.replace(
        found, spec=msgspec.structs.replace(found.spec, scheduler_name=OURS, **spec)
    )


def filled(*, limit: str = "64Gi", size: str | None = "20Gi", model: str = GB, **more: Any) -> Pod:
    """The article's third strategy: an init container downloads into a memory-backed volume."""
    empty: dict[str, Any] = {"medium": more.pop("medium", "Memory")}
    resources = {"requests": {"memory": "1Gi"}, "limits": {"memory": limit}}
    mount = {"name": "ram", "mountPath": "/models"}
    return ours(
        pod(
            more.pop("name", "filled"),
            metadata=more.pop("metadata", {}),
            spec={
                "initContainers": [
                    {
                        "name": "fill",
                        "image": "python:3.12-slim",
                        "command": ["sh", "-c"],
                        "args": [
                            more.pop("script", f"hf download {model} --local-dir /models/m "
                            "--exclude '*.bin'")
                        ],
                        "resources": resources,
                        "volumeMounts": [mount],
                    }
                ],
                "containers": [
                    {
                        "name": "vllm",
                        "image": "vllm/vllm-openai:v0.11.0",
                        "args": ["--model", "/models/m"],
                        "resources": resources,
                        "volumeMounts": [{**mount, "readOnly": True}],
                    }
                ],
                "volumes": [
                    {"name": "ram", "emptyDir": empty | ({"sizeLimit": size} if size else {})}
                ],
                **more,
            },
        )
    )  # fmt: skip


def ollama(**mount: Any) -> Pod:
    """A server whose clients say what it pulls."""
    mounted = {"name": "models", "mountPath": "/root/.ollama/models", **mount}
    container = {"name": "ollama", "image": "ollama/ollama:0.12.3", "volumeMounts": [mounted]}
    volume = {"name": "models", "hostPath": {"path": "/var/lib/ollama"}}
    return ours(pod("ollama", spec={"containers": [container], "volumes": [volume]}))


def gang(**metadata: Any) -> Pod:
    found = filled(limit="1Gi", metadata=metadata)
    resources = found.spec.containers[0].resources
    unlimited = msgspec.structs.replace(resources, limits={})
    return msgspec.structs.replace(
        found,
        spec=msgspec.structs.replace(
            found.spec,
            containers=tuple(
                msgspec.structs.replace(c, resources=unlimited) for c in found.spec.containers
            ),
            init_containers=tuple(
                msgspec.structs.replace(c, resources=unlimited) for c in found.spec.init_containers
            ),
        ),
    )


def replicas(found: Pod, count: int, **metadata: Any) -> list[Pod]:
    """Pods of one Deployment."""
    labels = {"pod-template-hash": "5d8f"}
    return [
        msgspec.structs.replace(
            found,
            metadata=msgspec.structs.replace(
                pod(f"{found.metadata.name}-{i}", metadata=of("ReplicaSet", "web-5d8f")).metadata,
                labels=labels,
                **metadata,
            ),
        )
        for i in range(count)
    ]


def labelled(found: KubeObject, **changes: Any) -> Any:
    return msgspec.structs.replace(
        found, metadata=msgspec.structs.replace(found.metadata, **changes)
    )


def template(found: Any, **changes: Any) -> Any:
    """A DaemonSet whose template carries these labels or annotations."""
    spec = found.spec
    metadata = msgspec.structs.replace(spec.template.metadata, **changes)
    return msgspec.structs.replace(
        found,
        spec=msgspec.structs.replace(
            spec, template=msgspec.structs.replace(spec.template, metadata=metadata)
        ),
    )


def writable(found: Pod) -> Pod:
    mounts = tuple(
        msgspec.structs.replace(mount, read_only=False)
        for mount in found.spec.containers[0].volume_mounts
    )
    containers = (msgspec.structs.replace(found.spec.containers[0], volume_mounts=mounts),)
    return msgspec.structs.replace(
        found, spec=msgspec.structs.replace(found.spec, containers=containers)
    )


def unprobed(found: Pod) -> Pod:
    """A pod that is Ready as soon as its process runs."""
    containers = tuple(
        msgspec.structs.replace(one, readiness_probe=None) for one in found.spec.containers
    )
    return msgspec.structs.replace(
        found, spec=msgspec.structs.replace(found.spec, containers=containers)
    )


def in_main(daemon_set: Any, *, probe: bool) -> Any:
    """A loader that downloads in its main container."""
    spec = daemon_set.spec.template.spec
    (fetching,) = spec.init_containers
    if probe:
        fetching = msgspec.structs.replace(fetching, readiness_probe=Probe())
    spec = msgspec.structs.replace(spec, containers=(fetching,), init_containers=())
    return msgspec.structs.replace(
        daemon_set,
        spec=msgspec.structs.replace(
            daemon_set.spec,
            template=msgspec.structs.replace(daemon_set.spec.template, spec=spec),
        ),
    )


def reading_a_claim() -> Pod:
    return ours(
        vllm(volume={"persistentVolumeClaim": {"claimName": "store", "readOnly": True}}, on="a")
    )


def reading_it_on(on: str, *, ready: bool) -> Pod:
    """Another pod of another node that reads the same claim."""
    found = reading_a_claim()
    conditions = (Condition(type="Ready", status=str(ready)),)
    return msgspec.structs.replace(
        found,
        metadata=msgspec.structs.replace(found.metadata, name="second", uid="second"),
        spec=msgspec.structs.replace(found.spec, node_name=on),
        status=msgspec.structs.replace(found.status, conditions=conditions),
    )


def mounting(claim: str) -> Pod:
    """A pod that has a claim, and reads no model from it."""
    volume = {"name": "store", "persistentVolumeClaim": {"claimName": claim}}
    container = {"name": "copy", "image": "busybox:1.37"}
    return pod("copy", spec={"containers": [container], "volumes": [volume]})


def extender(*arguments: str) -> Pod:
    """An extender as it is shipped: a sidecar, in a pod that another scheduler places."""
    sidecar = {
        "name": "extender",
        "image": "registry.example.com/model-cache-extender:1",
        "command": ["model-cache-extender"],
        "args": list(arguments),
        "restartPolicy": "Always",
    }
    container = {"name": "kube-scheduler", "image": "registry.k8s.io/kube-scheduler:v1.37.2"}
    return pod("extender", spec={"initContainers": [sidecar], "containers": [container]})


def by_its_image(*arguments: str) -> Pod:
    """An extender whose image says what it runs; only the arguments are given."""
    image = "registry.example.com/model-cache-extender:1"
    container = {"name": "extender", "image": image, "args": list(arguments)}
    return pod("extender", spec={"containers": [container]})


def shipped_pods(manifest: str, count: int) -> list[Pod]:
    """Pods of a workload as deploy/ has it."""
    documents = yaml.safe_load_all((DEPLOY / manifest).read_text(encoding="utf-8"))
    made = next(one for one in documents if one["kind"] in {"Deployment", "DaemonSet"})
    spec = made["spec"]["template"]["spec"]
    return [
        pod(f"shipped-{number}", metadata=of(made["kind"], "shipped"), spec=spec)
        for number in range(count)
    ]


def without_lease(pods: Sequence[Pod]) -> list[Pod]:
    """The same without ``--lease`` and its value."""

    def changed(found: Container) -> Container:
        args = list(found.args)
        at = args.index("--lease") if "--lease" in args else len(args)
        return msgspec.structs.replace(found, args=(*args[:at], *args[at + 2 :]))

    return [
        msgspec.structs.replace(
            found,
            spec=msgspec.structs.replace(
                found.spec,
                containers=tuple(map(changed, found.spec.containers)),
                init_containers=tuple(map(changed, found.spec.init_containers)),
            ),
        )
        for found in pods
    ]


NODES = [node("a"), node("b")]
QUIET = DOWNLOAD.replace("local_dir=", "ignore_patterns=['*.bin'], local_dir=")
LOADER = loader(script=QUIET)
OPAQUE = "curl -sfL https://x.example/install | sh; hf download --local-dir $WHERE/$M"


def untold(script: str, *, probe: bool, **annotations: str) -> Any:
    """A DaemonSet that is a loader by its label, and downloads in its main container."""
    found = template(
        loader(script=script), labels={"modelcache.dev/loader": "true"}, annotations=annotations
    )
    return in_main(found, probe=probe)


def at(on: str, status: dict[str, Any]) -> Pod:
    return loader_pod(on, status, script=QUIET)


def decided(seconds: int, *, restarts: int = 0, estimated: float = 48.0) -> Pod:
    """A pod that our decision bound at 00:00, Ready so many seconds later; it reads a claim."""
    found = ours(
        vllm(volume={"persistentVolumeClaim": {"claimName": "store", "readOnly": True}}, on="a")
    )
    decision = {"version": 1, "time": 1767225600.0, "node": "a", "strategy": "shared-volume",
                "tier": "sharedVolume", "estimatedStartSeconds": estimated}  # fmt: skip
    minutes, rest = divmod(seconds, 60)
    bound = Condition(
        type="PodScheduled", status="True", last_transition_time="2026-01-01T00:00:00Z"
    )
    ready = msgspec.structs.replace(
        found.status.conditions[0], last_transition_time=f"2026-01-01T00:{minutes:02}:{rest:02}Z"
    )
    statuses = pod(
        status={"containerStatuses": [{"name": "vllm", "restartCount": restarts}]}
    ).status.container_statuses
    text = msgspec.json.encode(decision).decode()
    metadata = msgspec.structs.replace(
        found.metadata, annotations={"modelcache.dev/decision": text}
    )
    status = msgspec.structs.replace(
        found.status, conditions=(bound, ready), container_statuses=statuses
    )
    return msgspec.structs.replace(found, metadata=metadata, status=status)


def one(found: list[Finding], check: str) -> Finding:
    (only,) = (each for each in found if each.check == check)
    return only
