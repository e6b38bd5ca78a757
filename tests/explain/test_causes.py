"""All that is in the way on a node is told, and what a pod waits for would be enough."""

from __future__ import annotations

from typing import Any

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.decode import convert
from extender.kube.objects import KubeObject, Node
from extender.verbs.context import Context
from extender.workload.manifest import parts_of
from tests.builders import claim, loader, vllm

TAINT = {"key": "pool", "value": "a100", "effect": "NoSchedule"}
FAR = {"nodeSelector": {"pool": "h100"}}
NO_SELECTOR = "node selector or affinity does not match"


def machine(name: str, pool: str = "a100", memory: str = "64Gi", **spec: Any) -> Node:
    status = {"allocatable": {"cpu": "4", "memory": memory, "pods": "110"}}
    metadata = {"name": name, "labels": {"pool": pool}}
    return convert({"metadata": metadata, "spec": spec, "status": status}, Node)


def document(spec: dict[str, Any], *objects: KubeObject) -> dict[str, Any]:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    spec = {"containers": [{"name": "main", "image": "busybox:1.37"}], **spec}
    manifest = {"kind": "Pod", "metadata": {"name": "p", "namespace": "inference"}, "spec": spec}
    (part,) = parts_of(manifest)
    return explain(part.pod, Context(state=state), part.asked)


def waits_for(told: dict[str, Any]) -> str:
    said: str = told["summary"].partition("; waits for ")[2].partition("; asks for ")[0]
    return said


def test_a_selector_behind_a_taint_or_a_cordon_is_told_too() -> None:
    told = document(FAR, machine("a", taints=[TAINT]), machine("b", unschedulable=True))
    assert f"1 of 2: untolerated taint {{pool: a100}} and {NO_SELECTOR}" in told["summary"]
    assert f"1 of 2: node is cordoned and {NO_SELECTOR}" in told["summary"]
    assert waits_for(told) == (
        "a node whose taints it tolerates and that its selector and affinity match, or a node "
        "that is not cordoned and that its selector and affinity match"
    )
    tainted, cordoned = told["nodes"]
    besides = f"; besides, {NO_SELECTOR}: nodeSelector pool: h100, the node has a100; change "
    assert tainted["remedy"].startswith("if it may run there: spec.tolerations: [")
    assert cordoned["remedy"].startswith("kubectl uncordon b; ")
    for one in (tainted, cordoned):
        assert besides in one["remedy"]
        assert one["remedy"].endswith("; to end one alone would not help")


def test_of_nodes_where_more_is_in_the_way_nothing_is_waited_for() -> None:
    told = document(
        FAR, machine("a", taints=[TAINT]), machine("b", unschedulable=True), machine("c")
    )
    assert waits_for(told) == "a node that its selector and affinity match"


def test_a_cordon_and_a_taint_have_to_go_together() -> None:
    told = document({}, machine("a", taints=[TAINT], unschedulable=True))
    assert waits_for(told) == "a node that is not cordoned and whose taints it tolerates"


def test_what_lacks_behind_a_taint_has_to_be_there_too() -> None:
    container = {"name": "main", "resources": {"requests": {"memory": "32Gi"}}}
    told = document({"containers": [container]}, machine("a", memory="16Gi", taints=[TAINT]))
    assert waits_for(told) == "a node whose taints it tolerates and that is large enough"


def test_every_claim_that_does_not_exist_is_named() -> None:
    volumes = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("first", "second")
    ]
    (refused,) = document({"volumes": volumes}, machine("a"))["nodes"]
    assert refused["message"].startswith("claim first does not exist; ")
    assert "; besides, claim second does not exist; " in refused["message"]
    (refused,) = document({"volumes": volumes}, machine("a"), claim("first"))["nodes"]
    assert refused["message"].startswith("claim second does not exist; ")
    assert "besides" not in refused["message"]


def test_a_claim_is_waited_for_beside_a_node() -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}]
    told = document({"volumes": volumes}, machine("a", taints=[TAINT]))
    assert waits_for(told) == "its claim to be created, and a node whose taints it tolerates"


def test_an_absent_model_behind_a_taint_has_to_be_there_too() -> None:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in (machine("a", taints=[TAINT]), loader()):
        state.upsert(obj)
    said = waits_for(explain(vllm(), Context(state=state)))
    assert said == "a node whose taints it tolerates and that has what it loads"
