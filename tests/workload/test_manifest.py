"""The pods of a workload's manifest: every template, by its name, and what is none."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from extender.errors import InvalidObjectError
from extender.workload.manifest import parts_of
from extender.workload.references import read_workload

METADATA = {"name": "llama", "namespace": "inference"}


def serving(name: str = "main", **container: Any) -> dict[str, Any]:
    return {"containers": [{"name": name, "image": "vllm/vllm-openai:v0.11.0", **container}]}


def group(**templates: Any) -> dict[str, Any]:
    inner = {key: {"spec": spec} for key, spec in templates.items()}
    return {
        "kind": "LeaderWorkerSet",
        "metadata": METADATA,
        "spec": {"leaderWorkerTemplate": {"size": 2, **inner}},
    }


def llm(**spec: Any) -> dict[str, Any]:
    model = {"uri": "pvc://models/llama"}
    return {
        "kind": "LLMInferenceService",
        "metadata": METADATA,
        "spec": {"model": model, **spec},
    }


def predictor(**spec: Any) -> dict[str, Any]:
    return {"kind": "InferenceService", "metadata": METADATA, "spec": {"predictor": spec}}


MODEL = {"modelFormat": {"name": "huggingface"}, "storageUri": "pvc://models/llama"}
PARTS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a group": (
        group(leaderTemplate=serving("a"), workerTemplate=serving("b")),
        {"leader": "a", "worker": "b"},
    ),
    "a group of equals": (group(workerTemplate=serving("b")), {"worker": "b"}),
    "one workload": (llm(template=serving()), {"": "main"}),
    "one workload by its model alone": (llm(), {"": "main"}),
    "prefill apart": (
        llm(template=serving(), prefill={"template": serving()}),
        {"main": "main", "prefill": "main"},
    ),
    "several nodes": (
        llm(template=serving(), worker=serving()),
        {"main": "main", "worker": "main"},
    ),
    "several nodes, all alike": (llm(worker=serving()), {"worker": "main"}),
    "all of it": (
        llm(
            template=serving(),
            worker=serving(),
            prefill={"template": serving(), "worker": serving()},
        ),
        {"main": "main", "worker": "main", "prefill": "main", "prefill worker": "main"},
    ),
    "a predictor": (predictor(model=MODEL), {"": "kserve-container"}),
    "a predictor on several nodes": (
        predictor(model=MODEL, workerSpec=serving("worker-container")),
        {"head": "kserve-container", "worker": "worker-container"},
    ),
    "a predictor with a transformer and an explainer": (
        predictor(model=MODEL)
        | {"spec": {"predictor": {"model": MODEL}, "transformer": serving("t"),
                    "explainer": serving("e")}},
        {"predictor": "kserve-container", "transformer": "t", "explainer": "e"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("manifest", "expected"), PARTS.values(), ids=PARTS)
def test_every_template_is_a_pod_of_its_own_by_name(
    manifest: dict[str, Any], expected: dict[str, str]
) -> None:
    parts = parts_of(manifest)
    assert {part.name: part.pod.spec.containers[0].name for part in parts} == expected
    assert {(p.pod.metadata.namespace, p.pod.metadata.name) for p in parts} == {
        ("inference", "llama")
    }


def test_every_part_of_an_llm_service_opens_its_model() -> None:
    everywhere = llm(worker=serving(), template=serving(), prefill={"template": serving()})
    for part in parts_of(everywhere):
        (reference,) = read_workload(part.pod.metadata, part.pod.spec).references
        assert (reference.claim, reference.claim_path) == ("models", "llama"), part.name


def test_a_groups_pods_carry_the_label_that_tells_its_workers() -> None:
    joins = serving(command=["ray", "start", "--address=head:6379"], image="example.com/any:1")
    _, worker = parts_of(group(leaderTemplate=serving(), workerTemplate=joins))
    (reference,) = read_workload(worker.pod.metadata, worker.pod.spec).references
    assert "leader names the model" in (reference.unknown or "")


def test_pods_of_a_daemonset_tolerate_what_its_controller_has_them_tolerate() -> None:
    daemon = {"kind": "DaemonSet", "metadata": METADATA, "spec": {"template": {"spec": serving()}}}
    (part,) = parts_of(daemon)
    tolerated = {one.key for one in part.asked.tolerations}
    assert {"node.kubernetes.io/unschedulable", "node.kubernetes.io/not-ready"} <= tolerated


def workload(kind: str, template: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": METADATA, "spec": {"template": template}}


def asking(**resources: Any) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": METADATA, "spec": serving(resources=resources)}


NOTHING: dict[str, tuple[dict[str, Any], str]] = {
    "no template": (
        {"kind": "Deployment", "metadata": METADATA},
        "Deployment inference/llama: spec.template.spec is missing: there is no pod to judge",
    ),
    "an empty template": (
        workload("Job", {}),
        "Job inference/llama: spec.template.spec.containers is missing or empty: there is nothing",
    ),
    "no containers": (
        workload("StatefulSet", {"spec": {"containers": []}}),
        "StatefulSet inference/llama: spec.template.spec.containers is missing or empty",
    ),
    "no workers": (
        group(),
        "LeaderWorkerSet inference/llama: spec.leaderWorkerTemplate.workerTemplate.spec is missing",
    ),
    "a cron job without a template": (
        {"kind": "CronJob", "metadata": METADATA, "spec": {"jobTemplate": {}}},
        "CronJob inference/llama: spec.jobTemplate.spec.template.spec is missing",
    ),
    "a predictor of nothing": (
        predictor(minReplicas=1),
        "InferenceService inference/llama: spec.predictor.containers is missing or empty",
    ),
    "a template that is text": (
        llm(template="main"),
        "LLMInferenceService inference/llama: spec.template: is not an object",
    ),
    "containers that are an object": (
        llm(prefill={"worker": {"containers": {}}}),
        "LLMInferenceService inference/llama: spec.prefill.worker.containers: is not a list",
    ),
    "workers that are a list": (
        llm(worker=[]), "LLMInferenceService inference/llama: spec.worker: is not an object",
    ),
    "a model that is text": (
        llm() | {"spec": {"model": "hf://a/b"}},
        "LLMInferenceService inference/llama: spec.model: is not an object",
    ),
    "an address that is a number": (
        llm() | {"spec": {"model": {"uri": 5}}},
        "LLMInferenceService inference/llama: spec.model.uri: is not text",
    ),
    "a predictor's model that is text": (
        predictor(model="llama"),
        "InferenceService inference/llama: spec.predictor.model: is not an object",
    ),
    "a format that is text": (
        predictor(model={"modelFormat": "vllm"}),
        "InferenceService inference/llama: spec.predictor.model.modelFormat: is not an object",
    ),
    "a transformer that is text": (
        predictor() | {"spec": {"predictor": {"model": MODEL}, "transformer": "t"}},
        "InferenceService inference/llama: spec.transformer: is not an object",
    ),
    "a transformer's container that is text": (
        predictor()
        | {"spec": {"predictor": {"model": MODEL}, "transformer": {"containers": ["t"]}}},
        "InferenceService inference/llama: spec.transformer: ",
    ),
    "an amount that is none": (
        asking(requests={"memory": "8Gig"}),
        "Pod inference/llama: spec.containers[0].resources.requests.memory: quantity '8Gig' is not "
        "a Kubernetes quantity; write it like 512Mi or 2G",
    ),
    "an amount of devices that is none": (
        workload("Deployment", {"spec": serving(resources={"limits": {"nvidia.com/gpu": "one"}})}),
        "Deployment inference/llama: spec.template.spec.containers[0].resources.limits."
        "nvidia.com/gpu: quantity 'one' is not",
    ),
    "a volume's size that is none": (
        workload(
            "Deployment",
            {
                "spec": {
                    **serving(),
                    "volumes": [{"name": "m", "emptyDir": {"sizeLimit": "20 Gi"}}],
                }
            },
        ),
        "spec.template.spec.volumes[0].emptyDir.sizeLimit: quantity '20 Gi' is not",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("manifest", "said"), NOTHING.values(), ids=NOTHING)
def test_what_cannot_be_judged_is_said_by_object_and_field(
    manifest: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidObjectError) as refused:
        parts_of(manifest)
    assert said in str(refused.value)


# -- whatever stands where something else belongs --------------------------------------------------

SERVICE = predictor(model=MODEL, workerSpec=serving("w"))
WHOLE: dict[str, dict[str, Any]] = {
    "Pod": {"kind": "Pod", "metadata": METADATA, "spec": serving()},
    "Deployment": workload("Deployment", {"spec": serving()}),
    "DaemonSet": workload("DaemonSet", {"spec": {**serving(), "tolerations": [{"key": "x"}]}}),
    "LeaderWorkerSet": {
        "kind": "LeaderWorkerSet",
        "metadata": METADATA,
        "spec": {
            "leaderWorkerTemplate": {
                key: {"metadata": {"labels": {"a": "b"}}, "spec": serving()}
                for key in ("leaderTemplate", "workerTemplate")
            }
        },
    },
    "InferenceService": SERVICE
    | {"spec": {**SERVICE["spec"], "transformer": serving("t"), "explainer": serving("e")}},
    "LLMInferenceService": llm(
        template=serving(), worker=serving(), prefill={"template": serving(), "worker": serving()}
    ),
}


WRONG: tuple[Any, ...] = ("x", 5, True, [], {}, ["x"])


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in items:
        yield (*at, key)
        if isinstance(below, dict | list):
            yield from places(below, (*at, key))


@pytest.mark.parametrize("kind", WHOLE)
def test_nothing_of_the_wrong_type_is_taken_for_nothing(kind: str) -> None:
    """It is refused by object: no other error, and no answer about another pod than was meant."""
    for at in places(WHOLE[kind]):
        for wrong in WRONG:
            manifest = copy.deepcopy(WHOLE[kind])
            parent: Any = manifest
            for key in at[:-1]:
                parent = parent[key]
            if at == ("kind",) or isinstance(wrong, type(parent[at[-1]])):
                continue
            parent[at[-1]] = wrong
            with pytest.raises(InvalidObjectError) as refused:
                parts_of(manifest)
            assert str(refused.value).startswith(kind), at
