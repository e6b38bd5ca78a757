"""A workload's manifest: a DaemonSet's pods on each of its nodes, and who asks for no pod now."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import Document, is_well
from extender.explain.workloads import explain_all
from extender.kube.decode import convert
from extender.kube.objects import KubeObject, Node, Pod, Taint
from extender.verbs.context import Context
from extender.workload.manifest import parts_of
from tests.builders import MODEL, READY, loader, loader_pod, node, requesting, tmpfs

BUSY = Taint(key="busy", effect="NoSchedule")


def workload(kind: str, memory: str = "20Gi", **spec: Any) -> dict[str, Any]:
    """A workload of pods of ours that request so much memory, as plain data."""
    requests = {"requests": {"memory": memory}}
    containers = [{"name": "main", "image": "busybox:1.37", "resources": requests}]
    template = {"spec": {"schedulerName": "model-cache-scheduler", "containers": containers}}
    named = {"kind": kind, "metadata": {"name": "w", "namespace": "inference"}}
    match kind:
        case "CronJob":
            return {**named, "spec": {"jobTemplate": {"spec": {"template": template}}, **spec}}
        case "LeaderWorkerSet":
            both = {"leaderTemplate": template, "workerTemplate": template, **spec.pop("group")}
            return {**named, "spec": {"leaderWorkerTemplate": both, **spec}}
        case _:
            return {**named, "spec": {"template": template, **spec}}


def told(manifest: dict[str, Any], *objects: KubeObject, only: str | None = None) -> list[Document]:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    return explain_all(manifest, parts_of(manifest), Context(state=state), only)


def tainted(name: str) -> Node:
    one = node(name)
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, taints=(BUSY,)))


THREE = (node("a"), node("b"), node("c"))
FULL = tmpfs("taker", size="50Gi", on="b")
ALSO = tmpfs("other", size="50Gi", on="c")


def test_a_daemon_set_that_has_room_on_each_of_its_nodes_is_well() -> None:
    (document,) = told(workload("DaemonSet"), *THREE)
    assert document["summary"].startswith("fits on all 3 nodes that it is for; asks for")
    assert document["wanted"] == {"pods": 3, "said": "each node that it is for"}
    assert is_well(document)


def test_of_a_daemon_set_it_is_told_whose_pods_wait_and_why() -> None:
    (document,) = told(workload("DaemonSet"), *THREE, FULL)
    assert document["summary"].startswith(
        "1 of its 3 pods, one for each node that it is for, waits, that of b: the one node lacks "
        "7.0 GiB of memory; node b would fit if pod inference/taker (priority 0, 51.0 GiB) went; "
        "the other 2 fit; asks for"
    )
    assert not is_well(document)
    (document,) = told(workload("DaemonSet"), *THREE, FULL, ALSO)
    assert document["summary"].startswith(
        "2 of its 3 pods, one for each node that it is for, wait, those of b, c: all 2 nodes lack "
        "7.0 GiB of memory; node b would fit if pod inference/taker (priority 0, 51.0 GiB) went; "
        "the other one fits; asks for"
    )


def test_of_a_daemon_set_for_one_node_its_one_pod_waits() -> None:
    (document,) = told(workload("DaemonSet"), node("b"), FULL)
    said = "its one pod waits, that of b: the one node lacks 7.0 GiB of memory; node b would fit if"
    assert document["summary"].startswith(said)


def test_one_of_its_nodes_alone_is_well_or_not_by_itself() -> None:
    for name, well in (("a", True), ("b", False)):
        (document,) = told(workload("DaemonSet"), *THREE, FULL, only=name)
        assert is_well(document, name) is well


def test_no_pod_of_a_daemon_set_waits_for_a_node_that_it_is_not_for() -> None:
    """Its controller makes none there; that a node is cordoned is nothing to it."""
    cordoned = node("d")
    cordoned = msgspec.structs.replace(
        cordoned, spec=msgspec.structs.replace(cordoned.spec, unschedulable=True)
    )
    (document,) = told(workload("DaemonSet"), node("a"), tainted("b"), cordoned)
    assert document["summary"].startswith(
        "fits on all 2 nodes that it is for; for no other: 1 untolerated taint {busy: }; asks for"
    )
    assert is_well(document)


def test_a_daemon_set_that_is_for_no_node_is_not_well() -> None:
    (document,) = told(workload("DaemonSet"), tainted("a"), tainted("b"))
    assert document["summary"].startswith(
        "is for none of 2 nodes: 2 untolerated taint {busy: }; asks for"
    )
    assert not is_well(document)


def made_by_a_daemon_set(spec: dict[str, Any], node_name: str) -> dict[str, Any]:
    """A pod that DaemonSet w made for one node."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {
        "kind": "Pod",
        "metadata": {"name": "w-x", "namespace": "inference", "uid": "w-x", "ownerReferences": [
            {"kind": "DaemonSet", "name": "w", "controller": True}
        ]},
        "spec": {**spec, "affinity": {"nodeAffinity": required}},
    }  # fmt: skip


