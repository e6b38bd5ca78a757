"""Who comes here where only pods that may have a model do, on the real admission and schedulers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extender.cluster.namespaces import DEFAULT_SCHEDULER
from tests.controlplane.cluster import ControlPlane, Extender
from tests.controlplane.shipped import OPTS_IN, SCHEDULER, Object, kustomized

pytestmark = pytest.mark.skipif(not OPTS_IN, reason="takes MutatingAdmissionPolicy, on since 1.36")


def server(name: str, *words: str, **more: Any) -> Object:
    """Return a pod of one container with this command line."""
    container = {
        "name": "main",
        "image": "registry.k8s.io/pause:3.10",
        "args": [*words],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        **more.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": more.pop("annotations", {})},
        "spec": {"containers": [container], **more},
    }


def volume(**source: Object) -> list[Object]:
    return [{"name": "data", **source}]


WITHOUT_A_MODEL = {
    "nothing": server("nothing"),
    "a-web-server": server("a-web-server", "--port", "8080", volumes=volume(emptyDir={})),
    "a-config-map": server("a-config-map", volumes=volume(configMap={"name": "x"})),
}
WITH_ONE = {
    "a-node-cache": server("a-node-cache", volumes=volume(hostPath={"path": "/var/lib/models"})),
    "a-claim": server("a-claim", volumes=volume(persistentVolumeClaim={"claimName": "store"})),
    "memory": server("memory", volumes=volume(emptyDir={"medium": "Memory", "sizeLimit": "1Mi"})),
    "an-image-volume": server("an-image-volume", volumes=volume(image={"reference": "a/b:v1"})),
    "an-argument": server("an-argument", "--model-path", "/opt/weights"),
    "a-variable": server("a-variable", container={"env": [{"name": "MODEL_ID", "value": "x"}]}),
    "an-annotation": server("an-annotation", annotations={"modelcache.dev/need": "preferred"}),
}


def scheduler_of(control_plane: ControlPlane, namespace: str, pod: Object) -> str:
    """Return the scheduler that a pod would get; nothing is created."""
    options = ("--dry-run=server", "-n", namespace, "-o", "json", "-f", "-")
    made = json.loads(control_plane.kubectl("create", *options, input=json.dumps(pod)))
    return str(made["spec"]["schedulerName"])


@pytest.fixture
def chosen(control_plane: ControlPlane, inference: str) -> str:
    """A labelled namespace, of whose pods only those with a model are to come."""
    control_plane.apply(kustomized(control_plane, "deploy/opt-in-models"))
    control_plane.wait_for(
        lambda: scheduler_of(control_plane, inference, server("tried")) == DEFAULT_SCHEDULER,
        30,
        "the policy to be heeded",
    )
    return inference


def test_a_pod_that_may_have_a_model_comes_here(control_plane: ControlPlane, chosen: str) -> None:
    sent = {kind: scheduler_of(control_plane, chosen, pod) for kind, pod in WITH_ONE.items()}
    assert sent == dict.fromkeys(WITH_ONE, SCHEDULER)
    named = WITH_ONE["memory"] | {"spec": {**WITH_ONE["memory"]["spec"], "schedulerName": "other"}}
    assert scheduler_of(control_plane, chosen, named) == "other"


def test_pods_without_a_model_are_bound_and_never_asked_about(
    control_plane: ControlPlane, placing: Extender, chosen: str
) -> None:
    control_plane.add_nodes(["chosen-a"], {"cpu": "4", "memory": "8Gi", "pods": "20"})
    for pod in (*WITHOUT_A_MODEL.values(), WITH_ONE["memory"]):
        control_plane.apply(pod, chosen)
    names = [*WITHOUT_A_MODEL, "memory"]
    control_plane.wait_for(
        lambda: all(control_plane.pod_node(chosen, name) for name in names), 60, "all to be bound"
    )
    asked = {name for name in names if f'"pod":"{name}"' in _of(placing, chosen)}
    assert asked == {"memory"}


def _of(extender: Extender, namespace: str) -> str:
    """Return what an extender has logged of a namespace."""
    lines = (line for line in extender.log().splitlines() if f'"{namespace}"' in line)
    return "\n".join(lines).replace('": "', '":"')
