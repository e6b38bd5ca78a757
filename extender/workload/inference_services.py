"""KServe's own kinds as the pod templates that its controllers make of them, as far as models go.

An InferenceService's predictor is a pod spec with one container under ``containers`` or ``model``;
an LLMInferenceService names the model beside a pod spec under ``template``. What a serving runtime
or a base configuration adds (images, flags) is not in the object and cannot be told here.
https://kserve.github.io/website/docs/reference/crd-api
"""

from __future__ import annotations

from typing import Any

from extender.workload.stacks.kserve import CONTAINER, MODELS, SOURCE_ANNOTATION

_HUGGING_FACE = "huggingface"
_HUGGING_FACE_IMAGE = "kserve/huggingfaceserver"
"""The image of the runtime ``kserve-huggingfaceserver``, which serves that model format."""

_MAIN = "main"
"""The container of an LLMInferenceService's template that serves."""

_SERVE = ["vllm", "serve", MODELS]
"""What its well-known configurations run (config/llmisvc in kserve)."""

Template = dict[str, Any]


def predictor_template(manifest: Any) -> Template:
    """Return the template of an InferenceService's predictor."""
    predictor = dict(_mapping(_mapping(manifest, "spec"), "predictor"))
    model = predictor.pop("model", None)
    source = None
    if isinstance(model, dict):
        source = model.get("storageUri")
        container = {**model, "name": CONTAINER}
        if _mapping(model, "modelFormat").get("name") == _HUGGING_FACE:
            container.setdefault("image", _HUGGING_FACE_IMAGE)
        given = predictor.get("containers")
        predictor["containers"] = [container, *(given if isinstance(given, list) else ())]
    return _template(manifest, predictor, source)


def llm_template(manifest: Any) -> Template:
    """Return the template of an LLMInferenceService's main workload."""
    outer = _mapping(manifest, "spec")
    spec = dict(_mapping(outer, "template"))
    given = spec.get("containers")
    containers = list(given) if isinstance(given, list) else []
    if not any(isinstance(one, dict) and one.get("name") == _MAIN for one in containers):
        containers.insert(0, {"name": _MAIN})
    spec["containers"] = [
        {"command": _SERVE, **one} if isinstance(one, dict) and one.get("name") == _MAIN else one
        for one in containers
    ]
    return _template(manifest, spec, _mapping(outer, "model").get("uri"))


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
