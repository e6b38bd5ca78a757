"""The specs of pods that come and go at random."""

from __future__ import annotations

import copy

from tests.controlplane.shipped import Object, example

RESOURCES = {"requests": {"memory": "64Mi", "cpu": "10m"}}
READER = "vllm"


def needing(cpu: int, spec: Object) -> Object:
    """Return a pod's spec with so many processors, which kube-scheduler itself counts."""
    first, *others = spec["containers"]
    resources = {"requests": {**RESOURCES["requests"], "cpu": str(cpu)}}
    return {**spec, "containers": [{**first, "resources": resources}, *others]}


def ram(gib: int) -> Object:
    """Return a pod's spec with so much of tmpfs."""
    container = {
        "name": "main",
        "image": "registry.k8s.io/pause:3.10",
        "resources": RESOURCES,
        "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
    }
    memory = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": f"{gib}Gi"}}
    return {"containers": [container], "volumes": [memory]}


def reader(namespace: str, claim: str = "") -> Object:
    """Return the example's server: it needs the model in the node's cache, or in a claim."""
    file = "shared-volume.yaml" if claim else "node-cache.yaml"
    (deployment,) = example(file, namespace, "Deployment")
    spec: Object = copy.deepcopy(deployment["spec"]["template"]["spec"])
    for container in spec["containers"]:
        container["resources"] = RESOURCES
        if claim:
            container["name"] = "reads-a-claim"
    for each in spec["volumes"]:
        if claim and "persistentVolumeClaim" in each:
            each["persistentVolumeClaim"]["claimName"] = claim
    return spec
