"""What kube-scheduler itself refuses: each rule that is judged, and what is only named."""

from __future__ import annotations

from typing import Any

import pytest

from extender.cluster.requests import pod_requests
from extender.cluster.state import ClusterState
from extender.kube.decode import convert
from extender.kube.objects import Node, Pod
from extender.placement.in_tree import Objections, all_requests
from extender.workload.constraints import ANYWHERE, Constraints, read_constraints
from tests.builders import pod

GPU = "nvidia.com/gpu"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
TAINT = {"key": GPU, "value": "yes", "effect": "NoSchedule"}


def node(labels: dict[str, str] | None = None, **spec: Any) -> Node:
    allocatable = {"cpu": "4", "memory": "64Gi", "pods": "3", GPU: "8"}
    return convert(
        {
            "metadata": {"name": "n", "labels": labels or {}},
            "spec": spec,
            "status": {"allocatable": allocatable},
        },
        Node,
    )


def requesting(**requests: str) -> Any:
    named = {key.replace("gpu", GPU): value for key, value in requests.items()}
    return pod(spec={"containers": [{"name": "c", "resources": {"requests": named}}]})


def judging(one: Node, *pods: Pod, asked: Constraints = ANYWHERE, uid: str = "") -> Objections:
    state = ClusterState(clock=lambda: 0.0)
    for obj in (one, *pods):
        state.upsert(obj)
    return Objections(state.view(), state.pods(), asked, namespace="inference", uid=uid)


def wanted(one: Pod) -> dict[str, int]:
    state = ClusterState(clock=lambda: 0.0)
    reading = state.templates.read(one)
    assert reading.requests is not None
    return all_requests(reading.requests, state.demand(one, reading.workload))


def said(objections: Objections, one: Pod) -> str:
    objection = objections.of(wanted(one), "n")
    return objection.text if objection is not None else ""


def required(*expressions: dict[str, Any]) -> dict[str, Any]:
    return terms(*({"matchExpressions": [one]} for one in expressions))


def terms(*asked: dict[str, Any]) -> dict[str, Any]:
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(asked)}}}}


def made_for(name: str) -> dict[str, Any]:
    """A term as the DaemonSet controller writes it."""
    return {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}


FAR = {"nodeSelector": {"zone": "far"}}
ZONE_A = {"key": "zone", "operator": "In", "values": ["a"]}
ZONE_B = {"key": "zone", "operator": "In", "values": ["b"]}

FIXED: dict[str, tuple[Node, dict[str, Any], str]] = {
    "nothing asked": (node(), {}, ""),
    "cordoned": (node(unschedulable=True), {}, "node is cordoned"),
    "cordoned, tolerated": (
        node(unschedulable=True),
        {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]},
        "",
    ),
    "tainted": (node(taints=[TAINT]), {}, f"untolerated taint {{{GPU}: yes}}"),
    "tainted softly": (node(taints=[{**TAINT, "effect": "PreferNoSchedule"}]), {}, ""),
    "tolerated by value": (
        node(taints=[TAINT]),
        {"tolerations": [{"key": GPU, "value": "yes"}]},
        "",
    ),
    "another value": (
        node(taints=[TAINT]),
        {"tolerations": [{"key": GPU, "value": "no"}]},
        f"untolerated taint {{{GPU}: yes}}",
    ),
    "another effect": (
        node(taints=[TAINT]),
        {"tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoExecute"}]},
        f"untolerated taint {{{GPU}: yes}}",
    ),
    "everything tolerated": (node(taints=[TAINT]), {"tolerations": [{"operator": "Exists"}]}, ""),
    "an operator of another time": (
        node(taints=[TAINT]),
        {"tolerations": [{"key": GPU, "operator": "Gt", "value": "1"}]},
        f"untolerated taint {{{GPU}: yes}}",
    ),
    "selected": (node({"zone": "a"}), {"nodeSelector": {"zone": "a"}}, ""),
    "not selected": (
        node({"zone": "a"}),
        {"nodeSelector": {"zone": "b"}},
        "node selector or affinity does not match",
    ),
    "affine": (node({"zone": "a"}), required(ZONE_B, ZONE_A), ""),
    "not affine": (
        node({"zone": "a"}),
        required(ZONE_B),
        "node selector or affinity does not match",
    ),
    "named": (node(), {"nodeName": "n"}, ""),
    "another named": (node(), {"nodeName": "m"}, "the pod names another node"),
    "made for it": (node(), terms(made_for("n")), ""),
    "made for another": (
        node(taints=[TAINT]),
        terms(made_for("m")) | FAR,
        "the pod is for another node",
    ),
    "made for it, and not selected": (
        node(),
        terms(made_for("n")) | FAR,
        "node selector or affinity does not match",
    ),
    "made for another, or affine": (
        node({"zone": "b"}),
        terms(made_for("m"), {"matchExpressions": [ZONE_B]}),
        "",
    ),
}


@pytest.mark.parametrize(("one", "spec", "expected"), FIXED.values(), ids=FIXED)
def test_a_node_is_refused_for(one: Node, spec: dict[str, Any], expected: str) -> None:
    assert said(judging(one, asked=read_constraints(spec)), pod()) == expected


