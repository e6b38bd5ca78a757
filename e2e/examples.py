"""``deploy/examples`` as it is shipped, made to fit a node that has no accelerator and 4 GiB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from e2e.cluster import NODE, RealCluster
from e2e.images import BAKED, WEIGHTS
from e2e.objects import Object
from e2e.shipped import CACHE, STORES, bring
from tests.controlplane.shipped import EXAMPLE_MODEL, EXAMPLES, kustomized
from tests.loader.hub import TOKEN, Hub, Repository
from tests.loader.models import real_model

INFERENCE = "inference"
REPOSITORY = "meta-llama/Llama-3.1-8B-Instruct"
GPU = "nvidia.com/gpu"
GPUS = 16
NOT_WANTED = "original/consolidated.00.pth"
"""What the examples leave out of the repository."""
FITTING = {"cpu": "10m", "memory": "64Mi"}
FITTING_VOLUME = "256Mi"


@contextmanager
def examples(cluster: RealCluster, hub: Hub) -> Iterator[list[Object]]:
    """Apply the examples, with what they expect of a cluster; give their objects."""
    hub.repositories[REPOSITORY] = Repository({**real_model(), NOT_WANTED: b"."}, private=True)
    volumes = [volume(cluster, f"store-{number}") for number in range(2)]
    for image in (BAKED, WEIGHTS):
        bring(cluster, image)
    advertise_gpus(cluster, GPUS)
    cluster.apply(kustomized(cluster, "deploy/opt-in"))
    cluster.apply(volumes)
    texts = [kustomized(cluster, "deploy/examples")]
    texts.append((EXAMPLES / "image-volume.yaml").read_text(encoding="utf-8"))
    documents = [found for text in texts for found in yaml.safe_load_all(text) if found]
    objects = [fitted(found, hub.url) for found in documents]
    try:
        cluster.apply([found for found in objects if found["kind"] == "Namespace"])
        cluster.apply(token())
        cluster.apply(objects)
        yield objects
    finally:
        cluster.delete_namespace(INFERENCE)
        names = [one["metadata"]["name"] for one in volumes]
        cluster.kubectl("delete", "persistentvolumes", *names, "--wait=false")
        cluster.kubectl("delete", "-f", "-", input=kustomized(cluster, "deploy/opt-in"))
        advertise_gpus(cluster, 0)
        cluster.real[NODE].machine.run("rm", "-rf", str(CACHE / EXAMPLE_MODEL))


def fitted(document: Object, hub: str) -> Object:
    """Change what this node and this hub need: amounts, and the hub's address beside its token."""
    template = document.get("spec", {}).get("template")
    if template is None:
        return document
    spec = template["spec"]
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        container["resources"]["requests"] = dict(FITTING)
        if any(variable["name"] == "HF_TOKEN" for variable in container.get("env", [])):
            container["env"].append({"name": "HF_ENDPOINT", "value": hub})
        if container["name"] == "pause":  # its own limit is less
            del container["resources"]["requests"]["memory"]
    for one in spec.get("volumes", []):
        if one.get("emptyDir", {}).get("medium") == "Memory":
            one["emptyDir"]["sizeLimit"] = FITTING_VOLUME
    return document


def volume(cluster: RealCluster, name: str) -> Object:
    """Return a volume that any of the claims may get, everybody may write to, and is empty."""
    path = STORES / name
    machine = cluster.real[NODE].machine
    machine.run("rm", "-rf", str(path))
    machine.run("mkdir", "--parents", "--mode=0777", str(path))
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "capacity": {"storage": "100Gi"},
            "hostPath": {"path": str(path)},
        },
    }


def token() -> Object:
    """Return the Secret that the examples name."""
    metadata = {"name": "huggingface-token", "namespace": INFERENCE}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "stringData": {"token": TOKEN},
    }


def advertise_gpus(cluster: RealCluster, count: int) -> None:
    """Let the real node have so many, as far as anybody is told."""
    amounts = {GPU: str(count)}
    patch = json.dumps({"status": {"capacity": amounts, "allocatable": amounts}})
    words = ["--subresource=status", "--type=merge", f"--patch={patch}"]
    cluster.kubectl("patch", "node", NODE, *words)
