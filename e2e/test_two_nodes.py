"""Two real nodes: pods go to the one with the model, and a node that is switched off comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from e2e.beliefs import believed
from e2e.cluster import NODE, RealCluster
from e2e.node import RealNode
from e2e.objects import Object
from e2e.shipped import (
    LATE,
    MODEL,
    from_node_cache,
    has_model,
    in_memory,
    serving,
)
from tests.loader.hub import Hub

HOSTNAME = "kubernetes.io/hostname"
OFF_SECONDS = 20
WEIGHTS = "model.safetensors"
INIT, MAIN = "initContainerStatuses", "containerStatuses"


@pytest.fixture(scope="module")
def second(deployed: RealCluster) -> Iterator[RealNode]:
    """Let another real node join, with a loader that has its model; it leaves again afterwards."""
    node = deployed.add_real_node(2)
    try:
        for name in (NODE, node.name):
            deployed.wait_for(partial(has_model, deployed, name), 120, f"the model on {name}")
        yield node
    finally:
        deployed.remove_real_node(node.name)


def on(node: str, pod: Object) -> Object:
    """Return a pod that only one node may run."""
    pod["spec"]["nodeSelector"] = {HOSTNAME: node}
    return pod


def apart_from(other: str, pod: Object) -> Object:
    """Return a pod that must not run beside another one."""
    term = {"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": {"app": other}}}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    pod["spec"]["affinity"] = {"podAntiAffinity": {required: [term]}}
    return pod


def ran_again(cluster: RealCluster, namespace: str, name: str, kind: str) -> bool:
    """Say whether a pod's only container of a kind was started once more."""
    statuses = cluster.pod(namespace, name)["status"].get(kind, [])
    return any(status["restartCount"] > 0 for status in statuses)


def test_pods_go_where_the_model_is_and_a_cold_node_fetches_it_for_one_that_can_go_nowhere_else(
    deployed: RealCluster, second: RealNode, hub: Hub, namespace: str
) -> None:
    def place(name: str) -> str:
        return str(deployed.pod(namespace, name)["spec"]["nodeName"])

    sent = hub.bytes_sent(WEIGHTS)
    size = (second.path("/var/lib/models") / MODEL / WEIGHTS).stat().st_size
    deployed.apply(from_node_cache("first", LATE), namespace)  # both are cold
    serving(deployed, namespace, "first")
    warm = place("first")
    (cold,) = {NODE, second.name} - {warm}
    assert has_model(deployed, warm, LATE)
    assert not has_model(deployed, cold, LATE)
    assert size <= hub.bytes_sent(WEIGHTS) - sent < 1.5 * size
    for number in range(3):  # the cold node has ever more room than the other
        name = f"follows-{number}"
        deployed.apply(from_node_cache(name, LATE), namespace)
        serving(deployed, namespace, name)
        assert place(name) == warm
    assert not has_model(deployed, cold, LATE)
    deployed.apply(apart_from("first", from_node_cache("elsewhere", LATE)), namespace)
    serving(deployed, namespace, "elsewhere")
    assert place("elsewhere") == cold
    assert has_model(deployed, cold, LATE)
    assert 2 * size <= hub.bytes_sent(WEIGHTS) - sent < 2.5 * size


def test_a_node_that_is_switched_off_keeps_its_models_and_its_pods_serve_again_after_the_boot(
    deployed: RealCluster, second: RealNode, hub: Hub, namespace: str
) -> None:
    for pod in (from_node_cache("cached"), in_memory(hub, cached=True)):
        deployed.apply(on(second.name, pod), namespace)
    serving(deployed, namespace, "cached")
    serving(deployed, namespace, "memory-cached")
    sent = hub.bytes_sent()
    with believed(deployed, "node switched off", second.name) as beliefs:
        deployed.wait_for(lambda: beliefs.now == "ready", 30, "the model to be believed in")
        second.cut_power()
        deployed.apply(on(second.name, from_node_cache("meanwhile")), namespace)
        time.sleep(OFF_SECONDS)
        second.start_again()
        for name, kind in (("cached", MAIN), ("memory-cached", MAIN), ("memory-cached", INIT)):
            what = f"the {kind} of {name} to have run again"
            deployed.wait_for(partial(ran_again, deployed, namespace, name, kind), 120, what)
        for name in ("cached", "memory-cached", "meanwhile"):
            serving(deployed, namespace, name)
        deployed.wait_for(lambda: beliefs.now == "ready", 120, "the model to be believed in")
    assert "absent" not in beliefs.believed()
    assert hub.bytes_sent() == sent  # the directory was kept, and memory filled from it again
