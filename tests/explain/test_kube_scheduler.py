"""What kube-scheduler refuses by itself is no "fits", whoever is asked and however."""

from __future__ import annotations

from typing import Any

import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain, is_well
from extender.kube.decode import convert
from extender.kube.objects import KubeObject, Namespace, Node, Pod
from extender.verbs.context import Context
from extender.workload.manifest import parts_of
from tests.builders import (
    READY,
    claim,
    loader,
    loader_pod,
    node,
    pod,
    storage_class,
    tmpfs,
    vllm,
    volume,
)

GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "value": "yes", "effect": "NoSchedule"}


def machine(
    name: str = "a", labels: dict[str, str] | None = None, *, gpus: str = "2", **spec: Any
) -> Node:
    allocatable = {"cpu": "4", "memory": "64Gi", "pods": "110", GPU: gpus}
    return convert(
        {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": spec,
            "status": {"allocatable": allocatable},
        },
        Node,
    )


def manifest(*, requests: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of our scheduler that asks for no model, as plain data."""
    container = {"name": "main", "image": "busybox:1.37", "resources": {"requests": requests or {}}}
    named = {"schedulerName": "model-cache-scheduler", "containers": [container], **spec}
    return {"kind": "Pod", "metadata": {"name": "p", "namespace": "inference"}, "spec": named}


def document(asker: dict[str, Any], *objects: KubeObject) -> dict[str, Any]:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    (part,) = parts_of(asker)
    return explain(part.pod, Context(state=state), part.asked)


def taking(name: str, on: str = "a", **requests: str) -> Pod:
    named = {key.replace("gpu", GPU): value for key, value in requests.items()}
    container = {"name": "main", "resources": {"requests": named}}
    return pod(name, spec={"nodeName": on, "containers": [container]}, status={"phase": "Running"})


FAR = {"nodeSelector": {"zone": "far"}}
REFUSED: dict[str, tuple[dict[str, Any], list[KubeObject], str, str, str]] = {
    "cordoned": (
        manifest(), [machine(unschedulable=True)],
        "NodeCordoned", "node is cordoned; kubectl uncordon a", "a node to be uncordoned",
    ),
    "tainted": (
        manifest(), [machine(taints=[TAINT])],
        "UntoleratedTaint", "spec.tolerations: [{key: nvidia.com/gpu, operator: Equal, value: "
        '"yes", effect: NoSchedule}]', "a node whose taints it tolerates",
    ),
    "another zone": (
        manifest(**FAR), [machine(labels={"zone": "near"})],
        "NodeAffinityMismatch", "nodeSelector zone: far, the node has near; change spec."
        "nodeSelector, or, if the node is one of those: kubectl label node a zone=far --overwrite",
        "a node that its selector and affinity match",
    ),
    "no zone": (
        manifest(**FAR), [machine()],
        "NodeAffinityMismatch", "nodeSelector zone: far, a label it has not; change spec."
        "nodeSelector, or, if the node is one of those: kubectl label node a zone=far",
        "a node that its selector and affinity match",
    ),
    "labels that are not for people to give": (
        manifest(nodeSelector={"gpu": "big", "topology.kubernetes.io/zone": "b"}), [machine()],
        "NodeAffinityMismatch", "nodeSelector gpu: big, a label it has not and "
        "topology.kubernetes.io/zone: b, a label it has not; change spec.nodeSelector; what the "
        "node says of itself: kubectl get node a --show-labels",
        "a node that its selector and affinity match",
    ),
    "labels that feature discovery gives": (
        manifest(nodeSelector={"nvidia.com/gpu.product": "A100"}),
        [machine(labels={"nvidia.com/gpu.product": "H100"})],
        "NodeAffinityMismatch", "nodeSelector nvidia.com/gpu.product: A100, the node has H100; "
        "change spec.nodeSelector; what the node says of itself: kubectl get node a --show-labels",
        "a node that its selector and affinity match",
    ),
    "neither selected nor affine": (
        manifest(**FAR, affinity={"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
            ]}}}), [machine()],
        "NodeAffinityMismatch", "kubectl label node a zone=far; besides, node selector or affinity "
        "does not match: it requires gpu Exists, the node has no gpu; change spec.affinity."
        "nodeAffinity, or the labels of the node: kubectl get node a --show-labels; to end one "
        "alone would not help",
        "a node that its selector and affinity match",
    ),
    "not in all as its affinity requires": (
        manifest(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [
                {"key": "memory", "operator": "Gt", "values": ["80000"]},
                {"key": "spot", "operator": "DoesNotExist"},
                {"key": "zone", "operator": "In", "values": ["a"]},
            ]}]}}}), [machine(labels={"memory": "40960", "zone": "a", "spot": "yes"})],
        "NodeAffinityMismatch", "it requires memory Gt [80000] and spot DoesNotExist and zone In "
        "[a], the node has memory: 40960 and spot: yes; change spec.",
        "a node that its selector and affinity match",
    ),
    "not as its affinity requires": (
        manifest(affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["a", "b"]},
                                      {"key": "old", "operator": "DoesNotExist"}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["z"]}]},
            ]}}}), [machine()],
        "NodeAffinityMismatch",
        "it requires gpu In [a, b] and old DoesNotExist or metadata.name In [z]; change spec.",
        "a node that its selector and affinity match",
    ),
    "more CPU than there is": (
        manifest(requests={"cpu": "5"}), [machine()],
        "InsufficientResources", "Insufficient cpu; lacks 1 cpu; the node is too small: 1 cpu "
        "would lack even if all pods left that can; it would fit with resources.requests.cpu: 4",
        "a node that is large enough",
    ),
    "GPUs where there are none": (
        manifest(requests={GPU: "1"}), [node("a")],
        "InsufficientResources", "the node has no nvidia.com/gpu at all; see whether its device "
        "plugin runs: kubectl get pods --all-namespaces --field-selector spec.nodeName=a; kubectl "
        "describe node a",
        "a node that has nvidia.com/gpu",
    ),
    "GPUs that no plugin tells of any more": (
        manifest(requests={GPU: "1"}), [machine(gpus="0")],
        "InsufficientResources", "the node has no nvidia.com/gpu at all; see whether its device ",
        "a node that has nvidia.com/gpu",
    ),
    "more GPUs than there are": (
        manifest(requests={GPU: "3"}), [machine()],
        "InsufficientResources", "it would fit with resources.requests.nvidia.com/gpu and "
        "resources.limits.nvidia.com/gpu: 2",
        "a node that is large enough",
    ),
    "plain memory": (
        manifest(requests={"memory": "80Gi"}), [machine()],
        "InsufficientMemory", "it would fit with resources.requests.memory: 64Gi",
        "a node that is large enough",
    ),
}  # fmt: skip


def test_fewer_gpus_are_asked_for_where_they_are_requested_and_where_they_are_limited() -> None:
    """An apiserver refuses a pod that requests other than what it is limited to."""
    asker = manifest()
    (container,) = asker["spec"]["containers"]
    container["resources"] = {"requests": {GPU: "3"}, "limits": {GPU: "3"}}
    (row,) = document(asker, machine())["nodes"]
    where, _, size = row["remedy"].partition("it would fit with ")[2].partition(": ")
    assert size.startswith("2")
    for path in where.split(" and "):
        _, kind, name = path.split(".", 2)
        container["resources"][kind][name] = "2"
    assert container["resources"] == {"requests": {GPU: "2"}, "limits": {GPU: "2"}}
    (row,) = document(asker, machine())["nodes"]
    assert row["fits"]


@pytest.mark.parametrize("why", REFUSED)
def test_a_node_that_kube_scheduler_refuses_does_not_fit(why: str) -> None:
    asker, objects, reason, message, waits_for = REFUSED[why]
    told = document(asker, *objects)
    (answer,) = told["nodes"]
    assert (answer["fits"], answer["refusedBy"], answer["reason"], answer["score"]) == (
        False, "kube-scheduler", reason, None,
    )  # fmt: skip
    assert message in answer["message"]
    assert answer["message"].endswith(answer["remedy"])
    assert told["summary"].startswith("waits: ")
    assert f"; waits for {waits_for}; asks for no model" in told["summary"]
    assert not is_well(told)


def test_what_it_tolerates_and_selects_fits() -> None:
    asker = manifest(nodeSelector={"zone": "near"}, tolerations=[{"operator": "Exists"}])
    told = document(asker, machine(labels={"zone": "near"}, taints=[TAINT], unschedulable=True))
    assert (told["nodes"][0]["fits"], told["nodes"][0]["refusedBy"]) == (True, None)
    assert is_well(told)


def test_the_model_is_told_of_though_kube_scheduler_refuses_its_nodes() -> None:
    asker = {**manifest(), "spec": {**served()["spec"]}}
    objects = [machine("a", unschedulable=True), machine("b"), loader(), loader_pod("a", READY)]
    told = document(asker, *objects)
    assert told["summary"].startswith(
        "waits: 1 of 2 nodes has the model, 1: node is cordoned; waits for a node to be uncordoned"
    )
    states = {answer["name"]: (answer["state"], answer["reason"]) for answer in told["nodes"]}
    assert states == {"a": ("ready", "NodeCordoned"), "b": ("absent", "ModelAbsent")}


def served(**spec: Any) -> dict[str, Any]:
    """The article's server, as plain data."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", "/models/llama-3.1-8b-instruct"],
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
        **spec,
    }
    volume = {"name": "models", "hostPath": {"path": "/var/lib/models", "type": "Directory"}}
    return manifest(containers=[container], volumes=[volume])


