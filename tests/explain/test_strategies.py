"""Where another strategy would serve a pod better, one line says so with its figures."""

from __future__ import annotations

from typing import Any

import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.objects import KubeObject, Pod
from extender.verbs.context import Context
from tests.builders import READY, claim, loader, loader_pod, node, pod, vllm

BIG = "/models/llama-3.1-70b-instruct"
STORE = {"persistentVolumeClaim": {"claimName": "model-store", "readOnly": True}}


def advice(asker: Pod, *objects: KubeObject) -> str:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    warnings = explain(asker, Context(state=state))["warnings"]
    return next((w["message"] for w in warnings if w["reason"] == "BetterStrategy"), "")


def filled_from_the_hub(size: str = "20Gi") -> Pod:
    mount: dict[str, Any] = {"name": "ram", "mountPath": "/models"}
    return pod(
        spec={
            "initContainers": [
                {
                    "name": "fill",
                    "command": ["hf", "download", "meta-llama/Llama-3.1-8B-Instruct"],
                    "args": ["--local-dir", "/models/m"],
                    "volumeMounts": [mount],
                }
            ],
            "containers": [
                {
                    "name": "vllm",
                    "image": "vllm/vllm-openai:v0.11.0",
                    "args": ["--model", "/models/m"],
                    "volumeMounts": [{**mount, "readOnly": True}],
                }
            ],
            "volumes": [{"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": size}}],
        }
    )


def test_a_download_at_every_start_is_compared_with_a_node_cache() -> None:
    said = advice(filled_from_the_hub(), node("a"))
    assert "a node cache (hostPath) would start it in about 28 s" in said
    assert "with its memory-backed volume it takes 103 s at best" in said
    assert "every start downloads 16.0 GB anew" in said


def test_memory_that_no_node_has_is_compared_with_a_node_cache() -> None:
    said = advice(filled_from_the_hub(), node("a", memory="8Gi"))
    assert said.startswith("a node cache (hostPath) would take none of the 20.0 GiB of memory")
    assert "about 28 s to start from disk" in said


def test_a_slow_shared_volume_is_compared_with_a_node_cache() -> None:
    said = advice(vllm(volume=STORE, model=BIG), node("a"), claim())
    assert "would start it in about 90 s" in said
    assert "from its shared volume it takes 300 s at best" in said


def test_a_model_on_no_node_is_compared_with_a_shared_volume() -> None:
    empty = [node("a"), node("b"), loader()]
    said = advice(vllm(), *empty)
    assert said.startswith("the model is on no node: a shared volume")
    assert "all 2 nodes, about 52 s to start" in said


@pytest.mark.parametrize(
    ("asker", "objects"),
    [
        (vllm(), [node("a"), loader(), loader_pod("a", READY)]),
        (vllm(volume=STORE, model="/models/qwen-0.5b"), [node("a"), claim()]),
        (vllm(volume=STORE, model="/models/unnamed"), [node("a"), claim()]),
        (pod(), [node("a")]),
        (filled_from_the_hub(), []),
    ],
    ids=["cached", "small enough", "of unknown size", "no model", "no nodes"],
)
def test_otherwise_nothing_is_said(asker: Pod, objects: list[KubeObject]) -> None:
    assert advice(asker, *objects) == ""