def test_a_pod_that_a_daemon_set_made_waits_for_its_own_node_s_model_and_no_other_node() -> None:
    """No autoscaler adds a node for it, and what others hold is nothing to it."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", MODEL],
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    }
    held = {"name": "models", "hostPath": {"path": "/var/lib/models", "type": "Directory"}}
    spec = {"schedulerName": "model-cache-scheduler", "containers": [container], "volumes": [held]}
    loaders = (loader(), loader_pod("a", READY), loader_pod("c", READY))
    (document,) = told(made_by_a_daemon_set(spec, "b"), *THREE, *loaders)
    assert document["summary"].startswith(
        "is for b alone and waits: the one node lacks the model; waits for a loader to put the "
        "model on a node; asks for"
    )
    assert document["warnings"] == []


def test_a_pod_that_was_made_for_a_node_that_is_gone_says_so() -> None:
    """And who takes it away: of a manifest nobody does."""
    spec = workload("DaemonSet")["spec"]["template"]["spec"]
    pod = made_by_a_daemon_set(spec, "z")
    said = (
        "waits: it is for z alone (matchFields), and no such node is in the cluster: kubectl get "
        "nodes; "
    )
    (gone,) = told(pod, *THREE, convert(pod, Pod))
    assert gone["summary"].startswith(
        f"{said}DaemonSet w takes it away by itself while kube-controller-manager runs; asks for"
    )
    assert not is_well(gone)
    del pod["metadata"]["uid"], pod["metadata"]["ownerReferences"]
    (manifest,) = told(pod, *THREE)
    assert manifest["summary"].startswith(f"{said}change spec.affinity.nodeAffinity; asks for")


def test_a_pod_that_a_daemon_set_made_is_for_its_node_and_nobodys_labels_are_in_the_way() -> None:
    spec = workload("DaemonSet")["spec"]["template"]["spec"]
    (document,) = told(made_by_a_daemon_set(spec, "b"), *THREE, FULL)
    assert document["summary"].startswith(
        "is for b alone and waits: the one node lacks 7.0 GiB of memory; node b would fit if pod "
    )
    others = {one["name"]: one["message"] for one in document["nodes"] if one["name"] != "b"}
    said = (
        "the pod is for another node: b; none: it was made for b alone (spec.affinity."
        "nodeAffinity, matchFields), as a DaemonSet does"
    )
    assert others == {"a": said, "c": said}
    assert not any("label" in one["message"] for one in document["nodes"])


def ended(how: str) -> dict[str, Any]:
    before = {"type": "Suspended", "status": "False"}
    return {"status": {"conditions": [before, {"type": how, "status": "True"}]}}


NONE: dict[str, tuple[dict[str, Any], str]] = {
    "replicas": (workload("Deployment", replicas=0), "spec.replicas"),
    "a suspended CronJob": (workload("CronJob", suspend=True), "spec.suspend"),
    "a suspended Job": (workload("Job", suspend=True), "spec.suspend"),
    "a Job that is done": (
        workload("Job", completions=2) | {"status": {"succeeded": 2}}, "spec.completions",
    ),
    "a Job that has failed": (
        workload("Job", completions=2) | ended("Failed"), "status.conditions: Failed",
    ),
    "a Job that is told to end": (
        workload("Job", completions=2) | ended("SuccessCriteriaMet"),
        "status.conditions: SuccessCriteriaMet",
    ),
    "a workload that is being deleted": (
        workload("Deployment", replicas=2)
        | {"metadata": {"name": "w", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
        "metadata.deletionTimestamp",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NONE)
def test_a_workload_that_asks_for_no_pod_is_not_said_to_wait(case: str) -> None:
    """Whether one would fit is judged all the same, and is the exit code."""
    manifest, field = NONE[case]
    asks = f"asks for no pod now ({field}); if it asked for one, that "
    (document,) = told(manifest, *THREE)
    assert document["summary"].startswith(f"{asks}fits on 3 of 3 nodes; ")
    assert document["wanted"] == {"pods": 0, "said": field}
    assert is_well(document)
    (document,) = told(manifest, requesting("p", "1Gi"), node("a", memory="8Gi"))
    assert document["summary"].startswith(f"{asks}waits: the one node lacks 12.0 GiB of memory; ")
    assert not is_well(document)


@pytest.mark.parametrize("kind", ["InferenceService", "LLMInferenceService"])
def test_what_kserve_has_stopped_asks_for_no_pod(kind: str) -> None:
    containers = [{"name": "main", "image": "vllm/vllm-openai:v0.11.0"}]
    spec = {"predictor": {"containers": containers}, "template": {"containers": containers}}
    field = "metadata.annotations[serving.kserve.io/stop]"
    for stop, asks in (("True", True), ("false", False)):
        metadata = {"name": "w", "annotations": {"serving.kserve.io/stop": stop}}
        (document,) = told({"kind": kind, "metadata": metadata, "spec": spec}, *THREE)
        assert document["summary"].startswith(f"asks for no pod now ({field})") == asks


def test_a_part_of_which_there_is_none_says_so_alone() -> None:
    group = workload("LeaderWorkerSet", replicas=2, group={"size": 1})
    leader, worker = told(group, *THREE)
    assert leader["summary"].startswith("fits on 3 of 3 nodes")
    assert worker["summary"].startswith("asks for no pod now (the size of its groups); ")
    assert [one["wanted"] for one in (leader, worker)] == [
        {"pods": 2, "said": "spec.replicas"},
        {"pods": 0, "said": "the size of its groups"},
    ]


def test_a_pod_asks_for_itself() -> None:
    asks = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "main"}]}}
    (document,) = told(asks, *THREE)
    assert document["wanted"] is None
    assert document["summary"].startswith("fits on 3 of 3 nodes")