def test_the_sentence_of_a_large_cluster_names_who_has_it_what_lacks_and_who_would_have_to_go() -> (
    None
):
    """Three of forty nodes have the model and are full; on one of them a pod of no priority is."""
    names = [f"gpu-{number}" for number in range(1, 41)]
    full = [taking(f"full-{n}", on=f"gpu-{n}", memory="30Gi", cpu="100m") for n in (3, 5)]
    more = [taking(f"more-{n}", on=f"gpu-{n}", memory="30Gi", cpu="100m") for n in (3, 5)]
    objects = [
        *(machine(name) for name in names), loader(),
        *(loader_pod(f"gpu-{n}", READY) for n in (3, 5, 7)),
        *full, *more, taking("x", on="gpu-7", memory="60Gi"),
    ]  # fmt: skip
    asker = served(resources={"requests": {"memory": "12Gi"}})
    assert document(asker, *objects)["summary"].startswith(
        "waits: 3 of 40 nodes have the model, all 3 lack 8.0 GiB of memory; node gpu-3 would fit "
        "if pod inference/full-3 (priority 0, 30.0 GiB) went; asks for"
    )


def test_the_pod_that_would_have_to_go_gives_back_everything_that_lacks() -> None:
    """The smaller one has the memory and no GPU; the larger one has both."""
    objects = [
        machine(), taking("only-memory", memory="30Gi"), taking("both", memory="31Gi", gpu="2")
    ]  # fmt: skip
    told = document(manifest(requests={"memory": "8Gi", GPU: "1"}), *objects)
    assert told["summary"].startswith(
        "waits: the one node lacks 5.0 GiB of memory and 1 nvidia.com/gpu; node a would fit if pod "
        "inference/both (priority 0, 31.0 GiB, 2 nvidia.com/gpu) went"
    )


