"""Events of our own on real pods, with the shipped rights alone: each once, with a remedy."""

from __future__ import annotations

import json
from typing import Any

from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import SCHEDULER, Object, example, load, scheduler_config, taker
from tests.controlplane.test_shipped import account

CONTROLLER = "modelcache.dev/extender"


def failed(pod: Object) -> Object:
    """Return the status of a loader pod whose download was killed for the third time."""
    return {
        "phase": "Pending",
        "conditions": [{"type": kind, "status": "False"} for kind in ("Initialized", "Ready")],
        "initContainerStatuses": [
            {
                "name": pod["spec"]["initContainers"][0]["name"],
                "ready": False,
                "restartCount": 3,
                "image": "image",
                "imageID": "",
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }
        ],
    }


def server(namespace: str, name: str, model: str = "") -> Object:
    """Return a pod of the example's server, which may ask for another model."""
    (deployment,) = example("node-cache.yaml", namespace, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    text = json.dumps(spec)
    if model:
        text = text.replace("llama-3.1-8b-instruct", model)
    spec = json.loads(text)
    for container in spec["containers"]:
        container["resources"] = {"requests": {"memory": "64Mi", "cpu": "10m"}}
    return plain(namespace, name, spec)


def in_memory(namespace: str, name: str, size: str, limit: str = "") -> Object:
    resources: Object = {"requests": {"memory": "64Mi", "cpu": "10m"}}
    if limit:
        resources["limits"] = {"memory": limit}
    container = {
        "name": "main",
        "image": "registry.k8s.io/pause:3.10",
        "resources": resources,
        "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
    }
    volume = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    return plain(namespace, name, {"containers": [container], "volumes": [volume]})


def plain(namespace: str, name: str, spec: Object) -> Object:
    named = {**spec, "schedulerName": f"{SCHEDULER}-{namespace}"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": named}


def ours(control_plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    items = control_plane.get_json("events.events.k8s.io", "-n", namespace)["items"]
    return [item for item in items if item.get("reportingController") == CONTROLLER]


def test_pods_are_told_what_to_do_once_each_and_only_with_the_right_to_create_events(
    control_plane: ControlPlane, placing: Extender, namespace: str
) -> None:
    _ = placing  # the roles are applied with it, and a scheduler for the loaders
    control_plane.add_nodes(["told-1"])
    narrow = account(control_plane, namespace, "model-cache-extender", "model-cache-extender-write")
    extender = control_plane.start_extender(kubeconfig=narrow)
    config = scheduler_config(extender.url)
    config["profiles"] = [{"schedulerName": f"{SCHEDULER}-{namespace}"}]
    control_plane.start_scheduler(config, name=namespace)
    (loader,) = load(control_plane, namespace, 1).values()
    control_plane.set_pod_status(namespace, loader["metadata"]["name"], failed(loader))
    control_plane.apply(taker("told-1", "30Gi"), namespace)
    control_plane.apply(
        [
            server(namespace, "waits"),
            server(namespace, "nowhere", "gemma"),
            in_memory(namespace, "big", "50Gi"),
            in_memory(namespace, "killed", "20Gi", limit="4Gi"),
        ],
        namespace,
    )
    # A process that was restarted, or leads now, knows of the same refusal and says nothing twice.
    second = control_plane.start_extender(kubeconfig=narrow)
    big = control_plane.get_json("pod", "big", "-n", namespace)
    refused = second.post("/filter", {"Pod": big, "Nodes": None, "NodeNames": ["told-1"]})[1]
    assert refused["NodeNames"] == []
    expected = {
        ("waits", "LoaderFailed"),
        ("waits", "NoNewNode"),
        ("nowhere", "ModelNotCarried"),
        ("nowhere", "NoNewNode"),
        ("big", "NoNewNode"),
        ("killed", "OversizedMemoryVolume"),
    }

    def told() -> set[tuple[str, str]]:
        found = ours(control_plane, namespace)
        return {(event["regarding"]["name"], event["reason"]) for event in found}

    control_plane.wait_for(lambda: told() >= expected, 60, f"the events {expected}")
    assert told() == expected
    known = 'events_total{reason="NoNewNode",result="known"} 1.0'
    control_plane.wait_for(
        lambda: known in extender.get("/metrics")[1] + second.get("/metrics")[1],
        60,
        "one of the two to be told that the event exists",
    )
    events = {
        (event["regarding"]["name"], event["reason"]): event
        for event in ours(control_plane, namespace)
    }
    assert "OOMKilled" in events["waits", "LoaderFailed"]["note"]
    assert "spec.resources.requests.memory: " in events["big", "NoNewNode"]["note"]
    described = control_plane.kubectl("describe", "pod", "big", "-n", namespace)
    assert "NoNewNode" in described
    assert len(ours(control_plane, namespace)) == len(expected)
    for each in (extender, second):
        told_lines = [
            line
            for line in each.get("/metrics")[1].splitlines()
            if line.startswith("model_cache_extender_events_total")
        ]
        assert not [line for line in told_lines if 'result="failed"' in line]
