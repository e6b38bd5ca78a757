"""The explain document: what it says of pods that are placed already."""

from __future__ import annotations

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.verbs.context import Context
from tests.builders import node, tmpfs


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
