"""What the author of a pod says outright comes before what the spec shows."""

from __future__ import annotations

from typing import Any

import pytest

from extender.kube.decode import convert
from extender.kube.objects import Pod
from extender.workload.model import Need, Role, Source, Strategy, Workload
from extender.workload.references import read_workload

HIDDEN = {"name": "server", "image": "registry.example.com/serve:1", "command": ["/start.sh"]}


def read(
    annotations: dict[str, str], *containers: dict[str, Any], **volumes: dict[str, Any]
) -> Workload:
    spec = {
        "containers": list(containers) or [HIDDEN],
        "volumes": [{"name": name, **source} for name, source in volumes.items()],
    }
    annotated = {f"modelcache.dev/{key}": value for key, value in annotations.items()}
    pod = convert({"metadata": {"annotations": annotated}, "spec": spec}, Pod)
    return read_workload(pod.metadata, pod.spec)


def vllm(*args: str, read_only: bool = True, **more: Any) -> dict[str, Any]:
    mount = {"name": "m", "mountPath": "/models", "readOnly": read_only}
    return {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": list(args),
        "volumeMounts": [mount],
        **more,
    }


DATA = {"hostPath": {"path": "/data"}}


def test_annotated_path_takes_the_place_of_the_model_that_the_spec_shows() -> None:
    workload = read({"model": "/models/b"}, vllm("--model", "/models/a"), m=DATA)
    assert [r.host_path for r in workload.references] == ["/data/b"]
    assert workload.references[0].read_from == ("metadata.annotations[modelcache.dev/model]",)


def test_annotated_path_is_followed_in_the_container_that_mounts_it() -> None:
    proxy = {"name": "proxy", "image": "istio/proxyv2:1.27.0"}
    workload = read({"model": "/models/b"}, proxy, vllm(), m=DATA)
    assert [(r.strategy, r.host_path) for r in workload.references] == [
        (Strategy.NODE_CACHE, "/data/b")
    ]


def test_drafts_and_adapters_stay_beside_an_annotated_model() -> None:
    engine = vllm("--model", "/models/a", "--lora-modules", "x=/models/x")
    workload = read({"model": "/models/b"}, engine, m=DATA)
    assert [(r.role, r.host_path) for r in workload.references] == [
        (Role.MODEL, "/data/b"),
        (Role.ADAPTER, "/data/x"),
    ]


def test_annotated_hub_id_is_looked_for_in_the_first_containers_cache() -> None:
    engine = {
        **HIDDEN,
        "env": [{"name": "HF_HOME", "value": "/hf"}],
        "volumeMounts": [{"name": "hf", "mountPath": "/hf"}],
    }
    workload = read({"model": "hf://Qwen/Qwen3-8B@9c92f8b"}, engine, hf=DATA)
    (reference,) = workload.references
    assert (reference.model, reference.revision) == ("Qwen/Qwen3-8B", "9c92f8b")
    assert reference.host_path == "/data/hub/models--Qwen--Qwen3-8B"
    assert reference.need is Need.PREFERRED


def test_none_says_that_there_is_no_model_whatever_the_spec_shows() -> None:
    assert read({"model": "none"}, vllm("--model", "/models/a"), m=DATA) == Workload()


@pytest.mark.parametrize("space", ["{}", " {}", "{}\n"])
@pytest.mark.parametrize("value", ["/models/b", "none"])
def test_space_around_a_value_does_not_matter(value: str, space: str) -> None:
    plain = read({"model": value}, vllm("--model", "/models/a"), m=DATA)
    spaced = read({"model": space.format(value)}, vllm("--model", "/models/a"), m=DATA)
    assert spaced == plain


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Qwen/Qwen3-8B",
        "models/a",
        "./a",
        "s3://bucket/a",
        "pvc://claim/a",
        "hf://",
        "two words",
    ],
)
def test_model_annotation_that_names_no_model_is_a_warning_and_nothing_more(value: str) -> None:
    workload = read({"model": value}, vllm("--model", "/models/a"), m=DATA)
    assert [r.host_path for r in workload.references] == ["/data/a"]
    assert [(w.reason, "modelcache.dev/model" in w.message) for w in workload.warnings] == [
        ("BadAnnotation", True)
    ]


def test_pod_without_containers_has_no_use_for_an_annotated_model() -> None:
    pod = convert({"metadata": {"annotations": {"modelcache.dev/model": "/a"}}, "spec": {}}, Pod)
    assert read_workload(pod.metadata, pod.spec) == Workload()


@pytest.mark.parametrize("need", [Need.REQUIRED, Need.PREFERRED, Need.IGNORE])
def test_annotated_need_is_the_serving_models_need(need: Need) -> None:
    for read_only in (True, False):
        workload = read(
            {"need": need.value}, vllm("--model=/models/a", read_only=read_only), m=DATA
        )
        assert [r.need for r in workload.references] == [need]


@pytest.mark.parametrize(
    ("need", "adapters"),
    [
        pytest.param(Need.PREFERRED, Need.REQUIRED, id="preferred-leaves-the-others"),
        pytest.param(Need.REQUIRED, Need.REQUIRED, id="required-leaves-the-others"),
        pytest.param(Need.IGNORE, Need.IGNORE, id="ignore-means-all"),
    ],
)
def test_annotated_need_of_others_than_the_serving_model(need: Need, adapters: Need) -> None:
    engine = vllm("--model", "/models/a", "--lora-modules", "x=/models/x")
    workload = read({"need": need.value}, engine, m=DATA)
    assert [r.need for r in workload.references] == [need, adapters]


@pytest.mark.parametrize("value", ["", "unknown", "must", "Required", "true"])
def test_need_annotation_that_is_no_need_is_a_warning_that_names_the_choice(value: str) -> None:
    workload = read({"need": value}, vllm("--model", "/models/a"), m=DATA)
    assert [r.need for r in workload.references] == [Need.REQUIRED]
    (warning,) = workload.warnings
    assert warning.reason == "BadAnnotation"
    assert "required, preferred, ignore" in warning.message


def test_annotated_need_stands_where_the_model_itself_is_annotated() -> None:
    workload = read({"model": "/models/b", "need": "preferred"}, vllm(), m=DATA)
    assert [(r.host_path, r.need) for r in workload.references] == [("/data/b", Need.PREFERRED)]


def test_annotated_path_that_no_volume_holds_is_part_of_the_image() -> None:
    (reference,) = read({"model": "/opt/model"}).references
    assert (reference.source, reference.image) == (Source.IMAGE, "registry.example.com/serve:1")
