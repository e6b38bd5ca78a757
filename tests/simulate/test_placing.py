"""Replicas one after another, by the verbs: what each takes, and where it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from extender.cli.source import new_context, new_state
from extender.cluster.kept import Kept
from extender.config import ExtenderConfiguration
from extender.kube.objects import KubeObject, Node, Pod
from extender.simulate.counting import Replica
from extender.simulate.placing import Outcome, simulate
from extender.workload.constraints import ANYWHERE, Constraints
from extender.workload.manifest import Part
from tests.builders import HOST_MODEL, LOADING, READY, loader, loader_pod, node, tmpfs, vllm


def place(
    pod: Pod,
    replicas: int,
    objects: Sequence[KubeObject],
    constraints: Constraints = ANYWHERE,
) -> Outcome:
    return order([Part(name="", pod=pod, asked=constraints)] * replicas, objects)


def where(outcome: Outcome) -> Counter[str]:
    return Counter(one.node for one in outcome.placements)


def test_memory_that_one_takes_is_not_there_for_the_next() -> None:
    """Each takes 21 GiB of 64 by its memory-backed volume, which requests do not show."""
    outcome = place(tmpfs(), 7, [node("a"), node("b")])
    assert where(outcome) == {"a": 3, "b": 3}
    assert (outcome.placed, outcome.waiting) == (6, 1)
    left = [one.memory_free_bytes // 2**30 for one in outcome.placements if one.node == "a"]
    assert left == [43, 22, 1]
    assert outcome.waits is not None
    assert outcome.waits.replica == 7
    assert {one.reason for one in outcome.waits.nodes} == {"InsufficientMemory"}
    assert "replica 7 waits: 0/2 nodes: 2 not enough memory" in outcome.waits.summary


def test_a_model_that_is_required_leaves_only_the_nodes_that_hold_it() -> None:
    objects = [
        *(node(name) for name in "abc"), loader(), loader_pod("a", READY), loader_pod("b", LOADING)
    ]  # fmt: skip
    outcome = place(vllm(memory="30Gi"), 3, objects)
    assert where(outcome) == {"a": 2}
    assert outcome.waits is not None
    refused = {one.name: (one.by, one.reason) for one in outcome.waits.nodes}
    assert refused == {
        "a": ("kube-scheduler", None),  # by requests alone
        "b": ("extender", "ModelLoading"),
        "c": ("extender", "ModelAbsent"),
    }


def test_what_a_replica_reads_is_warm_for_the_next_one() -> None:
    objects = [node("a"), loader(), loader_pod("a", READY)]
    first, second = place(vllm(), 2, objects).placements
    assert first.models == (HOST_MODEL,)
    assert first.estimated_start_seconds is not None
    assert second.estimated_start_seconds is not None
    assert second.estimated_start_seconds < first.estimated_start_seconds


def test_one_node_alone_is_not_scored() -> None:
    alone = place(tmpfs(), 1, [node("a")]).placements[0]
    both = place(tmpfs(), 1, [node("a"), node("b")]).placements[0]
    assert (alone.score, alone.passed) == (None, 1)
    assert (both.score, both.passed) == (10, 2)


def test_what_kube_scheduler_refuses_is_told_apart_from_what_we_do() -> None:
    cordoned = msgspec.structs.replace(node("b"), spec=_cordoned(node("b")))
    outcome = place(tmpfs(size="70Gi"), 1, [node("a"), cordoned])
    assert outcome.waits is not None
    refused = {one.name: (one.by, one.message[:16]) for one in outcome.waits.nodes}
    assert refused == {
        "a": ("extender", "not enough memor"),
        "b": ("kube-scheduler", "node is cordoned"),
    }


def _cordoned(found: Node) -> object:
    return msgspec.structs.replace(found.spec, unschedulable=True)


def test_a_cluster_without_nodes_takes_nobody() -> None:
    outcome = place(tmpfs(), 2, [])
    assert (outcome.placed, outcome.waiting) == (0, 2)
    assert outcome.waits is not None
    assert "there are no nodes" in outcome.waits.summary


def test_the_same_cluster_gives_the_same_answer() -> None:
    objects = [node(name) for name in "abcd"]
    assert place(tmpfs(), 5, objects).placements == place(tmpfs(), 5, objects).placements


def test_parts_are_placed_in_their_order_and_one_that_waits_keeps_no_other_back() -> None:
    """Each node has room for one large pod beside small ones."""
    leader = Part(name="leader", pod=vllm(memory="40Gi", volume={"emptyDir": {}}), asked=ANYWHERE)
    worker = Part(name="worker", pod=vllm(memory="8Gi", volume={"emptyDir": {}}), asked=ANYWHERE)
    outcome = order([leader, worker, leader, worker, leader, worker], [node("a"), node("b")])
    placed = [(one.replica, one.part) for one in outcome.placements]
    assert placed == [(1, "leader"), (2, "worker"), (3, "leader"), (4, "worker"), (6, "worker")]
    assert outcome.waits is not None
    assert (outcome.waits.replica, outcome.waits.part, outcome.waiting) == (5, "leader", 1)


def order(parts: Sequence[Part], objects: Sequence[KubeObject]) -> Outcome:
    configuration = ExtenderConfiguration()
    state = new_state(configuration)
    kept = Kept(state)
    for obj in objects:
        kept.upsert(obj)
    return simulate([Replica(one) for one in parts], new_context(state, configuration), kept)
