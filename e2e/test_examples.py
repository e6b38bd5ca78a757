"""``deploy/examples`` on the real node: each of the strategies as shipped, all side by side.

A stand-in with the real reader of weights has the name of vLLM's image, and the real
all-MiniLM-L6-v2 that of the repository. ``deploy/opt-in`` sends the pods to the second scheduler.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from e2e.cluster import NODE, RealCluster
from e2e.examples import INFERENCE, NOT_WANTED, examples
from e2e.objects import Object
from e2e.shipped import rolled_out
from tests.controlplane.cluster import is_ready
from tests.controlplane.shipped import SCHEDULER, pods
from tests.loader.hub import Hub

DEPLOYMENTS = {
    "vllm-shared-volume": 2,
    "vllm-loader-claim": 2,
    "vllm-node-cache": 2,
    "vllm-memory": 1,
    "vllm-loader-memory": 1,
    "vllm-image": 1,
    "vllm-image-volume": 1,
}
"""Each with its replicas."""


@pytest.fixture(scope="module")
def applied(deployed: RealCluster, hub: Hub) -> Iterator[list[Object]]:
    """Apply all of them."""
    with examples(deployed, hub) as objects:
        yield objects


def test_every_example_serves_and_no_server_started_before_its_model_was_there(
    deployed: RealCluster, applied: list[Object], hub: Hub
) -> None:
    deployments = [found for found in applied if found["kind"] == "Deployment"]
    replicas = {each["metadata"]["name"]: each["spec"]["replicas"] for each in deployments}
    assert replicas == DEPLOYMENTS
    rolled_out(deployed, INFERENCE, "daemonset/model-loader")
    for name, count in DEPLOYMENTS.items():
        rolled_out(deployed, INFERENCE, f"deployment/{name}")
        found = pods(deployed, INFERENCE, name)
        assert len(found) == count
        for pod in found:
            assert is_ready(pod)
            assert pod["spec"]["schedulerName"] == SCHEDULER
            assert pod["spec"]["nodeName"] == NODE
            assert "modelcache.dev/decision" in pod["metadata"]["annotations"]
            (status,) = pod["status"]["containerStatuses"]
            assert status["restartCount"] == 0, name
            logs = deployed.logs(INFERENCE, pod["metadata"]["name"], "-c", "vllm")
            loaded = json.loads(logs.splitlines()[0])
            assert loaded["tensors"] > 100
            assert loaded["bytes"] > 80_000_000
    for job in ("model-download", "fill-claim"):
        status = deployed.get_json("job", job, "-n", INFERENCE)["status"]
        assert status["succeeded"] == 1
        assert status.get("failed", 0) == 0
    assert hub.bytes_sent(NOT_WANTED) == 0
