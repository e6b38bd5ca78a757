"""``deploy/`` as it is shipped, applied to the real cluster.

Ours are the hub's address, and of the catalog, which is every user's to change, one more model and
fewer connections: each has synced a part of 8 MiB (``part_bytes``) before half of it is there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import FAKE_TAINT, NODE, RealCluster
from e2e.images import PRODUCT, SERVER, images
from e2e.objects import Object
from tests.controlplane.cluster import is_ready
from tests.controlplane.shipped import SCHEDULER, SYSTEM, kustomized
from tests.loader.hub import Hub

LOADERS = "model-cache-loaders"
REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
MODEL = "all-minilm-l6-v2"
LATE = "fetched-on-demand"
"""The same repository under another name, which only a waiting pod brings to a node."""
CONNECTIONS = 4
PORT = 8000
CACHE = Path("/var/lib/models")
STORES = Path("/var/lib/stores")
"""Directories of the node below it stand in for a file server's exports."""
USER = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
TOLERATED = {key: FAKE_TAINT[key] for key in ("key", "value", "effect")}


def deploy_scheduler(cluster: RealCluster) -> None:
    """Apply the second scheduler and wait until both replicas are ready."""
    cluster.apply(kustomized(cluster, "deploy/overlays/second-scheduler"))
    rolled_out(cluster, SYSTEM, f"deployment/{SCHEDULER}")


def deploy_loader(cluster: RealCluster, hub: str) -> None:
    """Apply the loader, which is to ask this hub, and wait until it is ready."""
    documents = [
        found for found in yaml.safe_load_all(kustomized(cluster, "deploy/loader")) if found
    ]
    (loader,) = (found for found in documents if found["kind"] == "DaemonSet")
    (container,) = loader["spec"]["template"]["spec"]["containers"]
    container["env"].append({"name": "HF_ENDPOINT", "value": hub})
    (catalog,) = (found for found in documents if found["kind"] == "ConfigMap")
    content = yaml.safe_load(catalog["data"]["catalog.yaml"])
    content["limits"] = {"connections": CONNECTIONS}
    content["models"].append({**content["models"][0], "name": LATE, "onDemand": True})
    catalog["data"]["catalog.yaml"] = yaml.safe_dump(content)
    cluster.apply(documents)
    rolled_out(cluster, LOADERS, "daemonset/model-cache-loader")


def bring(cluster: RealCluster, image: str) -> None:
    """Bring an image to the real node, and unpack it."""
    archive = next(one.archive() for one in images(cluster.binaries) if one.name == image)
    cluster.real[NODE].ctr("images", "import", str(archive))


def rolled_out(cluster: RealCluster, namespace: str, workload: str) -> None:
    """Wait until a workload's pods are ready; say how they are where they never become so."""
    try:
        cluster.kubectl("rollout", "status", "-n", namespace, workload, "--timeout=110s")
    except AssertionError as error:
        text = [str(error), cluster.kubectl("describe", "pods", "-n", namespace)]
        for found in cluster.get_json("pods", "-n", namespace)["items"]:
            name = found["metadata"]["name"]
            text.append(cluster.logs(namespace, name, "--all-containers", "--ignore-errors"))
        raise AssertionError("\n".join(text)) from error


def loader_pods(cluster: RealCluster, node: str = NODE) -> list[Any]:
    """Return the loader's pods on a real node that live: one, or none yet."""
    path = f"/api/v1/namespaces/{LOADERS}/pods"
    found = cluster.read(path, fieldSelector=f"spec.nodeName={node}")
    return [
        pod
        for pod in found["items"]
        if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] != "Failed"
    ]


def report(cluster: RealCluster, node: str = NODE) -> dict[str, Any]:
    """Return what the loader on a real node has reported; empty before it has."""
    pods = loader_pods(cluster, node)
    if not pods:
        return {}
    text = pods[0]["metadata"].get("annotations", {}).get("modelcache.dev/report", "{}")
    document: dict[str, Any] = json.loads(text)
    return document


