"""Claims that other pods have: what kube-scheduler refuses, and what it does not look at."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain, is_well
from extender.kube.objects import KubeObject, Pod, PodStatus
from extender.verbs.context import Context
from extender.workload.constraints import ANYWHERE, Constraints
from tests.builders import claim, node, storage_class, vllm, volume

SHARED = {"persistentVolumeClaim": {"claimName": "model-store"}}
ONCE: dict[str, Any] = {"accessModes": ["ReadWriteOnce"]}
DISK = (claim(**ONCE), volume(csi={"driver": "x"}, **ONCE))
NODES = (node("a"), node("b"), node("c"))
FIRST = vllm("first", volume=SHARED, on="a")
THERE = "claim model-store is attached to a, where pod inference/first has it"


def document(asker: Pod, *objects: KubeObject, asked: Constraints = ANYWHERE) -> dict[str, Any]:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in (*NODES, *objects):
        state.upsert(obj)
    return explain(asker, Context(state=state), asked)


def test_where_a_disk_is_attached_is_told_of_the_nodes_that_cannot_have_it() -> None:
    told = document(vllm(volume=SHARED), *DISK, FIRST)
    assert told["summary"].startswith(
        "fits on 3 of 3 nodes, and would not start on 2 of them (see the warning), soonest on a "
    )
    messages = {one["name"]: one["message"] for one in told["nodes"]}
    assert messages == {"a": None} | dict.fromkeys("bc", f"it would not start there: {THERE}")
    warned = {one["reason"]: one["message"] for one in told["warnings"]}
    assert warned["ClaimElsewhere"].startswith(f"{THERE}: 2 of 3 nodes cannot attach it before")


def test_a_bound_pod_that_cannot_have_its_disk_is_stuck() -> None:
    """Its kubelet says so in events alone: its containers are being created for ever."""
    second = vllm("second", volume=SHARED, on="b")
    second = msgspec.structs.replace(second, status=PodStatus(phase="Pending"))
    told = document(second, *DISK, FIRST, second)
    assert told["summary"].startswith(
        f"is bound to b and cannot start there: {THERE}; see kubectl describe pod -n inference "
    )
    assert not is_well(told)


def test_a_pod_that_names_a_node_that_cannot_have_its_disk_is_told() -> None:
    told = document(vllm(volume=SHARED), *DISK, FIRST, asked=Constraints(node_name="b"))
    assert f"its kubelet takes it, and cannot start it: {THERE}; " in told["summary"]
    assert not is_well(told)
    told = document(vllm(volume=SHARED), *DISK, FIRST, asked=Constraints(node_name="a"))
    assert "it fits there" in told["summary"]
    assert is_well(told)


def test_a_claim_for_one_pod_names_the_pod_that_has_it() -> None:
    alone = claim(accessModes=["ReadWriteOncePod"])
    told = document(vllm(volume=SHARED), alone, volume(), FIRST)
    assert told["summary"].startswith(
        "waits: 3 of 3: claim model-store (ReadWriteOncePod) is in use by another pod; waits for "
        "the pod that has its claim to leave; "
    )
    refused = told["nodes"][1]
    assert (refused["refusedBy"], refused["reason"]) == ("kube-scheduler", "ClaimInUse")
    assert refused["message"].startswith(
        "claim model-store (ReadWriteOncePod) is in use by another pod: pod inference/first on a; "
        "it is free once that pod has gone"
    )


LATE: dict[str, Any] = {"volumeName": "", "storageClassName": "late", "phase": "Pending"}
SOURCE = {"kind": "VolumeSnapshot", "name": "models"}


@pytest.mark.parametrize(
    ("objects", "empty"),
    [
        pytest.param([claim(**LATE)], True, id="made for the pod"),
        pytest.param([claim(**LATE | {"storageClassName": "other"})], False, id="of no class"),
        pytest.param([claim(**LATE, dataSource=SOURCE)], False, id="of a snapshot"),
        pytest.param([claim(**LATE, dataSourceRef=SOURCE)], False, id="of a populator"),
        pytest.param([claim(**LATE), volume("v", storageClassName="late")], False, id="one there"),
        pytest.param(
            [claim(**LATE), volume("v", storageClassName="late", claimRef={"name": "else"})], True,
            id="one of others",
        ),
        pytest.param([claim(), volume()], False, id="bound"),
    ],
)  # fmt: skip
def test_a_claim_whose_volume_is_only_made_for_the_pod_holds_no_model(
    objects: list[KubeObject], *, empty: bool
) -> None:
    """Nobody refuses the pod, which does not find its model there."""
    told = document(vllm(volume=SHARED), storage_class("late", provisioner="csi.x"), *objects)
    warned = {one["reason"]: one["message"] for one in told["warnings"]}
    assert ("ClaimEmpty" in warned) is empty
    if empty:
        assert warned["ClaimEmpty"].startswith(
            "claim model-store has no volume yet: storage class late makes an empty one"
        )


def test_a_pod_that_can_fill_its_claim_itself_is_not_told_that_it_is_empty() -> None:
    unsaid = msgspec.structs.replace(
        vllm(volume=SHARED).metadata, annotations={"modelcache.dev/need": "preferred"}
    )
    asks = msgspec.structs.replace(vllm(volume=SHARED), metadata=unsaid)
    told = document(asks, storage_class("late", provisioner="csi.x"), claim(**LATE))
    assert "ClaimEmpty" not in {one["reason"] for one in told["warnings"]}
