"""What kube-scheduler itself refuses: each rule that is judged, and what is only named."""

from __future__ import annotations

from typing import Any

import pytest

from extender.kube.decode import convert
from extender.kube.objects import Node
from extender.simulate.constraints import Refusals, pod_requests, read_constraints
from tests.builders import pod

GPU = "nvidia.com/gpu"
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


def required(*expressions: dict[str, Any]) -> dict[str, Any]:
    terms = [{"matchExpressions": [one]} for one in expressions]
    selector = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    return {"affinity": {"nodeAffinity": selector}}


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
}


@pytest.mark.parametrize(("one", "spec", "said"), FIXED.values(), ids=FIXED)
def test_a_node_is_refused_for(one: Node, spec: dict[str, Any], said: str) -> None:
    assert Refusals([one], [], read_constraints(spec)).of({}, "n") == said


@pytest.mark.parametrize(
    ("requests", "fit", "said"),
    [
        ({"cpu": "1500m"}, 2, "Insufficient cpu"),
        ({"memory": "30Gi"}, 2, "Insufficient memory"),
        ({"gpu": "4"}, 2, f"Insufficient {GPU}"),
        ({}, 3, "Too many pods"),
        ({"example.com/fpga": "1"}, 0, "Insufficient example.com/fpga"),
    ],
    ids=["cpu", "memory", "devices", "pods", "a resource that the node has not"],
)
def test_so_many_pods_fit_by_their_requests(requests: dict[str, str], fit: int, said: str) -> None:
    one = requesting(**requests)
    refusals = Refusals([node()], [], read_constraints({}))
    wanted = pod_requests(one)
    for _ in range(fit):
        assert refusals.of(wanted, "n") == ""
        refusals.add(one, "n")
    assert refusals.of(wanted, "n") == said


def test_pods_that_are_there_count_and_those_that_ended_do_not() -> None:
    spec = {"nodeName": "n", "containers": [{"resources": {"requests": {"cpu": "3"}}}]}
    there, ended = pod("a", spec=spec), pod("b", spec=spec, status={"phase": "Succeeded"})
    wanted = pod_requests(requesting(cpu="1"))
    refusals = Refusals([node()], [there, ended], read_constraints({}))
    assert refusals.of(wanted, "n") == ""
    assert refusals.free("n") == {"cpu": 1000, GPU: 8, "pods": 2}


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


def test_what_is_not_judged_is_named() -> None:
    spec = {
        "affinity": {"podAffinity": {"x": []}, "podAntiAffinity": {"x": []}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "resourceClaims": [{"name": "gpu"}],
        "containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}],
    }
    assert read_constraints(spec).not_judged() == (
        "affinity.podAffinity",
        "affinity.podAntiAffinity",
        "topologySpreadConstraints",
        "resourceClaims",
        "containers[].ports[].hostPort",
    )
    assert read_constraints({"containers": [{"ports": [{"containerPort": 1}]}]}).not_judged() == ()
