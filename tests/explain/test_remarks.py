"""Which events a waiting pod gets: what its author has to mend, with the remedy in it."""

from __future__ import annotations

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.explain.remarks import volume_remarks, waiting_remarks
from extender.kube.objects import Condition, Pod
from extender.placement.reasons import Reason
from extender.verbs.context import Context
from tests.builders import CRASHING, LOADING, READY, loader, loader_pod, node, pod, tmpfs, vllm


@pytest.fixture
def context() -> Context:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in (node("a", memory="64Gi"), node("b", memory="64Gi"), loader()):
        state.upsert(obj)
    return Context(state=state)


def said(context: Context, waits: Pod) -> dict[str, str]:
    judge = context.judge(waits)
    reasons = [judge.reason(name) for name in judge.view.nodes]
    return dict(waiting_remarks(judge, [reason for reason in reasons if reason is not None]))


def test_a_shortage_that_no_autoscaler_sees_names_the_request(context: Context) -> None:
    for name in "ab":
        context.state.upsert(tmpfs(f"taker-{name}", size="60Gi", on=name))
    remarks = said(context, tmpfs("ram", size="20Gi", memory="8Gi"))
    assert set(remarks) == {"NoNewNode"}
    assert "spec.resources.requests.memory: 28Gi" in remarks["NoNewNode"]


def test_a_model_that_no_loader_carries_is_named_with_who_owns_its_directory(
    context: Context,
) -> None:
    remarks = said(context, vllm("gemma", model="/models/gemma"))
    assert set(remarks) == {"ModelNotCarried", "NoNewNode"}
    assert "/var/lib/models/gemma" in remarks["ModelNotCarried"]
    assert "inference/model-loader" in remarks["ModelNotCarried"]


def test_a_loader_that_failed_is_named_with_its_reason(context: Context) -> None:
    for name in "ab":
        context.state.upsert(loader_pod(name, CRASHING))
    remarks = said(context, vllm())
    assert set(remarks) == {"LoaderFailed", "NoNewNode"}
    message = remarks["LoaderFailed"]
    assert "loader pod inference/model-loader-a on node a (and 1 more)" in message
    assert "OOMKilled" in message
    assert "kubectl logs -n inference model-loader-a" in message


def test_of_a_model_that_is_still_loading_there_is_nothing_to_say(context: Context) -> None:
    for name in "ab":
        context.state.upsert(loader_pod(name, LOADING))
    assert said(context, vllm()) == {}


def test_where_one_node_still_loads_nobody_says_that_the_model_is_not_carried(
    context: Context,
) -> None:
    context.state.upsert(loader_pod("a", LOADING))
    assert "ModelNotCarried" not in said(context, vllm())


def test_a_volume_that_has_the_pod_killed_is_told_also_where_nothing_is_refused(
    context: Context,
) -> None:
    ram = {"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "20Gi"}}
    main = {
        "name": "main",
        "image": "busybox:1.37",
        "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "volumeMounts": [{"name": "ram", "mountPath": "/ram"}],
    }
    killed = pod("killed", spec={"containers": [main], "volumes": [ram]})
    remarks = dict(volume_remarks(context.request(killed)))
    assert set(remarks) == {"OversizedMemoryVolume"}
    assert "4.0 GiB" in remarks["OversizedMemoryVolume"]
    assert dict(volume_remarks(context.request(tmpfs("fine")))) == {}


def test_what_was_refused_as_loading_and_loads_nowhere_any_more_is_absent(context: Context) -> None:
    context.state.upsert(loader_pod("a", LOADING))
    asked = {Reason.MODEL_LOADING}
    assert "NoNewNode" not in dict(waiting_remarks(context.judge(vllm()), asked))
    context.state.delete(loader_pod("a", LOADING))
    assert "NoNewNode" in dict(waiting_remarks(context.judge(vllm()), asked))


# -- evictions that were in vain -----------------------------------------------------------------


def unscheduled(waits: Pod, says: str) -> Pod:
    """Return a pod with what kube-scheduler says of why it has no node."""
    condition = Condition(type="PodScheduled", status="False", message=says)
    return msgspec.structs.replace(
        waits, status=msgspec.structs.replace(waits.status, conditions=(condition,))
    )


def warned(context: Context, waits: Pod) -> dict[str, str]:
    context.state.upsert(waits)
    document = explain(waits, context)
    return {one["reason"]: one["message"] for one in document["warnings"]}


IN_VAIN = "0/2 nodes are available: 2 Insufficient cpu. no candidate node for preemption"


def test_a_pod_for_which_nobody_was_evicted_is_told_why(context: Context) -> None:
    context.state.upsert(loader_pod("a", LOADING))
    context.state.upsert(loader_pod("b", READY))
    said = warned(context, unscheduled(vllm(), IN_VAIN))["EvictionsInVain"]
    assert "1 of 2: node cache is still loading the model" in said
    assert "elsewhere too little memory would come back" in said
    assert "after five minutes" in said


def test_where_no_node_has_the_model_nothing_is_said_of_memory(context: Context) -> None:
    for name in "ab":
        context.state.upsert(loader_pod(name, LOADING))
    said = warned(context, unscheduled(vllm(), IN_VAIN))["EvictionsInVain"]
    assert "2 of 2: node cache is still loading the model" in said
    assert "memory" not in said


def test_a_pod_for_which_kube_scheduler_found_nobody_to_evict_is_told_nothing_of_it(
    context: Context,
) -> None:
    says = "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: "
    assert "EvictionsInVain" not in warned(context, unscheduled(vllm(), says))
