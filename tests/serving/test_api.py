"""The read-only API: its keys, what explain takes, and what it refuses."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
import pytest
import yaml
from flask.testing import FlaskClient

from extender.serving.api import MAX_MANIFEST_BYTES
from tests.serving.running import GOOD

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "llama", "namespace": "inference"},
    "spec": {
        "containers": [
            {
                "name": "vllm",
                "image": "vllm/vllm-openai:v0.11.0",
                "args": ["--model", "/models/llama-3.1-8b-instruct"],
                "volumeMounts": [{"name": "m", "mountPath": "/models", "readOnly": True}],
            }
        ],
        "volumes": [{"name": "m", "hostPath": {"path": "/var/lib/models", "type": "Directory"}}],
    },
}
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": POD["metadata"],
    "spec": {"template": {"spec": POD["spec"]}},
}


def get(client: FlaskClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.json


def explain(client: FlaskClient, body: bytes, content_type: str = "application/json") -> Any:
    return client.post("/api/v1/explain", data=body, content_type=content_type)


@pytest.mark.parametrize("manifest", [POD, DEPLOYMENT], ids=["Pod", "Deployment"])
@pytest.mark.parametrize("content_type", ["application/json", "application/yaml", ""])
@pytest.mark.parametrize("form", ["JSON", "YAML"])
def test_explain_takes_a_manifest_in_both_forms(
    client: FlaskClient, manifest: dict[str, Any], content_type: str, form: str
) -> None:
    body = msgspec.json.encode(manifest) if form == "JSON" else yaml.safe_dump(manifest).encode()
    answer = explain(client, body, content_type)
    assert answer.status_code == 200
    assert answer.json["pod"] == "llama"
    assert [node["name"] for node in answer.json["nodes"] if node["fits"]] == ["gpu-1", "gpu-2"]


def bomb() -> bytes:
    """Nine levels of nine aliases each: 387 million values in 300 bytes."""
    lines = ["a: &a [" + ",".join("x" * 9) + "]"]
    for name, before in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{name}: &{name} [" + ",".join([f"*{before}"] * 9) + "]")
    return "\n".join([*lines, "kind: Pod", "metadata: {labels: *i}"]).encode()


def merge_bomb() -> bytes:
    """Do the same with merge keys, which a parser writes out by itself."""
    lines = ["a: &a {k: v, l: v}"]
    for name, before in zip("bcdefghi", "abcdefgh", strict=True):
        lines.append(f"{name}: &{name} {{<<: [" + ",".join([f"*{before}"] * 9) + "]}")
    return "\n".join([*lines, "kind: Pod", "metadata: *i"]).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not one YAML or JSON document: it holds none; send one manifest"),
        (b"a: 1\n---\nb: 2\n", "not one YAML or JSON document: it holds 2; send one manifest"),
        (b"{", "neither YAML nor JSON"),
        (b"hello", "the body is text, not an object; send one manifest, with apiVersion, kind"),
        (b"[]", "the body is a list, not an object"),
        (b"null", "the body is null, not an object"),
        (b"-7.5", "the body is a number, not an object"),
        (b"a: b", "^kind: is null; write it like kind: Pod"),
        (b"kind: Service", "kind 'Service' carries no pod; known kinds: Pod, Deployment"),
        (b"kind: {a: b}", "^kind: is an object; write it like kind: Pod"),
        (b"kind: [Pod]", "^kind: is a list; write it like kind: Pod"),
        (b"kind: Pod", "Pod default/.no name.: spec.containers is missing or empty"),
        (b"kind: Deployment", "Deployment default/.no name.: spec.template.spec is missing"),
        (b"kind: Pod\nmetadata: 5", "^metadata: is a number, not an object, as that of a Pod is"),
        (b"kind: Pod\nmetadata: {name: [x]}", "metadata.name"),
        (b"kind: Deployment\nspec: []", "^spec: is a list, not an object, as that of a Deployment"),
        (b"kind: LLMInferenceService\nspec: true", "^spec: is a boolean, not an object"),
        (
            b"kind: LLMInferenceService\nmetadata: {name: x}\nspec: {template: {containers: 5}}",
            "^LLMInferenceService default/x: spec.template.containers: is not a list",
        ),
        (b"kind: Pod\nspec: {containers: x}", "Pod default/.no name.: .*spec.containers"),
        (b"kind: Pod\nmetadata: {name: x}\nspec: {containers: [5]}", "Pod default/x: .*containers"),
        (b"kind: Pod\nmetadata: &a {labels: *a}", "stands for a value that holds it"),
        (b"kind: Pod\nmetadata: !!python/object/apply:os.system [id]", "could not determine"),
        (b"kind: Pod\nspec: " + b"[" * 100_000, "neither YAML nor JSON"),
        (bomb(), "aliases stand for too many values"),
        (merge_bomb(), "aliases stand for too many values"),
        (b"\x80\x81", "neither YAML nor JSON"),
    ],
    ids=[
        "empty", "two documents", "broken", "text", "list", "null", "number", "no kind", "Service",
        "odd kind", "kinds", "no containers", "no template", "metadata", "odd name", "odd spec",
        "odd service", "odd template", "odd containers", "container", "cycle", "python", "nested",
        "aliases", "merges", "bytes",
    ],
)  # fmt: skip
def test_explain_refuses_what_is_no_manifest_and_says_why(
    client: FlaskClient, body: bytes, said: str
) -> None:
    begun = time.monotonic()
    answer = explain(client, body)
    assert answer.status_code == 400
    assert set(answer.json) == {"error"}
    assert re.search(said, answer.json["error"]), answer.json
    assert time.monotonic() - begun < 5


def test_explain_takes_no_more_than_an_apiserver_would(client: FlaskClient) -> None:
    """The status listener is open to the cluster network; reading YAML costs seconds a megabyte."""
    answer = explain(client, b" " * (MAX_MANIFEST_BYTES + 1))
    assert answer.status_code == 413
    assert answer.json["error"].startswith(f"the body is larger than {MAX_MANIFEST_BYTES} bytes; ")


def test_nodes_show_memory_in_bytes(client: FlaskClient) -> None:
    nodes = get(client, "/api/v1/nodes")["nodes"]
    assert [node["name"] for node in nodes] == [f"gpu-{number}" for number in range(1, 6)]
    for node in nodes:
        assert set(node) == {"name", "allocatableBytes", "promisedBytes", "freeBytes"}
        assert node["freeBytes"] == node["allocatableBytes"] - node["promisedBytes"]
    assert nodes[0]["freeBytes"] == 12 * 2**30, "64 GiB without 4 of requests and 48 of tmpfs"


def test_decisions_keep_the_latest_of_each_pod_and_verb(client: FlaskClient) -> None:
    for number in range(3):
        pod = {"metadata": {"name": "again", "namespace": "n", "uid": "again"}}
        document = {"Pod": pod, "NodeNames": ["gpu-1"] * number or None}
        client.post("/filter", json=document)
    made = [d for d in get(client, "/api/v1/decisions")["decisions"] if d["uid"] == "again"]
    assert [(one["verb"], one["asked"]) for one in made] == [("filter", 1)]


def test_a_refused_pod_that_the_cluster_does_not_know_is_not_waiting(client: FlaskClient) -> None:
    client.post("/filter", json={**GOOD, "Pod": POD, "NodeNames": ["gpu-5"]})
    assert get(client, "/api/v1/waiting") == {"waiting": []}


def test_observations_are_there_only_in_shadow_mode(client: FlaskClient) -> None:
    answer = client.get("/api/v1/observations")
    assert answer.status_code == 404
    assert answer.json == {"error": "the extender does not run with --observe"}


def test_explain_judges_every_template_of_a_workload_on_its_own(client: FlaskClient) -> None:
    group = {
        "kind": "LeaderWorkerSet",
        "metadata": POD["metadata"],
        "spec": {
            "leaderWorkerTemplate": {
                "leaderTemplate": {"spec": POD["spec"]},
                "workerTemplate": {"spec": {"containers": [{"name": "worker"}]}},
            }
        },
    }
    answer = explain(client, msgspec.json.encode(group)).json
    fits = {one["part"]: [n["name"] for n in one["nodes"] if n["fits"]] for one in answer}
    assert fits == {"leader": ["gpu-1", "gpu-2"], "worker": [f"gpu-{n}" for n in range(1, 6)]}
