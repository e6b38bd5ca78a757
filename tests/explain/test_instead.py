"""A DaemonSet that runs already: its next pods come in place of those that it has."""

from __future__ import annotations

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.verbs.context import Context
from extender.workload.manifest import parts_of
from tests.builders import node, owned, tmpfs

NEW = {
    "kind": "DaemonSet",
    "metadata": {"name": "agent", "namespace": "inference"},
    "spec": {
        "template": {
            "spec": {
                "containers": [{"name": "c", "resources": {"requests": {"memory": "50Gi"}}}],
            }
        }
    },
}


def test_what_it_takes_now_is_not_in_the_way_of_its_next_pods() -> None:
    """Neither by requests nor by what volumes add; what another one of a like name takes stays."""
    state = ClusterState(clock=lambda: 1_000.0)
    there = [owned(tmpfs(f"agent-{on}", size="40Gi", on=on), "DaemonSet", "agent") for on in "ab"]
    other = owned(tmpfs("agent-x-b", size="19Gi", on="b"), "DaemonSet", "agent-x")
    for obj in (node("a"), node("b"), *there, other):
        state.upsert(obj)
    (part,) = parts_of(NEW)
    told = explain(part.pod, Context(state=state), part.asked)
    answers = {n["name"]: (n["reason"], n["memoryFreeBytes"] // 2**30) for n in told["nodes"]}
    assert answers == {"a": (None, 64), "b": ("InsufficientMemory", 44)}
    assert state.view().nodes["a"].free == 23 * 2**30


def test_another_controllers_pods_stay_until_new_ones_are_ready() -> None:
    """A Deployment may run old and new side by side."""
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in (node("a"), owned(tmpfs(size="40Gi", on="a"), "ReplicaSet", "agent")):
        state.upsert(obj)
    (part,) = parts_of({**NEW, "kind": "Deployment"})
    (answer,) = explain(part.pod, Context(state=state), part.asked)["nodes"]
    assert answer["reason"] == "InsufficientMemory"