def test_the_node_that_lacks_least_is_named() -> None:
    objects = [machine("a"), machine("b"), taking("x", "a", cpu="3"), taking("y", "b", cpu="2")]
    told = document(manifest(requests={"cpu": "4"}), *objects)
    assert "all 2 nodes lack 2 cpu or more (b lacks least)" in told["summary"]


def test_where_a_new_node_would_help_nothing_is_said_against_it() -> None:
    """kube-scheduler refuses it for its requests, which autoscalers see."""
    told = document(manifest(requests={"memory": "80Gi"}), machine())
    assert [w["reason"] for w in told["warnings"]] == []
    ours = document({**manifest(), "spec": {**memory_backed()}}, machine())
    assert "NoNewNode" in {w["reason"] for w in ours["warnings"]}


def memory_backed() -> dict[str, Any]:
    mount = {"name": "ram", "mountPath": "/ram"}
    volume = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "70Gi"}}
    return {
        "schedulerName": "model-cache-scheduler",
        "containers": [{"name": "main", "volumeMounts": [mount]}],
        "volumes": [volume],
    }


# -- which request ---------------------------------------------------------------------------------


def container(name: str, memory: str) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": {"memory": memory}}}


REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "one": ({"containers": [container("c", "70Gi")]}, "with resources.requests.memory: 64Gi"),
    "several": (
        {"containers": [container("side", "2Gi"), container("vllm", "70Gi")]},
        "with resources.requests.memory of container vllm: 62Gi",
    ),
    "an init container": (
        {"containers": [container("c", "1Gi")], "initContainers": [container("fill", "70Gi")]},
        "with resources.requests.memory of init container fill: 64Gi",
    ),
    "of the pod": (
        {"containers": [container("c", "1Gi")], "resources": {"requests": {"memory": "70Gi"}}},
        "with spec.resources.requests.memory: 64Gi",
    ),
}


