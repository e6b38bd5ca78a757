"""The main job: the examples' pods, placed by a real kube-scheduler with the shipped configuration.

The extender runs with the shipped service account's rights and nothing more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from extender.placement.reasons import TEXTS, Reason
from tests.controlplane.cluster import ControlPlane, Extender, is_ready
from tests.controlplane.shipped import (
    SCHEDULER,
    SYSTEM,
    Object,
    done,
    example,
    kustomized,
    loading,
    places,
    played_by_hand,
    pods,
    said,
    scheduler_config,
    wait_for_pods,
)

MINOR = int((os.environ.get("K8S_VERSION") or "1.37").split(".")[1])
OPTS_IN = MINOR >= 36
"""MutatingAdmissionPolicy is on by default from 1.36; before, pods name the scheduler."""


@pytest.fixture(scope="module")
def placing(control_plane: ControlPlane) -> Iterator[Extender]:
    """The shipped manifests applied, the extender with its own account, and both schedulers."""
    control_plane.apply(kustomized(control_plane, "deploy/overlays/second-scheduler"))
    if OPTS_IN:
        control_plane.apply(kustomized(control_plane, "deploy/opt-in"))
    account = control_plane.kubeconfig_for_service_account(SYSTEM, "model-cache-extender")
    before = control_plane.processes()
    extender = control_plane.start_extender(kubeconfig=account)
    control_plane.start_scheduler(scheduler_config(extender.url), SCHEDULER, kubeconfig=account)
    control_plane.start_scheduler(name="default-scheduler")
    yield extender
    for process in control_plane.processes():
        if process not in before:
            control_plane.stop_process(process)
    control_plane.kubectl("delete", "namespace", SYSTEM, "--wait=false")


@pytest.fixture
def inference(control_plane: ControlPlane, placing: Extender, namespace: str) -> str:
    """A namespace whose pods go to the model-cache scheduler with no change to their manifests."""
    _ = placing
    label = "modelcache.dev/scheduling=enabled"
    control_plane.kubectl("label", "namespace", namespace, label)
    return namespace


def opted_in(objects: list[Object]) -> list[Object]:
    for found in objects:
        if found["kind"] == "Deployment" and not OPTS_IN:
            found["spec"]["template"]["spec"]["schedulerName"] = SCHEDULER
    return objects


def deploy(control_plane: ControlPlane, namespace: str, file: str, replicas: int = 1) -> str:
    """Apply an example's Deployment; return its app label."""
    (deployment,) = opted_in(example(file, namespace, "Deployment"))
    deployment["spec"]["replicas"] = replicas
    control_plane.apply(deployment)
    return str(deployment["metadata"]["name"])


def load(control_plane: ControlPlane, namespace: str, nodes: int) -> dict[str, Object]:
    """Apply the example's loader and let all its pods download; return them by node."""
    (loader,) = example("node-cache.yaml", namespace, "DaemonSet")
    control_plane.apply(played_by_hand(loader))
    found = wait_for_pods(control_plane, namespace, "model-loader", nodes)
    for pod in found:
        control_plane.set_pod_status(namespace, pod["metadata"]["name"], loading(pod))
    return {pod["spec"]["nodeName"]: pod for pod in found}


def finish(control_plane: ControlPlane, namespace: str, pod: Object) -> None:
    control_plane.set_pod_status(namespace, pod["metadata"]["name"], done(pod))


def test_pods_wait_for_a_loader_and_go_where_it_is_ready(
    control_plane: ControlPlane, inference: str
) -> None:
    control_plane.add_nodes(["cache-1", "cache-2", "cache-3", "cache-4"])
    loaders = load(control_plane, inference, 4)
    app = deploy(control_plane, inference, "node-cache.yaml", replicas=3)
    control_plane.wait_for(
        lambda: TEXTS[Reason.MODEL_LOADING] in said(control_plane, inference, app),
        30,
        "the pods' events to say that the caches are still loading",
    )
    assert places(control_plane, inference, app) == ["", "", ""]

    finish(control_plane, inference, loaders["cache-3"])
    waited = 0

    def bound() -> bool:
        nonlocal waited
        waited += 1
        if waited % 20 == 0:  # a kubelet reports again and again
            beat = f"test.modelcache.dev/beat={waited}"
            name = loaders["cache-3"]["metadata"]["name"]
            control_plane.kubectl("annotate", "pod", name, beat, "--overwrite", "-n", inference)
        return places(control_plane, inference, app) == ["cache-3"] * 3

    control_plane.wait_for(bound, 60, "all three pods on the node whose loader is Ready")


def test_pods_go_only_to_nodes_whose_loader_is_ready(
    control_plane: ControlPlane, inference: str
) -> None:
    control_plane.add_nodes(["ready-1", "ready-2", "cold-1", "cold-2"])
    loaders = load(control_plane, inference, 4)
    for node in ("ready-1", "ready-2"):
        finish(control_plane, inference, loaders[node])
    app = deploy(control_plane, inference, "node-cache.yaml", replicas=6)
    wait_for_pods(control_plane, inference, app, 6)
    assert set(places(control_plane, inference, app)) == {"ready-1", "ready-2"}


