"""``deploy/`` as shipped: the second scheduler and the loader as pods on the real node."""

from __future__ import annotations

import hashlib
import json

from e2e.cluster import NODE, RealCluster
from e2e.objects import Object, phase
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

TAKEOVER_SECONDS = 30
"""A Lease that nobody gave up is free after 15 s (leaseDuration), and is tried for every 2 s."""
READS = 3
"""So many of the model are waited for before and after an update, and expected during it."""
CONTAINER = "/spec/template/spec/containers/0"


def test_both_replicas_of_the_scheduler_are_ready_and_one_leads(deployed: RealCluster) -> None:
    pods = replicas(deployed)
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
    pods = {pod["metadata"]["name"] for pod in replicas(deployed)}
    (other,) = pods - {former}
    deployed.kubectl("delete", "pod", former, "-n", SYSTEM, "--wait=false")
    # Who is deleted gives the Lease up: it has no holder until somebody takes it.
    deployed.wait_for(lambda: leader(deployed) not in {"", former}, TAKEOVER_SECONDS, "a takeover")
    assert leader(deployed) == other  # the third has yet to start
    deployed.apply(from_node_cache("after"), namespace)
    serving(deployed, namespace, "after")
    assert scheduled_by(deployed, namespace, "after") == other
    assert leader(deployed) == other
    rolled_out(deployed, SYSTEM, f"deployment/{SCHEDULER}")


def replicas(cluster: RealCluster) -> list[Object]:
    """Return the scheduler's pods, without those that an earlier test's change is still ending."""
    pods = cluster.get_json("pods", "-n", SYSTEM)["items"]
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def scheduled_by(cluster: RealCluster, namespace: str, pod: str) -> str:
    """Return the pod of the scheduler that says that it has placed a pod."""
    events = cluster.read(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events")["items"]
    (instance,) = (
        event["reportingInstance"]
        for event in events
        if event["reason"] == "Scheduled" and event["regarding"]["name"] == pod
    )
    return str(instance).removeprefix(f"{SCHEDULER}-")


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

    def reads() -> list[str]:
        return deployed.logs(namespace, "reader").splitlines()

    def more_reads(what: str) -> int:
        so_far = len(reads())
        deployed.wait_for(lambda: len(reads()) >= so_far + READS, 60, f"reads {what}")
        return so_far

    more_reads("before the update")
    (before,) = loader_pods(deployed)
    begun = len(reads())
    change = [{"op": "add", "path": f"{CONTAINER}/args/-", "value": "--log-level=DEBUG"}]
    patch = ["--type=json", f"--patch={json.dumps(change)}"]
    deployed.kubectl("patch", "-n", LOADERS, "daemonset/model-cache-loader", *patch)
    rolled_out(deployed, LOADERS, "daemonset/model-cache-loader")
    deployed.wait_for(lambda: has_model(deployed), 60, "the new loader to report the model")
    (after,) = loader_pods(deployed)
    assert after["metadata"]["name"] != before["metadata"]["name"]
    assert "--log-level=DEBUG" not in before["spec"]["containers"][0]["args"]
    assert "--log-level=DEBUG" in after["spec"]["containers"][0]["args"]
    done = more_reads("after the update")
    assert done - begun >= READS, "the model was hardly read while the loader was replaced"
    # The loop ends with the first read that fails: all were whole, and of the same content.
    pod = deployed.pod(namespace, "reader")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    weights = (deployed.real[NODE].path(CACHE) / MODEL / "model.safetensors").read_bytes()
    assert set(reads()) == {f"{hashlib.sha256(weights).hexdigest()}  model.safetensors"}
    print(f"reads: {begun} before, {done - begun} during, {len(reads()) - done} after the update")
    deployed.apply(from_node_cache("next"), namespace)
    serving(deployed, namespace, "next")