@pytest.mark.parametrize("which", REQUESTS)
def test_the_request_that_would_fit_is_named_by_its_container(which: str) -> None:
    spec, said = REQUESTS[which]
    (answer,) = document(manifest(**spec), machine())["nodes"]
    assert answer["remedy"].endswith(said)


def test_no_smaller_request_is_named_where_the_model_is_absent_too() -> None:
    asker = served(resources={"requests": {"memory": "80Gi"}})
    told = document(asker, machine("a"), machine("b"), loader(), loader_pod("b", READY))
    remedies = {answer["name"]: answer["remedy"] for answer in told["nodes"]}
    assert "it would fit with" in remedies["b"]
    assert "it would fit with" not in remedies["a"]
    assert "; besides, node cache does not hold the model; loader inference/model" in remedies["a"]
    assert remedies["a"].endswith(
        "; or declare what is baked in: kubectl annotate node a modelcache.dev/provides=/var/lib/"
        "models/llama-3.1-8b-instruct"
    )


def test_what_lacks_is_told_beside_a_cordon() -> None:
    """To uncordon the node would not help."""
    (answer,) = document(manifest(requests={GPU: "4"}), machine(unschedulable=True))["nodes"]
    assert answer["remedy"] == (
        "kubectl uncordon a; besides, it lacks 2 nvidia.com/gpu; the node is too small: 2 "
        "nvidia.com/gpu would lack even if all pods left that can; there would be room with "
        "resources.requests.nvidia.com/gpu and resources.limits.nvidia.com/gpu: 2"
    )


