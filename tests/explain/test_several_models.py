"""Pods with more than one model: a node is told by the one that it lacks, and that by its name."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.objects import KubeObject, Pod
from extender.verbs.context import Context
from tests.builders import (
    CRASHING,
    LOADING,
    MODEL,
    READY,
    claim,
    job,
    loader,
    loader_pod,
    node,
    pod,
)

DRAFT, HOST_DRAFT = "/models/draft", "/var/lib/models/draft"
OF_JOB = "-n inference job/fill --all-containers --ignore-errors"


def fetching(path: str) -> str:
    call = f"snapshot_download('org/other', local_dir='{path}')"
    return f'python3 -c "from huggingface_hub import snapshot_download; {call}"'


def serving(*args: str, **volumes: str) -> Pod:
    """A vLLM pod; ``volumes`` mounts claims, below ``/models`` is the node's cache without."""
    claims = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim_name}}
        for name, claim_name in volumes.items()
    ]
    cache = {"name": "models", "hostPath": {"path": "/var/lib/models", "type": "Directory"}}
    mounted: list[dict[str, Any]] = claims if "models" in volumes else [cache, *claims]
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", MODEL, *args],
        "volumeMounts": [
            {"name": one["name"], "mountPath": f"/{one['name']}", "readOnly": True}
            for one in mounted
        ],
    }
    return pod(spec={"containers": [container], "volumes": mounted})


SPECULATING = serving("--speculative-config", json.dumps({"model": DRAFT}))
ADAPTED = serving("--lora-modules", "sql=/lora/sql", models="main", lora="model-store")


def document(asker: Pod, *objects: KubeObject) -> dict[str, Any]:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    return explain(asker, Context(state=state))


def drafts(on: str, status: dict[str, Any]) -> Pod:
    return loader_pod(on, status, name="draft-loader", script=fetching(DRAFT))


LOADERS = (loader(), loader("draft-loader", script=fetching(DRAFT)))
NODES = (node("n1"), node("n2"))
SERVED = (loader_pod("n1", READY), loader_pod("n2", READY))


def test_a_node_that_has_the_served_model_and_not_the_draft_is_told_by_the_draft() -> None:
    told = document(SPECULATING, *NODES, *LOADERS, *SERVED, drafts("n2", READY))
    lacking, having = told["nodes"]
    assert having["fits"]
    assert (lacking["reason"], lacking["state"], lacking["evidence"]) == (
        "ModelAbsent", "absent", None,
    )  # fmt: skip
    assert lacking["message"].startswith(
        f"node cache does not hold the model: {DRAFT} (draft): no loader pod on this node"
    )
    assert f"; 1 node cache does not hold the model: {DRAFT} (draft); asks" in told["summary"]


def test_the_loader_that_has_the_lacking_model_is_named_and_no_other_of_its_directory() -> None:
    told = document(SPECULATING, *NODES, *LOADERS, *SERVED, drafts("n2", READY))
    remedy = told["nodes"][0]["remedy"]
    assert remedy.startswith("loader inference/draft-loader has it and no pod on n1: ")
    assert remedy.endswith(f"kubectl annotate node n1 modelcache.dev/provides={HOST_DRAFT}")
    assert MODEL not in remedy


def test_the_logs_are_those_of_the_loader_that_loads_or_failed() -> None:
    for status in (LOADING, CRASHING):
        told = document(SPECULATING, *NODES, *LOADERS, *SERVED, drafts("n2", status))
        refused = told["nodes"][1]
        assert f"{DRAFT} (draft): inference/draft-loader-n2" in refused["message"]
        assert "-n inference draft-loader-n2 -c download" in refused["remedy"]
        assert " model-loader-n2" not in refused["remedy"]


def test_the_sentence_says_which_model_lacks_on_how_many_nodes() -> None:
    told = document(SPECULATING, *NODES, *LOADERS, *SERVED, drafts("n2", LOADING))
    assert told["summary"].startswith(
        "waits: none of 2 nodes has all its models, "
        f"1 of 2: node cache does not hold the model: {DRAFT} (draft), "
        f"1 of 2: node cache is still loading the model: {DRAFT} (draft); "
        "waits for a loader to put the model on a node, or a node's loader to finish; "
    )


def test_where_two_models_lack_on_a_node_both_are_told_together() -> None:
    told = document(SPECULATING, node("n1"), *LOADERS)
    (refused,) = told["nodes"]
    served, _, draft = refused["remedy"].partition(f"; for {DRAFT} (draft): ")
    assert served.startswith(f"for {MODEL}: ")
    assert "declare what is baked in" not in served
    declared = draft.partition("; or declare what is baked in: ")[2]
    assert declared == (
        "kubectl annotate node n1 modelcache.dev/provides=\"$(printf '%s\\n' "
        f'/var/lib{MODEL} {HOST_DRAFT})"; to end one alone would not help'
    )
    assert (
        f"1 of 1: node cache does not hold the model: {MODEL} and {DRAFT} (draft); waits for a "
        "node that has what it loads; "
    ) in told["summary"]


def test_what_is_declared_of_several_models_at_once_has_the_pod_fit() -> None:
    """A second annotation of the node would be refused, or take the place of the first."""
    (refused,) = document(SPECULATING, node("n1"), *LOADERS)["nodes"]
    command = refused["remedy"].partition("kubectl annotate node n1 ")[2].partition("; ")[0]
    shell = subprocess.run(
        ["sh", "-c", f"printf '%s' {command}"], check=True, capture_output=True, text=True
    )
    key, _, value = shell.stdout.partition("=")
    (there,) = document(SPECULATING, node("n1", annotations={key: value}), *LOADERS)["nodes"]
    assert there["fits"]


def test_a_pod_with_one_model_needs_no_name_for_it() -> None:
    told = document(serving(), node("n1"), *LOADERS)
    assert told["nodes"][0]["message"].startswith(
        "node cache does not hold the model: no loader pod on this node vouches for it; "
    )


def test_the_job_that_fills_a_second_claim_is_named() -> None:
    """Another one of the same claim writes something else."""
    known = (node("n1"), claim("main"), claim(), job("another", script=fetching("/models/x")))
    filling = job("fill", script=fetching("/models/sql"))
    (refused,) = document(ADAPTED, *known, filling)["nodes"]
    assert refused["reason"] == "ClaimFilling"
    assert "/lora/sql (adapter): job inference/fill has not" in refused["message"]
    assert refused["remedy"].endswith(f"kubectl logs -f {OF_JOB}")
    failed = job("fill", ("Failed",), script=fetching("/models/sql"))
    (refused,) = document(ADAPTED, *known, failed)["nodes"]
    assert refused["remedy"].endswith(f"kubectl logs {OF_JOB}")


def test_a_node_has_the_cached_model_though_a_claim_refuses_it() -> None:
    asker = serving("--lora-modules", "sql=/lora/sql", lora="model-store")
    told = document(
        asker, node("n1"), loader(), loader_pod("n1", READY), claim(),
        job("fill", script=fetching("/models/sql")),
    )  # fmt: skip
    assert told["nodes"][0]["state"] is None
    assert told["summary"].startswith(
        "waits: 1 of 1 nodes has the model, 1: a job is still writing the model to its claim: "
        "/lora/sql (adapter); waits for the job that writes the model to end; "
    )


def test_no_claim_is_advised_for_a_model_that_is_there() -> None:
    told = document(SPECULATING, *NODES, *LOADERS, *SERVED)
    assert "BetterStrategy" not in {warning["reason"] for warning in told["warnings"]}
