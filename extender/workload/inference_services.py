"""KServe's own kinds as the pod templates that its controllers make of them, as far as models go.

An InferenceService's predictor is a pod spec with one container under ``containers`` or ``model``;
an LLMInferenceService names the model beside a pod spec under ``template``. What a serving runtime
or a base configuration adds (images, flags) is not in the object and cannot be told here.
https://kserve.github.io/website/docs/reference/crd-api
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from extender.workload.stacks.kserve import CONTAINER, MODELS, SOURCE_ANNOTATION

_HUGGING_FACE = "huggingface"
_HUGGING_FACE_IMAGE = "kserve/huggingfaceserver"
"""The image of the runtime ``kserve-huggingfaceserver``, which serves that model format."""

_MAIN = "main"
"""The container of an LLMInferenceService's template that serves."""

_SERVE = ["vllm", "serve", MODELS]
"""What its well-known configurations run (config/llmisvc in kserve)."""

HEAD, WORKER = "head", "worker"
MAIN, PREFILL, PREFILL_WORKER = "main", "prefill", "prefill worker"
"""The parts of these kinds; one that runs on several nodes has ``WORKER`` beside its first."""

Template = dict[str, Any]


def predictor_templates(manifest: Any) -> Iterator[tuple[str, str, Template]]:
    """Yield the templates of an InferenceService's predictor, with part and field.

    Workers on other nodes are a part of their own where their containers stand in the object.
    """
    predictor = dict(_mapping(_mapping(manifest, "spec"), "predictor"))
    model, worker = predictor.pop("model", None), predictor.pop("workerSpec", None)
    source = None
    if isinstance(model, dict):
        source = model.get("storageUri")
        container = {**model, "name": CONTAINER}
        if _mapping(model, "modelFormat").get("name") == _HUGGING_FACE:
            container.setdefault("image", _HUGGING_FACE_IMAGE)
        given = predictor.get("containers")
        predictor["containers"] = [container, *(given if isinstance(given, list) else ())]
    yield HEAD, "spec.predictor", _template(manifest, predictor, source)
    if isinstance(worker, dict) and worker.get("containers"):
        yield WORKER, "spec.predictor.workerSpec", _template(manifest, worker, source)


def llm_templates(manifest: Any) -> Iterator[tuple[str, str, Template]]:
    """Yield the templates of an LLMInferenceService, with part and field.

    With ``worker`` a LeaderWorkerSet is made, whose leaders are like ``template`` where there is
    one, and like the workers otherwise (pkg/controller/v1alpha1/llmisvc/workload_multi_node.go in
    kserve/kserve). ``prefill`` is another such workload.
    """
    outer = _mapping(manifest, "spec")
    yield from _llm_workload(manifest, outer, "spec", (MAIN, WORKER))
    if isinstance(outer.get("prefill"), dict):
        parts = (PREFILL, PREFILL_WORKER)
        yield from _llm_workload(manifest, outer["prefill"], "spec.prefill", parts)


def _llm_workload(
    manifest: Any, workload: dict[str, Any], field: str, parts: tuple[str, str]
) -> Iterator[tuple[str, str, Template]]:
    several = isinstance(workload.get("worker"), dict)
    if not several or workload.get("template") is not None:
        yield parts[0], f"{field}.template", _llm_template(manifest, workload, "template")
    if several:
        yield parts[1], f"{field}.worker", _llm_template(manifest, workload, "worker")


def _llm_template(manifest: Any, workload: dict[str, Any], key: str) -> Template:
    spec = dict(_mapping(workload, key))
    given = spec.get("containers")
    containers = list(given) if isinstance(given, list) else []
    if not any(isinstance(one, dict) and one.get("name") == _MAIN for one in containers):
        containers.insert(0, {"name": _MAIN})
    spec["containers"] = [
        {"command": _SERVE, **one} if isinstance(one, dict) and one.get("name") == _MAIN else one
        for one in containers
    ]
    model = _mapping(_mapping(manifest, "spec"), "model")
    return _template(manifest, spec, model.get("uri"))


def _template(manifest: Any, spec: dict[str, Any], source: Any) -> Template:
    metadata = _mapping(manifest, "metadata")
    told = {SOURCE_ANNOTATION: source} if source is not None else {}
    annotations = {**_mapping(metadata, "annotations"), **told}
    return {
        "metadata": {"labels": _mapping(metadata, "labels"), "annotations": annotations},
        "spec": spec,
    }


def _mapping(parent: Any, key: str) -> dict[str, Any]:
    inner = parent.get(key) if isinstance(parent, dict) else None
    return inner if isinstance(inner, dict) else {}
