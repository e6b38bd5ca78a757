"""What the project ships, brought to the test's control plane: only addresses and names change."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.controlplane.cluster import MANUAL_KUBELET, ControlPlane

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
SYSTEM = "model-cache-system"
LOADERS = "model-cache-loaders"
LOADER_ACCOUNT = "model-cache-loader"
EXAMPLE_MODEL = "llama-3.1-8b-instruct"
"""What the server in deploy/examples/node-cache.yaml opens."""
SCHEDULER = "model-cache-scheduler"
MINOR = int((os.environ.get("K8S_VERSION") or "1.37").split(".")[1])
OPTS_IN = MINOR >= 36
"""MutatingAdmissionPolicy is on by default from 1.36; before, pods name the scheduler."""

Object = dict[str, Any]


def scheduler_config(url: str) -> Object:
    """Return the shipped scheduler configuration with the extender's address."""
    document: Object = yaml.safe_load((ROOT / "config/scheduler-config.yaml").read_text("utf-8"))
    (extender,) = document["extenders"]
    extender["urlPrefix"] = url
    return document


def kustomized(control_plane: ControlPlane, folder: str) -> str:
    """Return what ``kubectl kustomize`` makes of one of the shipped folders."""
    return control_plane.kubectl("kustomize", str(ROOT / folder))


def example(name: str, namespace: str, *kinds: str) -> list[Object]:
    """Return an example's objects in a namespace of the test; all kinds where none is named."""
    text = (EXAMPLES / name).read_text("utf-8").replace("namespace: inference", "namespace: x")
    found = [document for document in yaml.safe_load_all(text) if document]
    for document in found:
        document["metadata"]["namespace"] = namespace
    return [document for document in found if not kinds or document["kind"] in kinds]


def played_by_hand(workload: Object) -> Object:
    """Let no fake kubelet run a workload's pods: the test says how far they are."""
    workload["spec"]["template"]["metadata"]["labels"].update(MANUAL_KUBELET)
    return workload


def pods(control_plane: ControlPlane, namespace: str, app: str) -> list[Object]:
    """Return a workload's pods by their app label."""
    found = control_plane.get_json("pods", "-n", namespace, "-l", f"app={app}")
    items: list[Object] = found["items"]
    return items


def places(control_plane: ControlPlane, namespace: str, app: str) -> list[str]:
    """Return the nodes of a workload's pods, ``""`` for one that waits."""
    return sorted(pod["spec"].get("nodeName", "") for pod in pods(control_plane, namespace, app))


def said(control_plane: ControlPlane, namespace: str, app: str) -> str:
    """Return the text of all events of a workload's pods."""
    names = [pod["metadata"]["name"] for pod in pods(control_plane, namespace, app)]
    return "\n".join(line for name in names for line in control_plane.events(namespace, name))


def loading(pod: Object) -> Object:
    """Return the status of a loader pod whose init container still downloads."""
    started = "2026-01-01T00:00:00Z"
    name = pod["spec"]["initContainers"][0]["name"]
    return {
        "phase": "Pending",
        "conditions": [_condition("Initialized", "False"), _condition("Ready", "False")],
        "initContainerStatuses": [
            _container(name, ready=False, state={"running": {"startedAt": started}})
        ],
    }


def done(pod: Object) -> Object:
    """Return the status of a loader pod that has downloaded everything."""
    moment = "2026-01-01T00:00:00Z"
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": moment, "finishedAt": moment}
    return {
        "phase": "Running",
        "conditions": [_condition("Initialized", "True"), _condition("Ready", "True")],
        "initContainerStatuses": [
            _container(container["name"], ready=True, state={"terminated": ended})
            for container in pod["spec"].get("initContainers", [])
        ],
        "containerStatuses": [
            _container(container["name"], ready=True, state={"running": {"startedAt": moment}})
            for container in pod["spec"]["containers"]
        ],
    }


def wait_for_pods(
    control_plane: ControlPlane, namespace: str, app: str, count: int
) -> list[Object]:
    """Wait until so many pods of a workload are bound; return them."""
    control_plane.wait_for(
        lambda: len([n for n in places(control_plane, namespace, app) if n]) == count,
        60,
        f"{count} bound pods of {app}",
    )
    return pods(control_plane, namespace, app)


