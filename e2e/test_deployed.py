"""``deploy/`` as shipped: the second scheduler and the loader as pods on the real node."""

from __future__ import annotations

from e2e.cluster import NODE, RealCluster
from e2e.objects import phase
from e2e.shipped import (
    CACHE,
    LOADERS,
    MODEL,
    from_node_cache,
    has_model,
    leader,
    loader_pods,
    rolled_out,
    serving,
)
from tests.controlplane.cluster import is_ready
from tests.controlplane.shipped import SCHEDULER, SYSTEM


def test_both_replicas_of_the_scheduler_are_ready_and_one_leads(deployed: RealCluster) -> None:
    pods = deployed.get_json("pods", "-n", SYSTEM)["items"]
    assert [pod["spec"]["nodeName"] for pod in pods] == [NODE, NODE]
    assert all(is_ready(pod) for pod in pods)
    statuses = [
        status
        for pod in pods
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in pod["status"][kind]
    ]
    assert len(statuses) == 4
    assert {status["restartCount"] for status in statuses} == {0}
    assert leader(deployed) in {pod["metadata"]["name"] for pod in pods}


def test_the_loader_fills_the_real_directory_and_reports_it(deployed: RealCluster) -> None:
    deployed.wait_for(lambda: has_model(deployed), 60, "the loader to report its model")
    cache = deployed.real[NODE].path(CACHE)
    weights = cache / MODEL / "model.safetensors"
    assert weights.stat().st_size > 80_000_000
    assert weights.stat().st_uid == 65532
    assert cache.stat().st_uid == 65532


def test_a_server_goes_where_the_model_really_is_and_serves_it(
    deployed: RealCluster, namespace: str
) -> None:
    deployed.apply(from_node_cache("server"), namespace)
    loaded = serving(deployed, namespace, "server")
    pod = deployed.pod(namespace, "server")
    assert pod["spec"]["nodeName"] == NODE
    assert "modelcache.dev/decision" in pod["metadata"]["annotations"]
    assert loaded["tensors"] > 100
    assert loaded["bytes"] > 80_000_000


def test_the_other_replica_takes_over_when_the_leader_is_deleted(
    deployed: RealCluster, namespace: str
) -> None:
    former = leader(deployed)
    deployed.kubectl("delete", "pod", former, "-n", SYSTEM, "--wait=false")
    deployed.apply(from_node_cache("after"), namespace)
    serving(deployed, namespace, "after")
    assert leader(deployed) != former
    rolled_out(deployed, SYSTEM, f"deployment/{SCHEDULER}")


def test_a_model_is_read_all_through_a_rolling_update_of_the_loader(
    deployed: RealCluster, namespace: str
) -> None:
    reader = from_node_cache("reader")
    (container,) = reader["spec"]["containers"]
    look = f"cd /models/{MODEL} && while sha256sum model.safetensors; do sleep 0.1; done"
    container |= {"command": ["sh", "-c", look]}
    del container["args"], container["readinessProbe"]
    reader["spec"]["nodeName"] = NODE  # what a shell reads in a loop no scheduler can tell
    deployed.apply(reader, namespace)
    deployed.wait_for(lambda: phase(deployed, namespace, "reader") == "Running", 60, "the reader")
    (before,) = loader_pods(deployed)
    deployed.kubectl("rollout", "restart", "-n", LOADERS, "daemonset/model-cache-loader")
    rolled_out(deployed, LOADERS, "daemonset/model-cache-loader")
    deployed.wait_for(lambda: has_model(deployed), 60, "the new loader to report the model")
    (after,) = loader_pods(deployed)
    assert after["metadata"]["name"] != before["metadata"]["name"]
    pod = deployed.pod(namespace, "reader")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert len(set(deployed.logs(namespace, "reader").splitlines())) == 1
    deployed.apply(from_node_cache("next"), namespace)
    serving(deployed, namespace, "next")