@pytest.mark.parametrize(
    ("more", "gpus", "first"),
    [
        ({"unschedulable": True}, "0", "kubectl uncordon a; besides, it lacks "),
        ({"unschedulable": True}, "4", "kubectl uncordon a; besides, it lacks "),
        ({}, "4", "lacks "),
    ],
    ids=["beside a cordon", "beside a cordon and GPUs", "beside GPUs"],
)
def test_memory_that_only_the_ledger_knows_of_is_told_beside_what_kube_scheduler_refuses_for(
    more: dict[str, Any], gpus: str, first: str
) -> None:
    """To end what kube-scheduler says would not help."""
    mounts = [{"name": "ram", "mountPath": "/ram"}]
    requests = {"memory": "30Gi"} | ({GPU: gpus} if gpus != "0" else {})
    asker = manifest(
        containers=[{"name": "main", "resources": {"requests": requests}, "volumeMounts": mounts}],
        volumes=[{"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "40Gi"}}],
    )
    told = document(asker, machine(**more))
    (answer,) = told["nodes"]
    lacks = "6.0 GiB of memory once memory-backed volumes are counted"
    gpu = f" and 2 {GPU}" if gpus != "0" else ""
    assert answer["remedy"].startswith(f"{first}{lacks}{gpu}; the node is too small: ")
    if not gpu:
        assert answer["remedy"].endswith("with resources.requests.memory: 24Gi")
        assert "and that is large enough" in told["summary"]


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ({"pool": "c"}, "no node has the label pool: c (but a, b); waits for"),
        ({"pool": "a", "disk": "fast"}, "; no node has the label disk: fast (but slow); waits"),
        ({"pool": "a", "gone": "x"}, "; no node has the label gone: x; waits for"),
        ({"pool": "a", "disk": "slow"}, None),
    ],
    ids=["another value", "one of two", "no value", "each on some node"],
)
def test_a_label_that_no_node_has_is_named(selector: dict[str, str], said: str | None) -> None:
    """A value that is misspelt looks in each row as if that node alone were another one."""
    nodes = [machine("a", {"pool": "a"}), machine("b", {"pool": "b", "disk": "slow"})]
    summary = document(manifest(nodeSelector=selector), *nodes)["summary"]
    if said is None:
        assert "no node has" not in summary
    else:
        assert said in summary


# -- claims ----------------------------------------------------------------------------------------

SCRATCH: dict[str, Any] = {
    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "model-store"}}]
}


def test_a_claim_without_a_model_keeps_a_pod_from_nodes_all_the_same() -> None:
    told = document(manifest(**SCRATCH), machine())
    (answer,) = told["nodes"]
    assert (answer["refusedBy"], answer["reason"]) == ("kube-scheduler", "ClaimMissing")
    assert "kubectl get persistentvolumeclaims -n inference" in answer["remedy"]
    assert told["summary"].startswith("waits: 1 of 1: claim model-store does not exist; waits for")


def test_a_volume_in_another_zone_is_named_with_where_it_is() -> None:
    zone = {"topology.kubernetes.io/zone": "a"}
    told = document(manifest(**SCRATCH), machine(labels=zone), claim(), volume(zone="b"))
    (answer,) = told["nodes"]
    assert answer["reason"] == "ClaimUnreachable"
    assert answer["remedy"].endswith("kubectl describe persistentvolume pv-model-store")


def test_where_a_class_makes_volumes_is_asked_of_the_class() -> None:
    """The claim itself is not there yet: its StatefulSet makes it with the pod."""
    zone = {"topology.kubernetes.io/zone": "a"}
    asker = {
        "kind": "StatefulSet",
        "metadata": {"name": "llm", "namespace": "inference"},
        "spec": {
            "template": {"spec": manifest()["spec"]},
            "volumeClaimTemplates": [
                {"metadata": {"name": "data"}, "spec": {"storageClassName": "late"}}
            ],
        },
    }
    (elsewhere,) = document(asker, machine(labels=zone), storage_class(zone="b"))["nodes"]
    assert "its storage class late makes no volumes there" in elsewhere["message"]
    assert "kubectl get storageclass late -o yaml" in elsewhere["remedy"]
    (nowhere,) = document(asker, machine(labels=zone), storage_class("another"))["nodes"]
    assert nowhere["remedy"] == "make late, or name one of: kubectl get storageclasses"


