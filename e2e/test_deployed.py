"""``deploy/`` as shipped: the second scheduler and the loader as pods on the real node."""

from __future__ import annotations

from e2e.cluster import NODE, RealCluster
from e2e.shipped import (
    CACHE,
    MODEL,
    has_model,
    leader,
)
from tests.controlplane.cluster import is_ready
from tests.controlplane.shipped import SYSTEM


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
    weights = CACHE / MODEL / "model.safetensors"
    assert weights.stat().st_size > 80_000_000
    assert weights.stat().st_uid == 65532
    assert CACHE.stat().st_uid == 65532
