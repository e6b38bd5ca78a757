"""What a pod's own scheduler has done about it: nothing, in vain, or chosen a node."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain, is_well
from extender.kube.decode import convert
from extender.kube.objects import KubeObject, Pod, PodSpec
from extender.kube.times import time_text
from extender.verbs.context import Context
from extender.workload.manifest import parts_of
from tests.builders import claim, node, pod, requesting, storage_class

NOW = 1_000_000.0
OURS = "model-cache-scheduler"
OF_OURS = (
    "see that it runs: kubectl get pods --all-namespaces -l "
    "app.kubernetes.io/part-of=model-cache-extender; and what is wrong with it: "
    "model-cache-extender doctor"
)
OF_THE_CLUSTER = "see that it runs: kubectl get pods -n kube-system -l component=kube-scheduler"


def asker(
    scheduler: str = OURS, *, age: float = 300, said: dict[str, str] | None = None, **status: Any
) -> Pod:
    """A pod without a node, created so many seconds ago; ``said`` is its PodScheduled."""
    conditions = [{"type": "PodScheduled", "status": "False", **said}] if said is not None else []
    return pod(
        "waits",
        metadata={"creationTimestamp": time_text(NOW - age)},
        spec={"schedulerName": scheduler, "containers": [{"name": "main", "image": "busybox"}]},
        status={"phase": "Pending", "conditions": conditions, **status},
    )


def told(asks: Pod, *others: KubeObject, known: bool = True) -> dict[str, Any]:
    """Explain a pod in a cluster of two nodes; the cluster has it if it is ``known``."""
    state = ClusterState(clock=lambda: NOW)
    for obj in (node("a"), node("b"), *others, *([asks] if known else [])):
        state.upsert(obj)
    return explain(asks, Context(state=state))


@pytest.mark.parametrize(
    ("scheduler", "look"),
    [(OURS, OF_OURS), ("default-scheduler", OF_THE_CLUSTER), ("", OF_THE_CLUSTER)],
)
def test_a_pod_that_no_scheduler_has_looked_at_for_a_minute_is_held_back(
    scheduler: str, look: str
) -> None:
    """kube-scheduler writes the condition PodScheduled whatever comes of a try."""
    document = told(asker(scheduler))
    assert document["held"]["reason"] == "SchedulerSilent"
    name = scheduler or "default-scheduler"
    assert document["summary"].startswith(
        f"waits: no scheduler has looked at it in 5 min, {name} does not run or is stuck; {look}; "
        "without that: fits on 2 of 2 nodes"
    )
    assert not is_well(document)


GANG = {"schedulingGroup": {"podGroupName": "g"}}
CLAIMED = {"resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}]}


@pytest.mark.parametrize(
    ("spec", "until", "look"),
    [
        (
            GANG, "the gang of spec.schedulingGroup is complete",
            "kubectl get podgroups.scheduling.k8s.io,pods -n inference",
        ),
        (
            CLAIMED, "the claims of spec.resourceClaims are there",
            "kubectl get resourceclaims -n inference",
        ),
        (
            GANG | CLAIMED, "the gang of spec.schedulingGroup is complete and the claims of "
            "spec.resourceClaims are there",
            "kubectl get podgroups.scheduling.k8s.io,pods -n inference and kubectl get "
            "resourceclaims -n inference",
        ),
    ],
    ids=["a gang", "resource claims", "both"],
)  # fmt: skip
def test_one_that_kube_scheduler_keeps_out_of_its_queue_is_told_until_when(
    spec: dict[str, Any], until: str, look: str
) -> None:
    """That it writes no condition for."""
    asks = {"kind": "Pod", **msgspec.to_builtins(asker())}
    asks["spec"] = {"schedulerName": OURS, "containers": [{"name": "main"}], **spec}
    (part,) = parts_of(asks)
    state = ClusterState(clock=lambda: NOW)
    for obj in (node("a"), part.pod):
        state.upsert(obj)
    held = explain(part.pod, Context(state=state), part.asked)["held"]
    assert held == {
        "reason": "SchedulerSilent",
        "message": f"waits: no scheduler has looked at it in 5 min; {OURS} does so once {until}, "
        "or does not run",
        "remedy": f"see {look}; {OF_OURS}",
    }


def test_one_that_is_run_by_others_and_looks_at_nothing_is_told_as_well() -> None:
    placed = pod("q", spec={"nodeName": "a", "schedulerName": "volcano"})
    document = told(asker("volcano"), placed)
    assert document["held"]["reason"] == "SchedulerSilent"
    assert document["held"]["remedy"] == "see that whoever runs volcano is there"


@pytest.mark.parametrize(
    "asks",
    [
        pytest.param(asker(age=30), id="a new one"),
        pytest.param(asker(said={"reason": "Unschedulable", "message": "0/2"}), id="looked at"),
        pytest.param(asker("volcano", said={"reason": "Unschedulable"}), id="by one of their own"),
    ],
)
def test_a_pod_that_was_looked_at_or_has_just_come_is_not(asks: Pod) -> None:
    document = told(asks)
    assert document["held"] is None
    assert is_well(document)


def of_a_claim(where: str = "", **pvc: Any) -> list[KubeObject]:
    """A claim whose volume is made once a node is chosen, ``where`` it was."""
    unbound = {"phase": "Pending", "volumeName": "", "storageClassName": "late", **pvc}
    return [claim(selected_node=where, **unbound), storage_class(provisioner="csi.example")]


def with_claim(asks: Pod) -> Pod:
    named = {"name": "models", "persistentVolumeClaim": {"claimName": "model-store"}}
    mounted = convert({"volumes": [named]}, PodSpec).volumes
    spec = msgspec.structs.replace(asks.spec, volumes=mounted)
    return msgspec.structs.replace(asks, spec=spec)


def test_a_pod_that_kube_scheduler_has_chosen_a_node_for_is_not_one_that_nobody_looks_at() -> None:
    """It writes no condition while it waits for a volume, or a plugin's permission."""
    document = told(asker(nominatedNodeName="b"))
    assert document["held"] is None
    assert is_well(document)
    assert document["summary"].startswith(
        "fits on 2 of 2 nodes; it is meant for b (status.nominatedNodeName); asks for"
    )