def test_a_model_in_a_claim_that_a_stateful_set_makes_is_said_to_be_told_later() -> None:
    serving = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", "/m/q"],
        "volumeMounts": [{"name": "data", "mountPath": "/m"}],
    }
    asker = {
        "kind": "StatefulSet",
        "metadata": {"name": "web"},
        "spec": {
            "template": {"spec": {"containers": [serving]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        },
    }
    assert (
        "from a place that cannot be told (need unknown: volume data is not among spec.volumes: a "
        "claim that a StatefulSet makes for each pod (spec.volumeClaimTemplates) is followed once "
        "that pod is there)"
    ) in document(asker, machine())["summary"]


def test_the_node_that_is_nearly_large_enough_lacks_the_fewest_resources() -> None:
    """Of the one both lack as much."""
    asker = manifest(requests={"cpu": "8", GPU: "9"})
    nodes = machine("a"), machine("b", gpus="9"), machine("c", gpus="3")
    assert (
        "; no node is large enough: on b 4 cpu would lack even"
        in document(asker, *nodes)["summary"]
    )


def test_no_node_that_is_large_enough_is_said_though_the_model_is_nowhere_too() -> None:
    asker = served(resources={"requests": {"memory": "900Gi"}})
    assert document(asker, machine("a"), machine("b"), loader())["summary"].startswith(
        "waits: none of 2 nodes has the model; no node is large enough: on a 836.0 GiB of memory "
        "would lack even if all pods left that can; waits for a node that has what it loads and "
        "that is large enough; "
    )


def test_a_claim_that_kserve_mounts_is_judged_though_no_volume_shows_it() -> None:
    asker = {
        "kind": "InferenceService",
        "metadata": {"name": "llm", "namespace": "inference"},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "huggingface"},
                    "storageUri": "pvc://model-store/llama",
                }
            }
        },
    }
    (missing,) = document(asker, machine())["nodes"]
    assert missing["reason"] == "ClaimMissing"
    (there,) = document(asker, machine(), claim())["nodes"]
    assert there["fits"]


# -- one node of them ------------------------------------------------------------------------------


def test_one_node_alone_is_listed_and_the_pod_is_judged_by_all() -> None:
    """The best of two scores 10 whoever is listed, and the sentence is about the cluster."""
    objects = [machine("a"), machine("b"), machine("c"), loader()]
    objects += [loader_pod(name, READY) for name in "ab"]
    (part,) = parts_of(served())
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    context = Context(state=state)
    everything = explain(part.pod, context, part.asked)
    for only in "abc":
        alone = explain(part.pod, context, part.asked, only=only)
        assert alone["nodes"] == [one for one in everything["nodes"] if one["name"] == only]
        assert {**alone, "nodes": []} == {**everything, "nodes": []}
    assert not is_well(explain(part.pod, context, part.asked, only="c"))


# -- a pod that nobody places ----------------------------------------------------------------------


def held(asker: dict[str, Any], *objects: KubeObject) -> tuple[str, str]:
    told = document(asker, machine(), *objects)
    assert not is_well(told)
    assert told["nodes"][0]["fits"], "the node itself would take it"
    return told["held"]["reason"], told["summary"]


def test_scheduling_gates_hold_it_back() -> None:
    reason, summary = held(manifest(schedulingGates=[{"name": "acme/quota"}, {"name": "x"}]))
    assert reason == "SchedulingGated"
    assert summary.startswith("waits: spec.schedulingGates holds it back (acme/quota, x); ")
    assert "without that: fits on 1 of 1 nodes" in summary


KILLED = {"name": "main", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}


@pytest.mark.parametrize(
    ("status", "owner", "said"),
    [
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory. "}, "",
            "has ended (Failed: Evicted, The node was low on memory) and is not placed again; "
            "nobody makes a new one: create it anew; ",
        ),
        (
            {"phase": "Failed", "containerStatuses": [KILLED]}, "Job",
            "has ended (Failed: container main OOMKilled exit 137) and is not placed again; "
            "Job batch makes a new one, unless that has given up; ",
        ),
        (
            {"phase": "Succeeded"}, "Job",
            "has ended (Succeeded) and is not placed again; Job batch makes a new one if there is "
            "more to do; ",
        ),
    ],
    ids=["evicted", "killed", "done"],
)  # fmt: skip
def test_a_pod_that_has_ended_is_not_placed_again(
    status: dict[str, Any], owner: str, said: str
) -> None:
    ended = manifest(nodeName="a") | {"status": status}
    if owner:
        owners = [{"kind": owner, "name": "batch", "controller": True}]
        ended["metadata"] = {**ended["metadata"], "ownerReferences": owners}
    reason, summary = held(ended)
    assert reason == "PodEnded"
    assert summary.startswith(said)