def has_model(cluster: RealCluster, node: str = NODE, model: str = MODEL) -> bool:
    """Say whether the loader on a real node reports a model whole."""
    reported = report(cluster, node).get("models", [])
    return any(one["path"] == model and one["state"] == "ready" for one in reported)


def another_loader(cluster: RealCluster) -> None:
    """Let the loader's pod be replaced: the next one finds the node's directory as it is then."""
    (former,) = (pod["metadata"]["name"] for pod in loader_pods(cluster))
    cluster.kubectl("delete", "pod", former, "-n", LOADERS, "--grace-period=1")

    def replaced() -> bool:
        pods = loader_pods(cluster)
        return bool(pods) and pods[0]["metadata"]["name"] != former and is_ready(pods[0])

    cluster.wait_for(replaced, 120, "another loader to be ready")


def leader(cluster: RealCluster) -> str:
    """Return the pod that holds the scheduler's Lease."""
    lease = cluster.get_json("lease", SCHEDULER, "-n", SYSTEM)
    return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]


def server(name: str, directory: str, volumes: list[Object], mounts: list[Object]) -> Object:
    """Return a model server's pod, which any node of the cluster may run as far as taints go."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "schedulerName": SCHEDULER,
            "tolerations": [TOLERATED],
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "server",
                    "image": SERVER,
                    "command": ["vllm", "serve", directory],
                    "args": ["--port", str(PORT)],
                    "readinessProbe": {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1},
                    "resources": {"requests": {"memory": "256Mi"}},
                    "volumeMounts": mounts,
                }
            ],
            "volumes": volumes,
        },
    }


def from_node_cache(name: str, model: str = MODEL) -> Object:
    """Return a server that reads the node cache and cannot fetch: the model is required."""
    host = {"path": str(CACHE), "type": "Directory"}
    return server(
        name,
        f"/models/{model}",
        [{"name": "models", "hostPath": host}],
        [{"name": "models", "mountPath": "/models", "readOnly": True}],
    )


def filling(hub: Hub, directory: str, mounts: list[Object], *more: str) -> Object:
    """Return the container that fetches the model with ``loader fill``."""
    command = ["model-cache-extender", "loader", "fill", f"hf://{REPOSITORY}", directory, *more]
    return {
        "name": "fill",
        "image": PRODUCT,
        "command": command,
        "env": [{"name": "HF_ENDPOINT", "value": hub.url}],
        "volumeMounts": mounts,
        "resources": {"requests": {"memory": "256Mi"}},
    }


def in_memory(hub: Hub, *, cached: bool, name: str | None = None) -> Object:
    """Return a server whose init container fills a memory-backed volume."""
    mounts: list[Object] = [{"name": "model", "mountPath": "/models"}]
    volumes: list[Object] = [
        {"name": "model", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}}
    ]
    name = name or ("memory-cached" if cached else "memory-hub")
    pod = server(name, f"/models/{MODEL}", volumes, mounts)
    fill = filling(hub, f"/models/{MODEL}", list(mounts))
    if cached:
        host = {"path": str(CACHE), "type": "Directory"}
        volumes.append({"name": "cache", "hostPath": host})
        fill["command"] += ["--from", f"/cache/{MODEL}"]
        fill["volumeMounts"] = [*mounts, {"name": "cache", "mountPath": "/cache", "readOnly": True}]
    pod["spec"] |= {"initContainers": [fill], "securityContext": USER}
    return pod


def serving(cluster: RealCluster, namespace: str, name: str) -> dict[str, int]:
    """Wait until a server is ready; return what it says of its model."""
    what = f"{name} to serve"
    try:
        cluster.wait_for(lambda: is_ready(cluster.pod(namespace, name)), 90, what)
    except AssertionError as error:
        events = "\n".join(cluster.events(namespace, name))
        raise AssertionError(f"{error}\n{events}") from error
    loaded: dict[str, int] = json.loads(cluster.logs(namespace, name).splitlines()[0])
    return loaded