def test_the_claim_that_it_waits_for_is_told_and_how_to_see_what_keeps_it() -> None:
    document = told(with_claim(asker()), *of_a_claim("b"))
    assert document["held"] is None
    assert is_well(document)
    assert (
        "; the volume of claim model-store is being made for node b; see "
        "why: kubectl describe persistentvolumeclaim -n inference model-store; asks for"
    ) in document["summary"]


def test_a_claim_that_nothing_was_chosen_for_excuses_no_scheduler() -> None:
    assert told(with_claim(asker()), *of_a_claim())["held"]["reason"] == "SchedulerSilent"
    made = of_a_claim("b", phase="Bound", volumeName="v")
    assert told(with_claim(asker()), *made)["held"]["reason"] == "SchedulerSilent"


@pytest.mark.parametrize(("age", "silent"), [(950, False), (970, True)])
def test_a_choice_of_which_nothing_comes_for_longer_than_it_is_waited_for_is_told(
    age: float, *, silent: bool
) -> None:
    """By then kube-scheduler has given up, and says so, unless it does not run."""
    document = told(asker(age=age, nominatedNodeName="b"))
    assert (document["held"] is not None) is silent
    if silent:
        assert document["summary"].startswith(
            "waits: it is meant for b (status.nominatedNodeName), and it has no node yet 16 min "
            f"after it was created: {OURS} may be stuck; {OF_OURS}; without that: fits on 2 of 2 "
            "nodes; asks for"
        )


def test_of_a_volume_that_is_long_in_the_making_it_is_told_first() -> None:
    """How long is not known: one of a gang may have waited for the others before."""
    document = told(with_claim(asker(age=1800)), *of_a_claim("b"))
    assert document["summary"].startswith(
        "waits: the volume of claim model-store is being made for node b, and it has no node yet "
        f"30 min after it was created: that, or {OURS} may be stuck; see why: kubectl describe "
        f"persistentvolumeclaim -n inference model-store; {OF_OURS}; without that: "
    )
    assert document["summary"].count("model-store is being made") == 1
    assert not is_well(document)


def test_that_the_node_is_gone_is_told_of_one_that_is_long_overdue() -> None:
    summary = told(asker(age=1800, nominatedNodeName="z"))["summary"]
    assert "(status.nominatedNodeName), which is not in the cluster, and it has no" in summary


def test_a_manifest_is_not_even_where_it_says_when_it_was_made() -> None:
    """Somebody kept it without its status: nobody says what has looked at it."""
    assert told(asker(), known=False)["held"] is None


def test_a_scheduler_that_fails_is_no_answer_of_a_node() -> None:
    """Its words come first: whatever fits, nobody is placed before that is mended."""
    says = 'Post "http://127.0.0.1:8888/filter": dial tcp 127.0.0.1:8888: connection refused'
    document = told(asker(said={"reason": "SchedulerError", "message": says}))
    assert document["held"]["reason"] == "SchedulerError"
    assert document["summary"].startswith(
        f"waits: {OURS} failed at it when it last tried: {says}; it is tried again by itself; "
        f"{OF_OURS}; without that: fits on 2 of 2 nodes"
    )
    assert not is_well(document)


def leaving(name: str, on: str) -> Pod:
    return pod(
        name,
        metadata={"deletionTimestamp": time_text(NOW)},
        spec={"nodeName": on, "containers": [{"name": "main"}]},
    )


def meant_for(where: str, *others: KubeObject) -> str:
    said = {"reason": "Unschedulable", "message": "0/2 nodes are available"}
    summary: str = told(asker(said=said, nominatedNodeName=where), *others)["summary"]
    return summary


def test_the_node_that_room_is_made_on_is_told_with_who_leaves_it() -> None:
    five = [leaving(f"old-{number}", "b") for number in range(5)]
    said = "; it is meant for b (status.nominatedNodeName)"
    assert f"{said}; asks for" in meant_for("b")
    assert f"{said}; asks for" in meant_for("b", leaving("old", "a"), requesting("stays", "1Gi"))
    assert f"{said}, where inference/old is being deleted; asks for" in meant_for(
        "b", leaving("old", "b")
    )
    assert (
        f"{said}, where inference/old-0, inference/old-1, inference/old-2 and 2 more are being "
        "deleted; asks for"
    ) in meant_for("b", *five)


def test_a_node_that_it_is_meant_for_and_that_is_gone_is_told() -> None:
    assert (
        "meant for z (status.nominatedNodeName), which is not in the cluster; asks for"
    ) in meant_for("z")


def test_a_pod_that_has_a_node_is_meant_for_none() -> None:
    placed = pod("waits", spec={"nodeName": "a"}, status={"nominatedNodeName": "b"})
    assert "meant for" not in told(placed)["summary"]
