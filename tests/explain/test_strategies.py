"""Where another strategy would serve a pod better, one line says so with its figures."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.objects import KubeObject, Node, NodeSpec, Pod, ResourceRequirements
from extender.verbs.context import Context
from extender.workload.counts import Wanted
from tests.builders import (
    CRASHING,
    LOADING,
    READY,
    claim,
    loader,
    loader_pod,
    node,
    pod,
    vllm,
    volume,
)

BIG = "/models/llama-3.1-70b-instruct"
STORE = {"persistentVolumeClaim": {"claimName": "model-store", "readOnly": True}}


def advice(asker: Pod, *objects: KubeObject) -> str:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    warnings = explain(asker, Context(state=state))["warnings"]
    return next((w["message"] for w in warnings if w["reason"] == "BetterStrategy"), "")


def cordoned(name: str) -> Node:
    return msgspec.structs.replace(node(name), spec=NodeSpec(unschedulable=True))


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


@pytest.mark.parametrize(
    ("others", "wanted", "said"),
    [
        (2, None, "each of 3 pods downloads"),
        (2, Wanted(8, "spec.replicas"), "each of 8 pods downloads"),
        (0, Wanted(1, "spec.replicas"), "every start downloads"),
    ],
    ids=["of the cluster", "of a manifest", "one"],
)
def test_it_is_told_how_many_pods_download(others: int, wanted: Wanted | None, said: str) -> None:
    """Those of a manifest that is there already are not counted twice."""
    asker = filled_from_the_hub()
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a"))
    for number in range(others):
        metadata = msgspec.structs.replace(asker.metadata, name=f"p-{number}", uid=f"{number}")
        state.upsert(msgspec.structs.replace(asker, metadata=metadata))
    warnings = explain(asker, Context(state=state), wanted=wanted)["warnings"]
    (told,) = (one["message"] for one in warnings if one["reason"] == "BetterStrategy")
    assert f", and {said} 16.0 GB anew" in told


def test_memory_that_no_node_has_is_compared_with_a_node_cache() -> None:
    said = advice(filled_from_the_hub(), node("a", memory="8Gi"))
    assert said.startswith("a node cache (hostPath) would take none of the 20.0 GiB of memory")
    assert "about 28 s to start from disk" in said


@pytest.mark.parametrize(
    ("level", "refused_by", "smaller"),
    [
        (None, "extender", "spec.volumes[0].emptyDir.sizeLimit: 17Gi"),
        (
            "28Gi",
            "kube-scheduler",
            "spec.volumes[0].emptyDir.sizeLimit: 17Gi, and spec.resources.requests.memory: 25Gi",
        ),
    ],
    ids=["that nobody requests", "that is requested"],
)
def test_a_volume_that_is_larger_than_its_model_can_be_smaller_and_a_cache_needs_none(
    level: str | None, refused_by: str, smaller: str
) -> None:
    """The request that was advised before does not take the other ways out along."""

    def asking(size: str, whole: str | None) -> Pod:
        found = filled_from_the_hub(size)
        requests = ResourceRequirements(requests={"memory": "8Gi"})
        serving = msgspec.structs.replace(found.spec.containers[0], resources=requests)
        asked = ResourceRequirements(requests={"memory": whole}) if whole else None
        spec = msgspec.structs.replace(found.spec, containers=(serving,), resources=asked)
        return msgspec.structs.replace(found, spec=spec)

    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a", memory="24Gi"))
    state.upsert(node("b", memory="26Gi"))
    document = explain(asking("20Gi", level), Context(state=state))
    small, larger = document["nodes"]
    assert {small["refusedBy"], larger["refusedBy"]} == {refused_by}
    both = "sizeLimit: 17Gi, and resources.requests.memory of container vllm: 7Gi"
    assert both in small["remedy"]
    assert both not in larger["remedy"]
    assert larger["remedy"].endswith(f" with {smaller}")
    (better,) = (o["message"] for o in document["warnings"] if o["reason"] == "BetterStrategy")
    assert better.startswith("a node cache (hostPath) would take none of the 20.0 GiB of memory")
    pasted = explain(asking("17Gi", level and "25Gi"), Context(state=state))
    assert [one["name"] for one in pasted["nodes"] if one["fits"]] == ["b"]


def test_a_slow_shared_volume_is_compared_with_a_node_cache() -> None:
    said = advice(vllm(volume=STORE, model=BIG), node("a"), claim())
    assert "would start it in about 90 s" in said
    assert "from its shared volume it takes 300 s at best" in said


def test_a_model_on_no_node_is_compared_with_a_shared_volume() -> None:
    empty = [node("a"), node("b"), loader()]
    said = advice(vllm(), *empty)
    assert said.startswith("the model is on no node: a shared volume")
    assert "all 2 nodes, about 52 s to start" in said


def test_refusals_of_other_kinds_keep_no_advice_back() -> None:
    """One node is cordoned and one lacks the memory; the advice is for the second."""
    said = advice(filled_from_the_hub(), cordoned("a"), node("b", memory="8Gi"))
    assert said.startswith(
        "a node cache (hostPath) would take none of the 20.0 GiB of memory that 1 of 2 nodes lack"
    )
    assert advice(filled_from_the_hub(), cordoned("a"), cordoned("b")) == ""


def test_a_model_that_is_only_where_the_pod_cannot_go_is_compared_with_a_shared_volume() -> None:
    """Of three nodes one has the model and is full, one failed to load it, one is empty."""
    objects = [
        node("full", memory="4Gi"), node("failed"), node("empty"), loader(),
        loader_pod("full", READY), loader_pod("failed", CRASHING),
    ]  # fmt: skip
    assert advice(vllm(), *objects) == (
        "the model is only on nodes that refuse the pod: a shared volume (ReadWriteMany claim), "
        "filled once by a Job, would serve 2 of 3 nodes, about 52 s to start"
    )
    loading = loader_pod("empty", LOADING)
    assert advice(vllm(), *objects, loading) == "", "a node will have it soon"


def test_a_volume_that_is_tied_to_full_nodes_is_compared_with_a_node_cache() -> None:
    zone = {"topology.kubernetes.io/zone": "near"}
    near, far = node("near", memory="4Gi", labels=zone), node("far")
    objects = [near, far, claim(), volume("pv-model-store", zone="near")]
    assert advice(vllm(volume=STORE), *objects) == (
        "a node cache (hostPath) would start it in about 28 s on the 1 of 2 nodes that its "
        "claim's volume cannot reach"
    )


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
