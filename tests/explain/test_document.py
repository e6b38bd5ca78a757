"""The explain document: what it says of pods that are placed already."""

from __future__ import annotations

import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.objects import KubeObject, Pod
from extender.verbs.context import Context
from tests.builders import LOADING, MODEL, loader, loader_pod, node, pod, tmpfs, vllm


def test_a_bound_pods_own_memory_does_not_count_against_it() -> None:
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a", memory="32Gi"))
    bound = tmpfs("ram", size="20Gi", on="a")
    state.upsert(bound)
    (answer,) = explain(bound, Context(state=state))["nodes"]
    assert answer["fits"] is True
    assert answer["memoryFreeBytes"] == 32 * 2**30


def test_a_pod_that_only_looks_like_it_is_judged_beside_it() -> None:
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a", memory="32Gi"))
    state.upsert(tmpfs("ram", size="20Gi", on="a"))
    (answer,) = explain(tmpfs("twin", size="20Gi"), Context(state=state))["nodes"]
    assert answer["reason"] == "InsufficientMemory"
    assert "lacks 10.0 GiB" in answer["message"]


def warnings(asker: Pod, *objects: KubeObject) -> dict[str, str]:
    """Return what explain warns of, by reason."""
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    document = explain(asker, Context(state=state))
    return {warning["reason"]: warning["message"] for warning in document["warnings"]}


def test_a_refusal_for_memory_names_the_request_that_everyone_sees() -> None:
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a", memory="16Gi"))
    (answer,) = explain(tmpfs(size="20Gi", memory="1Gi"), Context(state=state))["nodes"]
    assert "spec.resources.requests.memory: 21Gi" in answer["message"]
    assert "no node is added" in answer["message"]


def test_where_only_this_program_refuses_it_says_that_no_node_will_be_added() -> None:
    said = warnings(tmpfs(size="20Gi", memory="1Gi"), node("a", memory="16Gi"))["NoNewNode"]
    assert "no node is added" in said
    assert "spec.resources.requests.memory: 21Gi" in said


def test_a_pod_without_volumes_is_told_whose_request_is_missing() -> None:
    full = (node("a", memory="32Gi"), tmpfs("taker", size="20Gi", on="a"))
    said = warnings(vllm(memory="16Gi", volume={"emptyDir": {}}), *full)["NoNewNode"]
    assert "let the pods that fill the nodes request" in said
    assert "spec.resources" not in said


def test_a_model_that_is_nowhere_brings_no_new_node_either() -> None:
    asker = vllm()
    cold = (node("a"), loader(), loader_pod("a", LOADING))
    assert "no node is added" in warnings(asker, *cold)["NoNewNode"]


@pytest.mark.parametrize(
    ("asker", "objects"),
    [
        pytest.param(tmpfs(), (node("small", memory="1Gi"), node("b")), id="some-node-fits"),
        pytest.param(tmpfs(), (), id="no-nodes"),
        pytest.param(
            vllm(volume={"persistentVolumeClaim": {"claimName": "none", "readOnly": True}}),
            (node("a"),),
            id="a-new-node-would-not-help",
        ),
    ],
)
def test_otherwise_nothing_is_said_of_new_nodes(
    asker: Pod, objects: tuple[KubeObject, ...]
) -> None:
    assert "NoNewNode" not in warnings(asker, *objects)


def test_a_pod_that_waits_though_nodes_fit_is_told_with_kube_schedulers_own_words() -> None:
    """What it refuses nodes for may be nothing that is looked at here."""
    says = "0/1 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeResourcesFit]."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    waits = pod("waits", status={"conditions": [{**condition, "message": says}]})
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(node("a"))
    state.upsert(waits)
    said = explain(waits, Context(state=state))["summary"]
    assert said.startswith(f"waits: kube-scheduler said last: {says[:-1]}; ")
    assert "fits on 1 of 1 nodes" in said
    assert explain(pod("new"), Context(state=state))["summary"].startswith("fits on 1 of 1 nodes")


def test_a_directory_that_nobody_is_known_to_fill_is_told_where_the_pod_needs_it() -> None:
    mistyped = vllm(volume={"hostPath": {"path": "/var/lib/model", "type": "Directory"}})
    said = warnings(mistyped, node("a"), loader(), loader_pod("a", LOADING))
    assert said["PathWithoutLoader"].startswith(f"/var/lib/model/{MODEL.rpartition('/')[2]}: no")
    assert "PathWithoutLoader" not in warnings(
        vllm(), node("a"), loader(), loader_pod("a", LOADING)
    )
