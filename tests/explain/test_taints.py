"""Taints: what would take each away; a toleration only where somebody meant it to be met."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.decode import convert
from extender.kube.objects import Node
from extender.verbs.context import Context
from tests.builders import pod


def tainted(*keys: str, **spec: Any) -> Node:
    taints = [{"key": key, "effect": "NoSchedule"} for key in keys]
    status = {"allocatable": {"cpu": "4", "memory": "64Gi", "pods": "110"}}
    return convert(
        {"metadata": {"name": "n"}, "spec": {"taints": taints, **spec}, "status": status}, Node
    )


def told(one: Node) -> dict[str, Any]:
    state = ClusterState(clock=lambda: 0.0)
    state.upsert(one)
    return explain(pod(), Context(state=state))


PASSING = {
    "node.kubernetes.io/not-ready": ("kubectl describe node n", "the node to be Ready again"),
    "node.kubernetes.io/unreachable": ("kubectl describe node n", "the node to be Ready again"),
    "node.kubernetes.io/memory-pressure": ("short of", "the pressure on the node to end"),
    "node.kubernetes.io/disk-pressure": ("short of", "the pressure on the node to end"),
    "node.kubernetes.io/pid-pressure": ("short of", "the pressure on the node to end"),
    "node.kubernetes.io/network-unavailable": ("network plugin", "the node's network"),
    "node.kubernetes.io/out-of-service": (
        "kubectl taint node n node.kubernetes.io/out-of-service-", "taken into service again",
    ),
    "node.cloudprovider.kubernetes.io/uninitialized": ("cloud provider", "the cloud provider to"),
    "ToBeDeletedByClusterAutoscaler": ("cluster-autoscaler is removing n", "not about to go"),
    "DeletionCandidateOfClusterAutoscaler": (
        "cluster-autoscaler is removing n", "not about to go",
    ),
    "karpenter.sh/disrupted": ("Karpenter is replacing n", "a node that is not about to go"),
    "karpenter.sh/unregistered": ("has not joined yet", "the node to join"),
    "ebs.csi.aws.com/agent-not-ready": ("an agent on n", "the node's agents to be ready"),
    "startup-taint.cluster-autoscaler.kubernetes.io/gpu": ("an agent on n", "the node's agents"),
}  # fmt: skip


@pytest.mark.parametrize("key", PASSING)
def test_a_taint_that_passes_is_never_to_be_tolerated(key: str) -> None:
    said, waits_for = PASSING[key]
    document = told(tainted(key))
    (answer,) = document["nodes"]
    assert said in answer["remedy"]
    assert "spec.tolerations" not in answer["remedy"]
    assert waits_for in document["summary"].partition("waits for ")[2]


def test_all_that_somebody_meant_are_tolerated_together() -> None:
    (answer,) = told(tainted("nvidia.com/gpu", "dedicated"))["nodes"]
    assert answer["remedy"] == (
        "if it may run there: spec.tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: "
        "NoSchedule}, {key: dedicated, operator: Exists, effect: NoSchedule}]"
    )


def test_of_a_node_that_is_cordoned_and_tainted_both_are_told() -> None:
    (answer,) = told(tainted("dedicated", unschedulable=True))["nodes"]
    assert answer["message"].startswith("node is cordoned and untolerated taint {dedicated: }; ")
    assert "kubectl uncordon n; if it may run there: spec.tolerations: [" in answer["remedy"]


def test_the_taint_of_a_cordon_is_no_taint_of_its_own() -> None:
    """kubectl cordon sets the field, the node controller the taint."""
    both = tainted("node.kubernetes.io/unschedulable", unschedulable=True)
    (answer,) = told(both)["nodes"]
    assert (answer["reason"], answer["remedy"]) == ("NodeCordoned", "kubectl uncordon n")


def test_a_key_with_two_effects_is_said_once() -> None:
    """The node controller sets what makes a node not ready with NoSchedule and NoExecute."""
    key = "node.kubernetes.io/not-ready"
    effects = [{"key": key, "effect": effect} for effect in ("NoSchedule", "NoExecute")]
    (answer,) = told(tainted(taints=effects))["nodes"]
    assert answer["message"].startswith(f"untolerated taint {{{key}: }}; the kubelet of n ")


@pytest.mark.parametrize("key", ["123", "on", "NO", "dedicated", "example.org/gpu.kind"])
def test_a_toleration_is_read_as_the_key_that_the_taint_has(key: str) -> None:
    """YAML has numbers and truth values where the API wants a text."""
    (answer,) = told(tainted(key))["nodes"]
    _, _, fragment = answer["remedy"].partition("spec.tolerations: ")
    assert yaml.safe_load(fragment) == [{"key": key, "operator": "Exists", "effect": "NoSchedule"}]