def test_a_pod_that_is_being_deleted_is_not_placed_any_more() -> None:
    asker = manifest()
    asker["metadata"] = {**asker["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert held(asker)[0] == "PodDeleted"
    asker["spec"]["nodeName"] = "a"
    assert held(asker)[1].startswith("is being deleted on a (")


def test_what_comes_in_the_place_of_a_pod_that_has_ended_may_go_anywhere() -> None:
    """Its own nodeName was written by the binding."""
    ended = manifest(nodeName="a") | {"status": {"phase": "Failed"}}
    told = document(ended, machine("a"), machine("b"))
    assert {one["name"]: one["fits"] for one in told["nodes"]} == {"a": True, "b": True}


def test_storage_that_lacks_is_told_in_units_that_people_read() -> None:
    (answer,) = document(manifest(requests={"hugepages-2Mi": "3Gi"}), machine())["nodes"]
    assert "lacks 3.0 GiB hugepages-2Mi" in answer["remedy"]


def test_a_scheduler_that_nobody_runs_never_places_it() -> None:
    reason, summary = held(manifest(schedulerName="model-cache-schedular"))
    assert reason == "SchedulerUnknown"
    assert "nobody seems to run its scheduler, model-cache-schedular" in summary
    assert "spec.schedulerName: model-cache-scheduler" in summary


def test_a_scheduler_that_has_placed_pods_is_run_by_somebody() -> None:
    placed = pod("q", spec={"nodeName": "a", "schedulerName": "volcano"})
    told = document(manifest(schedulerName="volcano"), machine(), placed)
    assert told["held"] is None


def warned(asker: dict[str, Any]) -> dict[str, str]:
    told = document(asker, machine(), loader(), loader_pod("a", READY))
    return {warning["reason"]: warning["message"] for warning in told["warnings"]}


def test_a_scheduler_that_does_not_ask_is_told() -> None:
    asker = served()
    assert "NotAsked" not in warned(asker)
    asker["spec"]["schedulerName"] = "volcano"
    assert "its scheduler, volcano, does not ask this program" in warned(asker)["NotAsked"]
    del asker["spec"]["schedulerName"]
    said = warned(asker)["NotAsked"]
    assert "its scheduler, default-scheduler, does not ask" in said
    assert "kubectl label namespace inference modelcache.dev/scheduling=enabled" in said


OURS = "spec.nodeName puts it on a by itself, no scheduler is asked: "
BUSY = {"key": "busy", "effect": "NoExecute"}
NAMED: dict[str, tuple[dict[str, Any], list[KubeObject], str]] = {
    "fits": (
        served(), [machine("a"), loader_pod("a", READY)], "it fits there, about 28 s to start",
    ),
    "cordoned": (
        served(), [machine("a", unschedulable=True, taints=[TAINT]), loader_pod("a", READY)],
        "it fits there, about 28 s to start",
    ),
    "absent": (
        served(), [machine("a")],
        "its kubelet takes it all the same: node cache does not hold the model",
    ),
    "full": (
        manifest(requests={"cpu": "8"}), [machine("a")], "its kubelet refuses it: Insufficient cpu",
    ),
    "selects": (
        manifest(**FAR), [machine("a")],
        "its kubelet refuses it: node selector or affinity does not match",
    ),
    "tainted": (
        manifest(), [machine("a", taints=[BUSY])],
        "its kubelet refuses it: untolerated taint {busy: }",
    ),
    "missing": (manifest(), [], "no such node is in the cluster"),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_of_a_node_that_the_pod_names_itself_its_kubelet_is_told(case: str) -> None:
    """kube-scheduler never sees such a pod."""
    asker, objects, said = NAMED[case]
    asker["spec"] = {**asker["spec"], "nodeName": "a"}
    told = document(asker, machine("b"), loader(), *objects)
    assert told["summary"].startswith(f"{OURS}{said}; to have it scheduled, leave that out, or")
    assert is_well(told) is said.startswith("it fits")
    assert "NotAsked" not in {warning["reason"] for warning in told["warnings"]}
    others = {n["reason"] for n in told["nodes"] if n["name"] != "a"}
    assert others == {"AnotherNodeNamed"}


def test_what_is_not_looked_at_is_said() -> None:
    asker = served()
    asker["spec"]["topologySpreadConstraints"] = [{"maxSkew": 1}]
    assert warned(asker)["NotJudged"].startswith("not looked at here: topologySpreadConstraints;")
    assert "NotJudged" not in warned(served())


def test_where_nothing_is_known_of_a_model_no_time_is_made_up() -> None:
    """The engine's own seconds are no estimate of anything."""
    told = document(manifest(), machine())
    assert told["nodes"][0]["estimatedStartSeconds"] is None
    assert told["summary"].startswith("fits on 1 of 1 nodes; asks for no model")
    unknown = document(served(), machine())
    assert unknown["summary"].startswith("fits on 1 of 1 nodes; asks for /models/llama")


# -- a pod that runs -------------------------------------------------------------------------------


def test_a_pod_that_runs_is_not_refused_by_its_own_node_nor_by_what_it_takes() -> None:
    running = taking("p", memory="40Gi", gpu="2")
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in (machine("a", unschedulable=True), machine("b"), running):
        state.upsert(obj)
    told = explain(running, Context(state=state))
    assert {n["name"]: n["fits"] for n in told["nodes"]} == {"a": True, "b": True}
    assert told["summary"].startswith("runs on a; fits on 2 of 2 nodes")


def test_tmpfs_beyond_what_requests_show_is_still_ours_to_refuse() -> None:
    (answer,) = (explained := document_of(tmpfs(size="70Gi", memory="1Gi")))["nodes"]
    assert (answer["refusedBy"], answer["reason"]) == ("extender", "InsufficientMemory")
    assert "spec.resources.requests.memory: 71Gi" in answer["remedy"]
    assert explained["held"] is None


def document_of(asker: Pod) -> dict[str, Any]:
    state = ClusterState(clock=lambda: 1_000.0)
    state.upsert(machine())
    return explain(asker, Context(state=state))


def test_a_pod_that_lacks_plain_memory_and_more_for_its_volumes_is_told_all_that_lacks() -> None:
    told = document_of(
        vllm(memory="70Gi", volume={"emptyDir": {"medium": "Memory", "sizeLimit": "10Gi"}})
    )
    assert "the one node lacks 16.0 GiB of memory" in told["summary"]


def test_new_pods_of_a_labelled_namespace_are_ours_those_that_exist_and_jobs_are_not() -> None:
    label = {"modelcache.dev/scheduling": "enabled"}
    ours = convert({"metadata": {"name": "inference", "labels": label}}, Namespace)
    asker = served()
    del asker["spec"]["schedulerName"]
    made = {**asker["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}
    job = {"kind": "Job", "metadata": made, "spec": {"template": {"spec": asker["spec"]}}}
    told = {
        name: {w["reason"]: w["message"] for w in document(one, machine(), ours)["warnings"]}
        for name, one in (("new", asker), ("made", {**asker, "metadata": made}), ("job", job))
    }
    said = {name: told[name]["NotAsked"] for name in told if "NotAsked" in told[name]}
    assert said.keys() == {"made", "job"}
    assert said["made"].endswith(": its namespace sends new pods here: have it made anew")
    assert said["job"].endswith(": set spec.schedulerName: model-cache-scheduler")


def test_memory_that_others_take_without_requesting_is_told_apart_from_requests() -> None:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in (node("a"), tmpfs("ram", size="20Gi", memory="4Gi", on="a")):
        state.upsert(obj)
    (answer,) = explain(vllm(memory="62Gi", volume={"emptyDir": {}}), Context(state=state))["nodes"]
    assert answer["message"].startswith(
        "Insufficient memory; lacks 22.0 GiB of memory (2.0 GiB by requests alone); it would fit "
        "with resources.requests.memory: 40Gi; see who takes it: kubectl get pods"
    )
