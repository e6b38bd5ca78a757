"""What is said of memory-backed volumes that count for nothing, or are too small."""

from __future__ import annotations

from typing import Any

import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.verbs.context import Context
from tests.builders import node, pod


def warned(volume: dict[str, Any], *, mount: str = "/ram", limit: str = "", model: str = "") -> str:
    container: dict[str, Any] = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "resources": {"limits": {"memory": limit}, "requests": {"memory": "1Gi"}} if limit else {},
        "volumeMounts": [{"name": "ram", "mountPath": mount}],
    }
    if model:
        container["args"] = ["--model", f"{mount}/{model}"]
    volumes = [{"name": "ram", "emptyDir": {"medium": "Memory", **volume}}]
    state = ClusterState(clock=lambda: 0.0)
    state.upsert(node("a"))
    asks = pod("asks", spec={"containers": [container], "volumes": volumes})
    found = explain(asks, Context(state=state))["warnings"]
    return " ".join(warning["reason"] for warning in found)


@pytest.mark.parametrize(
    ("reason", "given"),
    [
        ("UnsizedMemoryVolume", {"volume": {}}),
        ("SharedMemoryVolume", {"volume": {"sizeLimit": "16Gi"}, "mount": "/dev/shm"}),
        ("OversizedMemoryVolume", {"volume": {"sizeLimit": "20Gi"}, "limit": "4Gi"}),
        ("VolumeTooSmall", {"volume": {"sizeLimit": "8Gi"}, "model": "llama-3.1-8b-instruct"}),
    ],
)
def test_each_is_named(reason: str, given: dict[str, Any]) -> None:
    assert reason in warned(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"volume": {"sizeLimit": "4Gi"}, "limit": "8Gi"},
        {"volume": {"sizeLimit": "20Gi"}, "model": "llama-3.1-8b-instruct"},
    ],
)
def test_a_volume_that_is_well_sized_is_not(given: dict[str, Any]) -> None:
    assert "MemoryVolume" not in warned(**given)
    assert "VolumeTooSmall" not in warned(**given)
