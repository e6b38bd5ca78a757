"""``deploy/`` as it is shipped, applied to the real cluster; only the hub's address is ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster import FAKE_TAINT, RealCluster
from e2e.images import SERVER
from e2e.objects import Object
from tests.controlplane.cluster import is_ready
from tests.controlplane.shipped import SCHEDULER, SYSTEM, kustomized

LOADERS = "model-cache-loaders"
REPOSITORY = "sentence-transformers/all-MiniLM-L6-v2"
MODEL = "all-minilm-l6-v2"
PORT = 8000
CACHE = Path("/var/lib/models")
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
    cluster.apply(documents)
    rolled_out(cluster, LOADERS, "daemonset/model-cache-loader")


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


def report(cluster: RealCluster) -> dict[str, Any]:
    """Return what the loader on the real node has reported; empty before it has."""
    (found,) = cluster.get_json("pods", "-n", LOADERS)["items"]
    text = found["metadata"].get("annotations", {}).get("modelcache.dev/report", "{}")
    document: dict[str, Any] = json.loads(text)
    return document


def has_model(cluster: RealCluster) -> bool:
    """Say whether the loader on the real node reports its model whole."""
    return any(model["state"] == "ready" for model in report(cluster).get("models", []))


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


def from_node_cache(name: str) -> Object:
    """Return a server that reads the node cache and cannot fetch: the model is required."""
    host = {"path": str(CACHE), "type": "Directory"}
    return server(
        name,
        f"/models/{MODEL}",
        [{"name": "models", "hostPath": host}],
        [{"name": "models", "mountPath": "/models", "readOnly": True}],
    )


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
