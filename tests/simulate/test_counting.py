"""How many pods a workload asks for: by kind, by field, and what is no number."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from extender.cluster.state import ClusterState
from extender.cluster.view import NodeView
from extender.errors import UsageError
from extender.kube.decode import convert
from extender.kube.objects import Node
from extender.simulate.counting import replicas_of
from extender.workload.manifest import parts_of

CONTAINERS: dict[str, Any] = {"containers": [{"name": "main"}]}
TEMPLATE = {"spec": CONTAINERS}


def workload(kind: str, **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "web"}, "spec": {"template": TEMPLATE, **spec}}


def job(**spec: Any) -> dict[str, Any]:
    return workload("Job", **spec)


def cron_job(**spec: Any) -> dict[str, Any]:
    inner = {"template": TEMPLATE, **spec.pop("job", {})}
    return {
        "kind": "CronJob",
        "metadata": {"name": "web"},
        "spec": {"jobTemplate": {"spec": inner}, **spec},
    }


def group(*, leads: bool = True, size: int | None = None, **spec: Any) -> dict[str, Any]:
    inner: dict[str, Any] = {"workerTemplate": TEMPLATE}
    if leads:
        inner["leaderTemplate"] = TEMPLATE
    if size is not None:
        inner["size"] = size
    return {
        "kind": "LeaderWorkerSet",
        "metadata": {"name": "web"},
        "spec": {"leaderWorkerTemplate": inner, **spec},
    }


def predictor(**spec: Any) -> dict[str, Any]:
    inner = {**CONTAINERS, **spec}
    return {"kind": "InferenceService", "metadata": {"name": "web"}, "spec": {"predictor": inner}}


def llm(**spec: Any) -> dict[str, Any]:
    return {"kind": "LLMInferenceService", "metadata": {"name": "web"}, "spec": spec}


def nodes(**specs: dict[str, Any]) -> dict[str, NodeView]:
    state = ClusterState(clock=lambda: 0.0)
    for name, spec in specs.items():
        state.upsert(convert({"metadata": {"name": name}, "spec": spec}, Node))
    return dict(state.view().nodes)


TWICE = {"worker": CONTAINERS, "template": CONTAINERS}
COUNTS: dict[str, tuple[dict[str, Any], dict[str, int], str]] = {
    "a pod": ({"kind": "Pod", "metadata": {}, "spec": CONTAINERS}, {"": 1}, "a pod"),
    "a deployment": (workload("Deployment", replicas=3), {"": 3}, "spec.replicas"),
    "a deployment that does not say": (workload("Deployment"), {"": 1}, "spec.replicas"),
    "a deployment of none": (workload("Deployment", replicas=0), {}, "spec.replicas"),
    "a stateful set": (workload("StatefulSet", replicas=2), {"": 2}, "spec.replicas"),
    "a job": (job(), {"": 1}, "spec.parallelism"),
    "a job in parallel": (job(parallelism=4, completions=9), {"": 4}, "spec.parallelism"),
    "a job of few": (job(parallelism=4, completions=3), {"": 3}, "spec.completions"),
    "a job of a queue": (job(parallelism=4), {"": 4}, "spec.parallelism"),
    "a job that is stopped": (job(parallelism=0), {}, "spec.parallelism"),
    "a job that is suspended": (job(parallelism=4, suspend=True), {}, "spec.suspend"),
    "a job that is nearly done": (
        job(parallelism=4, completions=9) | {"status": {"succeeded": 7}}, {"": 2},
        "spec.completions",
    ),
    "a cron job": (
        cron_job(job={"parallelism": 2}), {"": 2}, "spec.jobTemplate.spec.parallelism"
    ),
    "a cron job that is suspended": (cron_job(suspend=True), {}, "spec.suspend"),
    "a group": (group(size=4, replicas=2), {"leader": 2, "worker": 6}, "spec.replicas"),
    "a group that does not say": (group(), {"leader": 1}, "spec.replicas"),
    "a group of equals": (group(leads=False, size=4, replicas=2), {"worker": 8}, "spec.replicas"),
    "no groups": (group(size=4, replicas=0), {}, "spec.replicas"),
    "a predictor": (predictor(), {"": 1}, "spec.predictor.minReplicas"),
    "a predictor of many": (predictor(minReplicas=3), {"": 3}, "spec.predictor.minReplicas"),
    "a predictor on demand": (predictor(minReplicas=0), {}, "spec.predictor.minReplicas"),
    "a predictor on several nodes": (
        predictor(minReplicas=2, workerSpec={**CONTAINERS, "pipelineParallelSize": 3}),
        {"head": 2, "worker": 4}, "spec.predictor.minReplicas",
    ),
    "a predictor with a transformer": (
        predictor(minReplicas=2)
        | {"spec": {"predictor": {**CONTAINERS, "minReplicas": 2},
                    "transformer": {**CONTAINERS, "minReplicas": 3}, "explainer": CONTAINERS}},
        {"predictor": 2, "transformer": 3, "explainer": 1}, "spec.predictor.minReplicas",
    ),
    "an LLM service": (llm(replicas=3), {"": 3}, "spec.replicas"),
    "prefill apart": (
        llm(replicas=2, prefill={"replicas": 3}), {"main": 2, "prefill": 3}, "spec.replicas"
    ),
    "on several nodes": (
        llm(**TWICE, replicas=2, parallelism={"pipeline": 3}), {"main": 2, "worker": 4},
        "spec.replicas",
    ),
    "with parallel data": (
        llm(**TWICE, parallelism={"data": 16, "dataLocal": 8}), {"main": 1, "worker": 1},
        "spec.replicas",
    ),
    "workers alone": (
        llm(worker=CONTAINERS, parallelism={"pipeline": 3}), {"worker": 3}, "spec.replicas"
    ),
    "prefill on several nodes": (
        llm(prefill={**TWICE, "replicas": 2, "parallelism": {"pipeline": 2}}),
        {"main": 1, "prefill": 2, "prefill worker": 2}, "spec.replicas",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", COUNTS)
def test_a_workload_asks_for_so_many_pods_by_this_field(what: str) -> None:
    manifest, expected, field = COUNTS[what]
    found, said = replicas_of(manifest, parts_of(manifest), {})
    assert (Counter(one.part.name for one in found), said) == (expected, field)


def test_groups_come_one_after_another_leader_first() -> None:
    manifest = group(size=3, replicas=2)
    found, _ = replicas_of(manifest, parts_of(manifest), {})
    one = ["leader", "worker", "worker"]
    assert [replica.part.name for replica in found] == one + one


def test_a_daemon_has_one_pod_on_each_node_that_matches_and_may_go_nowhere_else() -> None:
    taint = {"key": "gpu", "effect": "NoSchedule"}
    cluster = nodes(a={}, b={"taints": [taint]}, c={"unschedulable": True})
    manifest = workload("DaemonSet")
    found, said = replicas_of(manifest, parts_of(manifest), cluster)
    assert [replica.node for replica in found] == ["a", "c"], "its pods tolerate a cordon"
    assert said == "matching nodes"
    with pytest.raises(UsageError, match=r"DaemonSet web: .* leave out --replicas"):
        replicas_of(manifest, parts_of(manifest), cluster, 3)


def test_a_wish_takes_the_place_of_what_the_workload_asks_for() -> None:
    for manifest, expected in (
        (workload("Deployment", replicas=0), {"": 5}),
        (group(size=2), {"leader": 5, "worker": 5}),
        (llm(prefill={"replicas": 3}), {"main": 5, "prefill": 3}),
    ):
        found, said = replicas_of(manifest, parts_of(manifest), {}, 5)
        assert (Counter(one.part.name for one in found), said) == (expected, "--replicas")


@pytest.mark.parametrize("number", ["x", -1, True, 1.5])
@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda n: workload("Deployment", replicas=n), "Deployment web: spec.replicas: "),
        (lambda n: job(parallelism=n), "Job web: spec.parallelism: "),
        (lambda n: group(size=n), "LeaderWorkerSet web: spec.leaderWorkerTemplate.size: "),
        (lambda n: predictor(minReplicas=n), "web: spec.predictor.minReplicas: "),
    ],
    ids=["replicas", "parallelism", "size", "minReplicas"],
)
def test_what_is_no_number_is_refused_by_object_and_field(
    make: Any, field: str, number: object
) -> None:
    manifest = make(number)
    with pytest.raises(UsageError) as refused:
        replicas_of(manifest, parts_of(manifest), {})
    assert f"{field}{number!r} is not a whole number" in str(refused.value)


def test_more_than_are_simulated_are_refused_by_the_field() -> None:
    manifest = workload("Deployment", replicas=20_000)
    with pytest.raises(UsageError, match=r"spec\.replicas asks for more than 10000 pods"):
        replicas_of(manifest, parts_of(manifest), {})