def test_memory_that_other_tmpfs_take_is_not_given_away(
    control_plane: ControlPlane, inference: str
) -> None:
    control_plane.add_nodes(["memory-1", "memory-2"])
    control_plane.apply(taker("memory-1", "50Gi"), inference)
    for replicas in (1, 2):
        app = deploy(control_plane, inference, "memory.yaml", replicas)
        wait_for_pods(control_plane, inference, app, replicas)
    app = deploy(control_plane, inference, "memory.yaml", replicas=3)
    control_plane.wait_for(
        lambda: TEXTS[Reason.INSUFFICIENT_MEMORY] in said(control_plane, inference, app),
        30,
        "the third pod's event to say that memory is short",
    )
    assert places(control_plane, inference, app) == ["", "memory-2", "memory-2"]


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


def test_pods_of_a_claim_wait_for_the_job_that_fills_it(
    control_plane: ControlPlane, inference: str
) -> None:
    control_plane.add_nodes(["claim-1", "claim-2"])
    claim, job = example("shared-volume.yaml", inference, "PersistentVolumeClaim", "Job")
    claim["spec"]["storageClassName"] = ""
    claim["spec"]["volumeName"] = f"pv-{inference}"
    control_plane.apply([volume(f"pv-{inference}"), claim, played_by_hand(job)])
    (writer,) = wait_for_pods(control_plane, inference, "model-download", 1)
    app = deploy(control_plane, inference, "shared-volume.yaml", replicas=2)
    control_plane.wait_for(
        lambda: TEXTS[Reason.CLAIM_FILLING] in said(control_plane, inference, app),
        30,
        "the pods' events to say that a job still fills the claim",
    )
    assert places(control_plane, inference, app) == ["", ""]

    control_plane.set_pod_status(inference, writer["metadata"]["name"], succeeded(writer))
    beats = 0

    def bound() -> bool:
        nonlocal beats
        beats += 1
        if beats % 20 == 0:
            beat = f"test.modelcache.dev/beat={beats}"
            control_plane.kubectl("annotate", "node", "claim-1", beat, "--overwrite")
        return all(places(control_plane, inference, app))

    control_plane.wait_for(bound, 60, "the pods to be bound once the job is complete")


def volume(name: str) -> Object:
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


def succeeded(pod: Object) -> Object:
    moment = "2026-01-01T00:00:00Z"
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": moment, "finishedAt": moment}
    (container,) = pod["spec"]["containers"]
    status = {"name": container["name"], "ready": False, "restartCount": 0, "image": "image"}
    return {
        "phase": "Succeeded",
        "containerStatuses": [{**status, "imageID": "", "state": {"terminated": ended}}],
    }


def test_a_pod_goes_where_its_image_is(control_plane: ControlPlane, inference: str) -> None:
    control_plane.add_nodes(["image-1", "image-2", "image-3"])
    (deployment,) = opted_in(example("image.yaml", inference, "Deployment"))
    name = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    images = [{"names": [name], "sizeBytes": 24_000_000_000}]
    patch = json.dumps({"status": {"images": images}})
    control_plane.kubectl(
        "patch", "node", "image-2", "--subresource=status", "--type=merge", f"-p={patch}"
    )
    control_plane.apply(deployment)
    wait_for_pods(control_plane, inference, "vllm-image", 1)
    assert places(control_plane, inference, "vllm-image") == ["image-2"]


def test_the_one_cached_node_of_two_hundred_is_found(
    control_plane: ControlPlane, inference: str
) -> None:
    control_plane.add_nodes([f"many-{number}" for number in range(199)])
    control_plane.add_nodes(["many-cached"], labels={"cache": "here"})
    (loader,) = example("node-cache.yaml", inference, "DaemonSet")
    loader["spec"]["template"]["spec"]["nodeSelector"] = {"cache": "here"}
    control_plane.apply(loader)
    control_plane.wait_for(
        lambda: any(is_ready(pod) for pod in pods(control_plane, inference, "model-loader")),
        30,
        "the loader to be Ready on its one node",
    )
    app = deploy(control_plane, inference, "node-cache.yaml", replicas=3)
    wait_for_pods(control_plane, inference, app, 3)
    assert places(control_plane, inference, app) == ["many-cached"] * 3


def test_the_extender_may_read_and_nothing_else(
    control_plane: ControlPlane, placing: Extender
) -> None:
    _ = placing
    account = f"system:serviceaccount:{SYSTEM}:model-cache-extender"
    for question in ("get secrets", "delete nodes", "create pods", "get configmaps"):
        verb, resource = question.split()
        answer = allowed(control_plane, account, verb, resource)
        assert answer == "no", question
    for resource in ("nodes", "pods", "daemonsets.apps", "jobs.batch", "persistentvolumeclaims"):
        assert allowed(control_plane, account, "watch", resource) == "yes", resource


def allowed(control_plane: ControlPlane, account: str, verb: str, resource: str) -> str:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": account,
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {
                "verb": verb,
                "resource": resource.partition(".")[0],
                "group": resource.partition(".")[2],
                "namespace": "default",
            },
        },
    }
    text = control_plane.kubectl(
        "create", "-o=jsonpath={.status.allowed}", "-f", "-", input=json.dumps(review)
    )
    return "yes" if text == "true" else "no"
