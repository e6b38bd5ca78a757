"""The main job: the examples' pods, placed by a real kube-scheduler with the shipped configuration.

The extender runs with the shipped service account's rights and nothing more.
"""

from __future__ import annotations

import json

import pytest

from extender.placement.reasons import TEXTS, Reason
from tests.controlplane.cluster import ControlPlane, Extender, is_ready
from tests.controlplane.shipped import (
    SYSTEM,
    deploy,
    ended,
    example,
    finish,
    load,
    opted_in,
    places,
    played_by_hand,
    pods,
    said,
    taker,
    volume,
    wait_for_pods,
)


def wait_for_places(
    control_plane: ControlPlane, namespace: str, app: str, expected: list[str]
) -> None:
    """Wait until a workload's pods are there, those that can be bound are, and the others wait."""
    control_plane.wait_for(
        lambda: places(control_plane, namespace, app) == expected,
        30,
        f"the pods of {app} at {expected}",
    )


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
    wait_for_places(control_plane, inference, app, ["", "", ""])

    finish(control_plane, inference, loaders["cache-3"])
    control_plane.wait_for(
        lambda: places(control_plane, inference, app) == ["cache-3"] * 3,
        30,
        "all three pods on the node whose loader is Ready",
    )


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
    app = deploy(control_plane, inference, "memory.yaml", replicas=3)
    control_plane.wait_for(
        lambda: TEXTS[Reason.INSUFFICIENT_MEMORY] in said(control_plane, inference, app),
        30,
        "the third pod's event to say that memory is short",
    )
    wait_for_places(control_plane, inference, app, ["", "memory-2", "memory-2"])


@pytest.mark.parametrize("manifest", ["shared-volume.yaml", "loader-claim.yaml"])
def test_pods_of_a_claim_wait_for_the_job_that_fills_it(
    control_plane: ControlPlane, inference: str, manifest: str
) -> None:
    control_plane.add_nodes(["claim-1", "claim-2"])
    claim, job = example(manifest, inference, "PersistentVolumeClaim", "Job")
    claim["spec"]["storageClassName"] = ""
    claim["spec"]["volumeName"] = f"pv-{inference}"
    control_plane.apply([volume(f"pv-{inference}"), claim, played_by_hand(job)])
    (writer,) = wait_for_pods(control_plane, inference, job["metadata"]["name"], 1)
    app = deploy(control_plane, inference, manifest, replicas=2)
    control_plane.wait_for(
        lambda: TEXTS[Reason.CLAIM_FILLING] in said(control_plane, inference, app),
        30,
        "the pods' events to say that a job still fills the claim",
    )
    wait_for_places(control_plane, inference, app, ["", ""])

    control_plane.set_pod_status(inference, writer["metadata"]["name"], ended(writer))
    control_plane.wait_for(
        lambda: all(places(control_plane, inference, app)),
        30,
        "the pods to be bound once the job is complete",
    )


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