@pytest.mark.parametrize(
    ("requests", "fit", "expected"),
    [
        ({"cpu": "1500m"}, 2, "Insufficient cpu"),
        ({"memory": "30Gi"}, 2, "Insufficient memory"),
        ({"gpu": "4"}, 2, f"Insufficient {GPU}"),
        ({}, 3, "Too many pods"),
        ({"example.com/fpga": "1"}, 0, "Insufficient example.com/fpga"),
    ],
    ids=["cpu", "memory", "devices", "pods", "a resource that the node has not"],
)
def test_so_many_pods_fit_by_their_requests(
    requests: dict[str, str], fit: int, expected: str
) -> None:
    one, objections = requesting(**requests), judging(node())
    for _ in range(fit):
        assert said(objections, one) == ""
        objections.add(wanted(one), "n")
    assert said(objections, one) == expected


def test_pods_that_are_there_count_and_those_that_ended_do_not() -> None:
    spec = {"nodeName": "n", "containers": [{"resources": {"requests": {"cpu": "3"}}}]}
    there, ended = pod("a", spec=spec), pod("b", spec=spec, status={"phase": "Succeeded"})
    objections = judging(node(), there, ended)
    assert said(objections, requesting(cpu="1")) == ""
    assert said(objections, requesting(cpu="2")) == "Insufficient cpu"
    assert objections.free("n") == {"cpu": 1000, GPU: 8, "pods": 2}


def test_what_the_pod_itself_takes_there_is_its_own() -> None:
    spec = {"nodeName": "n", "containers": [{"resources": {"requests": {"cpu": "3"}}}]}
    there = pod("a", spec=spec)
    assert said(judging(node(), there, uid="uid-a"), there) == ""
    assert said(judging(node(), there), there) == "Insufficient cpu"


def test_everything_that_lacks_is_told_with_how_much() -> None:
    objection = judging(node()).of(wanted(requesting(cpu="5", gpu="10")), "n")
    assert objection is not None
    assert (objection.text, objection.short) == (
        f"Insufficient cpu and Insufficient {GPU}",
        {"cpu": 1000, GPU: 2},
    )


def test_requests_are_the_effective_ones() -> None:
    """Init containers run before the others, sidecars beside them; overhead is on top."""
    spec = {
        "overhead": {"cpu": "100m"},
        "initContainers": [
            {"name": "i", "resources": {"requests": {"cpu": "3", GPU: "1"}}},
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
        ],
        "containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}],
    }
    assert pod_requests(pod(spec=spec)) == {"cpu": 3100, GPU: 1, "pods": 1}


@pytest.mark.timeout(60)
def test_a_resource_of_its_own_in_each_of_many_containers_is_added_up() -> None:
    """What is added up over all containers for each of them takes hours."""
    own = [
        {"name": f"c{n}", "resources": {"limits": {f"vendor.example/r{n}": "1", "cpu": "1"}}}
        for n in range(10_000)
    ]
    before = {"name": "i", "resources": {"requests": {"vendor.example/r7": "3"}}}
    found = pod_requests(pod(spec={"containers": own, "initContainers": [before]}))
    assert found["cpu"] == 10_000_000
    assert (found["vendor.example/r7"], found["vendor.example/r8"]) == (3, 1)


def test_a_resize_counts_for_the_container_that_has_it() -> None:
    given = {"name": "a", "allocatedResources": {"cpu": "4"}}
    found = pod_requests(
        pod(
            spec={
                "containers": [
                    {"name": "a", "resources": {"requests": {"cpu": "1"}}},
                    {"name": "b", "resources": {"requests": {GPU: "1"}}},
                ]
            },
            status={"containerStatuses": [given, {"name": "b"}]},
        )
    )
    assert found == {"cpu": 4000, GPU: 1, "pods": 1}


def test_what_is_not_judged_is_named() -> None:
    spec = {
        "affinity": {"podAffinity": {REQUIRED: [{}]}, "podAntiAffinity": {REQUIRED: [{}]}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "resourceClaims": [{"name": "gpu"}],
        "containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}],
        "volumes": [{"name": "v", "ephemeral": {}}],
        "priorityClassName": "gold",
        "runtimeClassName": "kata",
    }
    assert read_constraints(spec).not_judged() == (
        "affinity.podAffinity",
        "affinity.podAntiAffinity",
        "topologySpreadConstraints",
        "resourceClaims",
        "containers[].ports[].hostPort",
        "volumes[].ephemeral",
        "priorityClassName gold (whether it exists; the pod counts as priority 0)",
        "runtimeClassName kata (whether it exists; the nodes and the overhead that it asks for)",
    )
    assert read_constraints({"containers": [{"ports": [{"containerPort": 1}]}]}).not_judged() == ()


def test_what_is_only_preferred_or_was_resolved_refuses_no_node() -> None:
    """The apiserver fills in what a pod's classes say when it is created."""
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    spec = {
        "affinity": {"podAffinity": {preferred: [{}]}, "podAntiAffinity": {preferred: [{}]}},
        "topologySpreadConstraints": [{"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "gold",
        "priority": 100,
        "runtimeClassName": "kata",
        "overhead": {"memory": "64Mi"},
    }
    assert read_constraints(spec).not_judged() == ()
