"""The catalog entry that a remedy shows is one that the loader takes."""

from __future__ import annotations

import pytest
import yaml

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.loader.catalog import read_catalog
from extender.verbs.context import Context
from tests.builders import LOADING, loader, loader_pod, node, vllm


def line(model: str) -> str:
    """The entry that ``explain`` prints for a model that node ``b`` lacks."""
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in (node("a"), node("b"), loader(), loader_pod("a", LOADING)):
        state.upsert(obj)
    document = explain(vllm(model=model), Context(state=state))
    remedy: str = {one["name"]: one for one in document["nodes"]}["b"]["remedy"]
    return remedy.partition("its ModelCatalog: ")[2].partition("), or declare")[0]


@pytest.mark.parametrize(
    ("model", "name", "path", "source"),
    [
        (
            "/models/llama-3.1-8b-instruct",
            "llama-3.1-8b-instruct",
            "llama-3.1-8b-instruct",
            "hf://meta-llama/Llama-3.1-8B-Instruct",
        ),
        ("/models/qwen/7b", "7b", "qwen/7b", "hf://ORGANISATION/NAME"),
        ("/models/x_y", "x_y", "x_y", "hf://ORGANISATION/NAME"),
    ],
)
def test_the_entry_is_taken_by_the_loader(model: str, name: str, path: str, source: str) -> None:
    document = yaml.safe_load(line(model))
    document |= {"apiVersion": "modelcache.dev/v1alpha1", "kind": "ModelCatalog"}
    (entry,) = read_catalog(document).models
    assert (entry.name, entry.directory, entry.source) == (name, path, source)
