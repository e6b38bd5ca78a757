"""KServe's own kinds as the pod templates that its controllers make of them, as far as models go.

An InferenceService's predictor is a pod spec with one container under ``containers`` or ``model``;
an LLMInferenceService names the model beside a pod spec under ``template``. What a serving runtime
or a base configuration adds (images, flags) is not in the object and cannot be told here.
https://kserve.github.io/website/docs/reference/crd-api
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from extender.errors import InvalidObjectError
from extender.workload.stacks.kserve import CONTAINER, MODELS, SOURCE_ANNOTATION

T = TypeVar("T")

_HUGGING_FACE = "huggingface"
_HUGGING_FACE_IMAGE = "kserve/huggingfaceserver"
"""The image of the runtime ``kserve-huggingfaceserver``, which serves that model format."""

_MAIN = "main"
"""The container of an LLMInferenceService's template that serves."""

_SERVE = ["vllm", "serve", MODELS]
"""What its well-known configurations run (config/llmisvc in kserve)."""

PREDICTOR, TRANSFORMER, EXPLAINER = "predictor", "transformer", "explainer"
HEAD, WORKER = "head", "worker"
MAIN, PREFILL, PREFILL_WORKER = "main", "prefill", "prefill worker"
"""The parts of these kinds; one that runs on several nodes has ``WORKER`` beside its first."""

BESIDE = (TRANSFORMER, EXPLAINER)
"""The parts of an InferenceService that are beside its predictor, named as its fields."""

Template = dict[str, Any]


def service_templates(manifest: Any) -> Iterator[tuple[str, str, Template]]:
    """Yield the templates of an InferenceService, with part and field.

    Workers on other nodes are a part of their own where their containers stand in the object, and
    so are transformer and explainer. Raises InvalidObjectError that names the field.
    """
    spec = _mapping(manifest, "spec")
    yield from _predictor_templates(manifest, dict(_mapping(spec, "predictor", "spec")))
    for part in BESIDE:
        component = _mapping(spec, part, "spec")
        if _items(component, "containers", f"spec.{part}"):
            yield part, f"spec.{part}", _template(manifest, component, None)


def _predictor_templates(manifest: Any, predictor: Template) -> Iterator[tuple[str, str, Template]]:
    field = "spec.predictor"
    worker, several = _mapping(predictor, "workerSpec", field), "workerSpec" in predictor
    model, given = _mapping(predictor, "model", field), _items(predictor, "containers", field)
    predictor = {k: v for k, v in predictor.items() if k not in {"model", "workerSpec"}}
    source = None
    if model:
        source = _text(model, "storageUri", f"{field}.model")
        container = {**model, "name": CONTAINER}
        served = _mapping(model, "modelFormat", f"{field}.model")
        if _text(served, "name", f"{field}.model.modelFormat") == _HUGGING_FACE:
            container.setdefault("image", _HUGGING_FACE_IMAGE)
        predictor["containers"] = [container, *given]
    yield (HEAD if several else PREDICTOR), field, _template(manifest, predictor, source)
    if _items(worker, "containers", f"{field}.workerSpec"):
        yield WORKER, f"{field}.workerSpec", _template(manifest, worker, source)


def llm_templates(manifest: Any) -> Iterator[tuple[str, str, Template]]:
    """Yield the templates of an LLMInferenceService, with part and field.

    With ``worker`` a LeaderWorkerSet is made, whose leaders are like ``template`` where there is
    one, and like the workers otherwise (pkg/controller/v1alpha1/llmisvc/workload_multi_node.go in
    kserve/kserve). ``prefill`` is another such workload. Raises InvalidObjectError that names the
    field.
    """
    outer = _mapping(manifest, "spec")
    yield from _llm_workload(manifest, outer, "spec", (MAIN, WORKER))
    if outer.get("prefill") is not None:
        prefill = _mapping(outer, "prefill", "spec")
        yield from _llm_workload(manifest, prefill, "spec.prefill", (PREFILL, PREFILL_WORKER))


def _llm_workload(
    manifest: Any, workload: dict[str, Any], field: str, parts: tuple[str, str]
) -> Iterator[tuple[str, str, Template]]:
    several = workload.get("worker") is not None
    if not several or workload.get("template") is not None:
        yield parts[0], f"{field}.template", _llm_template(manifest, workload, "template", field)
    if several:
        yield parts[1], f"{field}.worker", _llm_template(manifest, workload, "worker", field)


def _llm_template(manifest: Any, workload: dict[str, Any], key: str, field: str) -> Template:
    spec = dict(_mapping(workload, key, field))
    containers = list(_items(spec, "containers", f"{field}.{key}"))
    if not any(isinstance(one, dict) and one.get("name") == _MAIN for one in containers):
        containers.insert(0, {"name": _MAIN})
    spec["containers"] = [
        {"command": _SERVE, **one} if isinstance(one, dict) and one.get("name") == _MAIN else one
        for one in containers
    ]
    model = _mapping(_mapping(manifest, "spec"), "model", "spec")
    return _template(manifest, spec, _text(model, "uri", "spec.model"))


def _template(manifest: Any, spec: dict[str, Any], source: str | None) -> Template:
    metadata = _mapping(manifest, "metadata")
    told = {SOURCE_ANNOTATION: source} if source is not None else {}
    annotations = {**_mapping(metadata, "annotations", "metadata"), **told}
    return {
        "metadata": {
            "labels": _mapping(metadata, "labels", "metadata"),
            "annotations": annotations,
        },
        "spec": spec,
    }


def _mapping(parent: dict[str, Any], key: str, field: str = "") -> dict[str, Any]:
    """Return an object in ``field``, empty where there is none. Raises InvalidObjectError."""
    return _of_type(parent, key, field, dict, "an object") or {}


def _items(parent: dict[str, Any], key: str, field: str) -> list[Any]:
    return _of_type(parent, key, field, list, "a list") or []


def _text(parent: dict[str, Any], key: str, field: str) -> str | None:
    return _of_type(parent, key, field, str, "text")


def _of_type(parent: dict[str, Any], key: str, field: str, kind: type[T], named: str) -> T | None:
    inner = parent.get(key)
    if inner is None or isinstance(inner, kind):
        return inner
    where = f"{field}.{key}" if field else key
    raise InvalidObjectError(f"{where}: is not {named}; see kubectl explain for what goes there")
