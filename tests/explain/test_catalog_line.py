"""What is said of an absent model: an entry that the loader takes, or whom else to ask."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.objects import KubeObject, Pod
from extender.loader.catalog import read_catalog
from extender.verbs.context import Context
from tests.builders import (
    HOST_MODEL,
    LOADING,
    READY,
    loader,
    loader_pod,
    node,
    our_loader,
    pod,
    reported,
    reporting_pod,
    vllm,
)


def remedy(asker: Pod, *objects: KubeObject) -> str:
    """What would end it that node ``b`` lacks the model."""
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in (node("a"), node("b"), *objects):
        state.upsert(obj)
    (answer,) = explain(asker, Context(state=state), only="b")["nodes"]
    said: str = answer["remedy"]
    return said.partition("; or declare what is baked in: kubectl annotate node b ")[0]


OURS = (
    our_loader(), reporting_pod("a", READY, reported(path="x")),
    reporting_pod("b", READY, reported(path="x")),
)  # fmt: skip


def entry(model: str) -> tuple[Any, str]:
    """The entry of a catalog that is shown for a model, and what is said after it."""
    said = remedy(vllm(model=model), *OURS)
    before, _, after = said.partition(": models: ")
    assert before == "add it to the ModelCatalog of loader inference/model-cache-loader"
    line, closed, rest = after.partition("}]")
    document = yaml.safe_load("models: " + line + closed)
    document |= {"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCatalog"}
    (found,) = read_catalog(document).models
    return found, rest


@pytest.mark.parametrize(
    ("model", "name", "path"),
    [
        ("/models/llama-3.1-8b-instruct", "llama-3.1-8b-instruct", "llama-3.1-8b-instruct"),
        ("/models/qwen/7b", "7b", "qwen/7b"),
        ("/models/x_y", "x_y", "x_y"),
        ("/models/on", "on", "on"),
        ("/models/Null", "Null", "Null"),
        ("/models/1.5e3", "1.5e3", "1.5e3"),
        ("/models/0x1F", "0x1F", "0x1F"),
        ("/models/it's a model", "it-s-a-model", "it's a model"),
    ],
)
def test_the_entry_is_taken_by_the_loader(model: str, name: str, path: str) -> None:
    found, rest = entry(model)
    assert (found.name, found.directory, found.source) == (name, path, "hf://ORGANISATION/NAME")
    assert rest == ""


def test_one_file_of_a_repository_is_included_alone() -> None:
    found, rest = entry("/models/qwen/qwen2.5-7b-instruct-q4_k_m.gguf")
    assert (found.name, found.directory) == ("qwen", "qwen")
    assert (found.include, rest) == (("qwen2.5-7b-instruct-q4_k_m.gguf",), "")


def test_a_file_without_a_directory_of_its_own_gets_one() -> None:
    found, rest = entry("/models/qwen.gguf")
    assert (found.directory, found.include) == ("qwen", ("qwen.gguf",))
    assert rest == (
        ", and have the pod open /var/lib/models/qwen/qwen.gguf: a catalog has a directory for "
        "each model"
    )


def test_a_cache_of_the_hubs_own_layout_is_none_of_a_catalogs() -> None:
    """``--model org/name`` with HF_HOME on a hostPath opens hub/models--org--name."""
    found, rest = entry("/models/hub/models--Qwen--Qwen2.5-7B/snapshots/abc")
    assert (found.directory, found.source) == ("Qwen2.5-7B", "hf://Qwen/Qwen2.5-7B")
    assert rest == (
        ", and have the pod open /var/lib/models/Qwen2.5-7B: a catalog keeps no cache of the hub's "
        "own layout"
    )


def test_a_revision_that_the_pod_asks_for_is_in_the_entry() -> None:
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", "Qwen/Qwen2.5-7B", "--revision", "v1", "--download-dir", "/models"],
        "env": [{"name": "HF_HUB_OFFLINE", "value": "1"}],
        "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
    }
    volume = {"name": "models", "hostPath": {"path": "/var/lib/models"}}
    asker = pod(spec={"containers": [container], "volumes": [volume]})
    assert "source: hf://Qwen/Qwen2.5-7B, revision: v1}]" in remedy(asker, *OURS)


def test_a_foreign_loader_has_no_catalog() -> None:
    """It has a pod on the node, and does not load this."""
    objects = [loader(), loader_pod("a", READY), loader_pod("b", READY)]
    said = remedy(vllm(model="/models/qwen"), *objects)
    assert said == (
        "have loader inference/model-loader fetch ORGANISATION/NAME to /var/lib/models/qwen (as "
        "the node has it): kubectl edit daemonset -n inference model-loader"
    )


def test_a_loader_that_has_the_model_needs_a_pod_on_the_node() -> None:
    said = remedy(vllm(), loader(), loader_pod("a", LOADING))
    assert said == (
        "loader inference/model-loader has it and no pod on b: see its node selector, affinity and "
        "tolerations: kubectl get daemonset -n inference model-loader -o yaml"
    )


def test_without_a_loader_a_catalog_is_one_way() -> None:
    baked = node("a", annotations={"modelcache.dev/provides": HOST_MODEL})
    said = remedy(vllm(), baked)
    assert said == (
        "have a loader fill it there, by a ModelCatalog with models: [{name: "
        "llama-3.1-8b-instruct, source: hf://ORGANISATION/NAME}]"
    )