def clear_loaders(control_plane: ControlPlane) -> None:
    """Delete what runs as a loader. Namespace, rights and policies stay: they are the shipped ones.

    To wait until a namespace is gone takes longer than most tests.
    """
    kinds = "daemonsets,pods,leases"
    control_plane.kubectl("delete", kinds, "--all", "-n", LOADERS, "--force")


def opted_in(objects: list[Object]) -> list[Object]:
    """Let Deployments name the scheduler where no admission policy can."""
    for found in objects:
        if found["kind"] == "Deployment" and not OPTS_IN:
            found["spec"]["template"]["spec"]["schedulerName"] = SCHEDULER
    return objects


def deploy(
    control_plane: ControlPlane,
    namespace: str,
    file: str,
    *,
    replicas: int = 1,
    name: str = "",
    model: str = EXAMPLE_MODEL,
) -> str:
    """Apply an example's Deployment, by another name if one is given; return its app label."""
    (deployment,) = opted_in(example(file, namespace, "Deployment"))
    deployment = json.loads(json.dumps(deployment).replace(EXAMPLE_MODEL, model))
    deployment["spec"]["replicas"] = replicas
    if name:
        deployment["metadata"]["name"] = name
        deployment["spec"]["selector"]["matchLabels"] = {"app": name}
        deployment["spec"]["template"]["metadata"]["labels"]["app"] = name
    control_plane.apply(deployment)
    return str(deployment["metadata"]["name"])


def load(
    control_plane: ControlPlane,
    namespace: str,
    nodes: int,
    selector: Mapping[str, str] | None = None,
    priority: str = "",
) -> dict[str, Object]:
    """Apply the example's loader and let all its pods download; return them by node.

    ``selector``: labels of the nodes that it is for; all of them without any. ``priority``: their
    priority class, none by default.
    """
    (loader,) = example("node-cache.yaml", namespace, "DaemonSet")
    loader["spec"]["template"]["spec"]["nodeSelector"] = dict(selector or {})
    loader["spec"]["template"]["spec"]["priorityClassName"] = priority
    control_plane.apply(played_by_hand(loader))
    found = wait_for_pods(control_plane, namespace, "model-loader", nodes)
    for pod in found:
        control_plane.set_pod_status(namespace, pod["metadata"]["name"], loading(pod))
    return {pod["spec"]["nodeName"]: pod for pod in found}


def finish(control_plane: ControlPlane, namespace: str, pod: Object) -> None:
    """Let a loader pod have downloaded everything."""
    control_plane.set_pod_status(namespace, pod["metadata"]["name"], done(pod))


def volume(name: str) -> Object:
    """Return a volume that any claim can name."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteMany"],
            "nfs": {"server": "192.0.2.9", "path": "/models"},
        },
    }


def ended(pod: Object, code: int = 0) -> Object:
    """Return the status of a Job's pod that has ended with this exit code."""
    moment = "2026-01-01T00:00:00Z"
    reason = "Error" if code else "Completed"
    ended = {"exitCode": code, "reason": reason, "startedAt": moment, "finishedAt": moment}
    (container,) = pod["spec"]["containers"]
    status = {"name": container["name"], "ready": False, "restartCount": 0, "image": "image"}
    return {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [{**status, "imageID": "", "state": {"terminated": ended}}],
    }


def taker(node: str, size: str) -> Object:
    """Return a bound pod that requests next to nothing, and takes memory by its tmpfs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"taker-{node}"},
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": "main",
                    "image": "registry.k8s.io/pause:3.10",
                    "resources": {"requests": {"memory": "64Mi"}},
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                }
            ],
            "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": size}}],
        },
    }


def _condition(kind: str, status: str) -> Object:
    return {"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}


def _container(name: str, *, ready: bool, state: Object) -> Object:
    return {
        "name": name,
        "ready": ready,
        "restartCount": 0,
        "image": "image",
        "imageID": "",
        "state": state,
    }
