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
from extender.workload.manifest import Part, parts_of
from tests.builders import (
    HOST_MODEL,
    LOADING,
    READY,
    claim,
    loader,
    loader_pod,
    node,
    owned,
    tmpfs,
    vllm,
    volume,
)


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
        "a": ("kube-scheduler", "InsufficientMemory"),  # by requests alone
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
    return simulated([Replica(one) for one in parts], objects)


def simulated(replicas: Sequence[Replica], objects: Sequence[KubeObject]) -> Outcome:
    configuration = ExtenderConfiguration()
    state = new_state(configuration)
    kept = Kept(state)
    for obj in objects:
        kept.upsert(obj)
    return simulate(replicas, new_context(state, configuration), kept)


def test_a_daemonset_that_runs_already_is_not_counted_twice() -> None:
    """Its pod takes 40 of the node's 64 GiB now, and will again."""
    there = owned(vllm(memory="40Gi", volume={"emptyDir": {}}, on="a"), "DaemonSet", "agent")
    new = msgspec.structs.replace(there, spec=msgspec.structs.replace(there.spec, node_name=""))
    part = Part(name="", pod=new, asked=ANYWHERE)
    outcome = simulated([Replica(part, "a")], [node("a"), there])
    assert (outcome.placed, outcome.waiting) == (1, 0)


def test_a_refusal_has_its_reason_and_its_remedy() -> None:
    cordoned = msgspec.structs.replace(node("b"), spec=_cordoned(node("b")))
    waits = place(vllm(), 1, [node("a"), cordoned, loader(), loader_pod("b", READY)]).waits
    assert waits is not None
    told = {one.name: (one.reason, one.remedy or "") for one in waits.nodes}
    assert told["b"] == ("NodeCordoned", "kubectl uncordon b")
    reason, remedy = told["a"]
    assert reason == "ModelAbsent"
    assert "kubectl annotate node a modelcache.dev/provides=" in remedy


def test_each_pod_of_a_statefulset_goes_where_its_own_claim_is() -> None:
    manifest = {
        "kind": "StatefulSet",
        "metadata": {"name": "llm", "namespace": "inference"},
        "spec": {
            "template": {"spec": {"containers": [{"name": "c"}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
        },
    }
    zone = "topology.kubernetes.io/zone"
    objects = [
        node("a", labels={zone: "a"}), node("b", labels={zone: "b"}),
        claim("data-llm-0", volumeName="v0"), volume("v0", zone="b"),
        claim("data-llm-1", volumeName="v1"), volume("v1", zone="a"),
    ]  # fmt: skip
    (part,) = parts_of(manifest)
    outcome = order([part, part], objects)
    assert [one.node for one in outcome.placements] == ["b", "a"]


def test_a_claim_for_one_pod_is_taken_by_the_first_replica() -> None:
    shared = {"persistentVolumeClaim": {"claimName": "model-store"}}
    manifest = {
        "kind": "Deployment",
        "metadata": {"name": "llm", "namespace": "inference"},
        "spec": {
            "template": {
                "spec": {"containers": [{"name": "c"}], "volumes": [{"name": "v", **shared}]}
            }
        },
    }
    (part,) = parts_of(manifest)
    alone = claim(accessModes=["ReadWriteOncePod"])
    outcome = order([part, part], [node("a"), node("b"), alone, volume()])
    assert (outcome.placed, outcome.waiting) == (1, 1)
    assert outcome.waits is not None
    assert {one.reason for one in outcome.waits.nodes} == {"ClaimInUse"}


def test_of_a_daemonset_every_pod_that_waits_is_told() -> None:
    """One lacks memory, one the model; the third has both."""
    objects = [
        *(node(name) for name in "abc"), tmpfs(size="60Gi", on="a"), loader(),
        *(loader_pod(name, READY) for name in "ab"),
    ]  # fmt: skip
    part = Part(name="", pod=owned(vllm(), "DaemonSet", "llm"), asked=ANYWHERE)
    outcome = simulated([Replica(part, name) for name in "abc"], objects)
    assert [one.node for one in outcome.placements] == ["b"]
    assert outcome.waits is not None
    assert outcome.waits.summary == (
        "the pods of 2 nodes wait: 1 not enough memory once memory-backed volumes are counted (no "
        "autoscaler does), 1 node cache does not hold the model"
    )
    assert {one.name: one.reason for one in outcome.waits.nodes} == {
        "a": "InsufficientMemory", "c": "ModelAbsent",
    }  # fmt: skip
    assert outcome.others_wait == ()


def test_of_several_parts_each_that_waits_is_told() -> None:
    leader = Part(name="leader", pod=tmpfs("l", size="70Gi"), asked=ANYWHERE)
    worker = Part(name="worker", pod=tmpfs("w", size="80Gi"), asked=ANYWHERE)
    outcome = order([leader, worker, worker], [node("a")])
    assert outcome.waits is not None
    told = [(one.part, one.replica) for one in (outcome.waits, *outcome.others_wait)]
    assert told == [("leader", 1), ("worker", 2)]
