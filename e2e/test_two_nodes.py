"""A second real node: which of two a pod goes to, and what nothing else should suffer from.

One of the two is switched off here, and filled with memory to the brim.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.beliefs import believed
from e2e.charging import kernel_kills
from e2e.cluster import NODE, RealCluster
from e2e.explained import explained
from e2e.filling import MI, Case
from e2e.node import RealNode
from e2e.objects import Object, phase
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
FILLED = "/memory/init"
"""What the init container of a case has written."""
ALONE_SECONDS = 15
"""A kubelet looks every ten whether its node is short of memory."""
INIT, MAIN = "initContainerStatuses", "containerStatuses"


@pytest.fixture(scope="module")
def second(deployed: RealCluster) -> Iterator[RealNode]:
    """Let another real node join, with a loader that has its model; it leaves again afterwards."""
    node = deployed.add_real_node(2)
    try:
        yield node
    finally:
        deployed.remove_real_node(node.name)


@pytest.fixture(autouse=True)
def both(deployed: RealCluster, second: RealNode) -> None:
    """Begin each test with a loader on both nodes that has its model."""
    for name in (NODE, second.name):
        deployed.wait_for(partial(has_model, deployed, name), 180, f"the model on {name}")


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


@pytest.mark.parametrize("guaranteed", [True, False], ids=["requests all of it", "requests little"])
def test_what_the_ledger_admits_runs_and_what_it_refuses_dies_or_takes_another_along_where_forced(
    deployed: RealCluster, second: RealNode, namespace: str, tmp_path: Path, *, guaranteed: bool
) -> None:
    def filling(name: str, mebibytes: int, *, guaranteed: bool = False) -> Object:
        stay = "exec sleep 600"
        amount = mebibytes + 32 if guaranteed else None
        case = Case(
            name,
            0,
            "",
            0,
            mebibytes,
            limit=amount,
            request=amount or 32,
            init=mebibytes - 1,
            command=stay,
            pod=name,
        )
        pod = on(second.name, case.manifest())
        if guaranteed:  # by Kubernetes' rule for the class: of CPU, too, as much as it may take
            for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
                for amounts in container["resources"].values():
                    amounts["cpu"] = "500m"
        return pod

    def verdict(pod: Object) -> Any:
        (found,) = explained(deployed, namespace, pod, tmp_path, second.name)["nodes"]
        return found

    before = killed_for_memory(deployed, second)
    free = verdict(filling("probe", 32))["memoryFreeBytes"] // MI
    admitted = filling("admitted", free - 256, guaranteed=guaranteed)
    refused = filling("refused", 1024)
    assert verdict(admitted)["fits"]
    deployed.apply(admitted, namespace)
    running = partial(is_running, deployed, namespace, "admitted")
    deployed.wait_for(running, 120, "the admitted pod to run")
    run = lifetime(deployed, namespace, "admitted")
    assert verdict(refused)["reason"] == "InsufficientMemory"
    time.sleep(ALONE_SECONDS)
    assert lifetime(deployed, namespace, "admitted") == run
    assert killed_for_memory(deployed, second) == before
    refused["spec"]["nodeName"] = second.name
    deployed.apply(refused, namespace)
    if guaranteed:
        killed = partial(is_killed, deployed, namespace, "refused")
        deployed.wait_for(killed, 120, "the kernel or the kubelet to kill what was refused")
        time.sleep(ALONE_SECONDS)  # whatever else was to follow
        assert lifetime(deployed, namespace, "admitted") == run
        kept = deployed.kubectl("exec", "-n", namespace, "admitted", "--", "wc", "-c", FILLED)
        assert int(kept.split()[0]) == (free - 256 - 1) * MI
    else:
        deployed.wait_for(
            lambda: killed_for_memory(deployed, second) - before,
            120,
            "the kernel or the kubelet to kill for memory",
        )
    deployed.kubectl("delete", "pods", "--all", "-n", namespace, "--grace-period=1")
    # By this the kubelet judges whether to evict more pods.
    deployed.wait_for(lambda: available(deployed, second.name) > 1 << 30, 120, "it to be over")


def lifetime(cluster: RealCluster, namespace: str, name: str) -> tuple[str, str, list[Any]]:
    """Return what stays the same for as long as a pod runs on: uid, phase, and all starts."""
    pod = cluster.pod(namespace, name)
    statuses = [status for kind in (INIT, MAIN) for status in pod["status"][kind]]
    assert [status["restartCount"] for status in statuses] == [0] * len(statuses)
    started = [status["containerID"] for status in statuses]
    return pod["metadata"]["uid"], pod["status"]["phase"], started


def is_killed(cluster: RealCluster, namespace: str, name: str) -> bool:
    """Say whether a pod was killed for memory, by the kernel or by the kubelet."""
    pod = cluster.pod(namespace, name)
    return evicted_for_memory(pod) or bool(list(killed_containers(pod)))


def is_running(cluster: RealCluster, namespace: str, name: str) -> bool:
    """Say whether all init containers of a pod have ended well."""
    return phase(cluster, namespace, name) == "Running"


def killed_for_memory(cluster: RealCluster, node: RealNode) -> set[str]:
    """Return whom a node had no memory left for, by the kernel's or the kubelet's word.

    The kernel's, by the container's id: a process was killed because the limit of all pods together
    was hit, not the one of its own pod, and the status of such a container agrees. The kubelet's,
    by the pod's UID: it was evicted for memory. The loader may be among them, and stays.
    """
    pods = cluster.read("/api/v1/pods", fieldSelector=f"spec.nodeName={node.name}")["items"]
    evicted = {pod["metadata"]["uid"] for pod in pods if evicted_for_memory(pod)}
    victims = {Path(victim).name for limited, victim in kernel_kills(node) if limited == "kubepods"}
    return evicted | {one for pod in pods for one in killed_containers(pod) if one in victims}


def evicted_for_memory(pod: Object) -> bool:
    """Say whether a kubelet ended a pod because its node was short of memory."""
    status = pod["status"]
    return status.get("reason") == "Evicted" and "resource: memory" in status.get("message", "")


def killed_containers(pod: Object) -> Iterator[str]:
    """Give the id of each container of a pod whose first process was killed for memory."""
    for kind in (INIT, MAIN):
        for status in pod["status"].get(kind, []):
            for when in ("state", "lastState"):
                how = status.get(when, {}).get("terminated", {})
                if (how.get("reason"), how.get("exitCode")) == ("OOMKilled", 137):
                    yield how["containerID"].rpartition("/")[2]


def available(cluster: RealCluster, node: str) -> int:
    """Return the bytes that a kubelet believes to be available for pods."""
    stats = cluster.read(f"/api/v1/nodes/{node}/proxy/stats/summary")
    (pods,) = (one for one in stats["node"]["systemContainers"] if one["name"] == "pods")
    return int(pods["memory"]["availableBytes"])
