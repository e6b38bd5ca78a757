"""The first sentence that an operator reads: where a pod can go, or why it waits."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from extender.cluster.state import ClusterState
from extender.explain.document import explain
from extender.kube.objects import KubeObject, Node, Pod
from extender.placement.reasons import TEXTS, WAITS_FOR, Reason
from extender.verbs.context import Context
from tests.builders import (
    CRASHING,
    LOADING,
    READY,
    claim,
    job,
    loader,
    loader_pod,
    node,
    owned,
    tmpfs,
    vllm,
)


def document(asker: Pod, *objects: KubeObject) -> dict[str, Any]:
    state = ClusterState(clock=lambda: 1_000.0)
    for obj in objects:
        state.upsert(obj)
    return explain(asker, Context(state=state))


def first(asker: Pod, *objects: KubeObject) -> str:
    """What the summary says before what the pod asks for."""
    summary: str = document(asker, *objects)["summary"]
    said, asks, _ = summary.partition("; asks for ")
    assert asks
    return said


def cached(*nodes: str, of: Sequence[str] = "abcd") -> list[KubeObject]:
    """A loader that is Ready on some nodes of a cluster."""
    return [*(node(name) for name in of), loader(), *(loader_pod(n, READY) for n in nodes)]


def cordoned(name: str) -> Node:
    found = node(name)
    spec = msgspec.structs.replace(found.spec, unschedulable=True)
    return msgspec.structs.replace(found, spec=spec)


def important(found: Pod, priority: int) -> Pod:
    return msgspec.structs.replace(
        found, spec=msgspec.structs.replace(found.spec, priority=priority)
    )


def test_where_it_fits_comes_first() -> None:
    assert first(vllm(), *cached("a", "b")).startswith("fits on 2 of 4 nodes, soonest on a (about")


def test_a_pod_that_runs_is_told_by_its_node() -> None:
    running = vllm(on="a")
    assert first(running, *cached("a"), running).startswith("runs on a; fits on 1 of 4 nodes")


def test_those_that_have_the_model_lack_memory_and_one_pod_is_in_the_way() -> None:
    full = [tmpfs(f"t{n}", size="60Gi", memory="1Gi", on=n) for n in "ab"]
    said = first(vllm(memory="12Gi"), *cached("a", "b"), *full)
    assert said == (
        "waits: 2 of 4 nodes have the model, all 2 lack 9.0 GiB of memory; node a would fit if "
        "pod inference/ta (priority 0, 61.0 GiB) went"
    )


def test_the_least_important_pod_is_named_and_never_a_more_important_one() -> None:
    crowd = [
        important(tmpfs("high", size="30Gi", on="a"), 100),
        important(tmpfs("low", size="30Gi", on="a"), -5),
    ]
    asker = important(vllm(memory="20Gi"), 10)
    assert "if pod inference/low (priority -5" in first(asker, *cached("a"), *crowd)
    alone = [important(tmpfs("high", size="60Gi", on="a"), 100)]
    assert "would fit" not in first(asker, *cached("a"), *alone)


def test_a_pod_that_is_too_small_to_help_is_not_named() -> None:
    crowd = [tmpfs(f"t{i}", size="10Gi", on="a") for i in range(5)]
    assert "would fit" not in first(vllm(memory="40Gi"), *cached("a"), *crowd)


@pytest.mark.parametrize("kind", ["DaemonSet", "Node"])
def test_a_pod_that_comes_back_to_its_node_is_never_named(kind: str) -> None:
    """Evicted, a DaemonSet's or a static pod is there again before anybody else."""
    taker = owned(tmpfs("agent", size="60Gi", on="a"), kind)
    assert "agent" not in first(vllm(memory="12Gi"), *cached("a"), taker)


def test_a_pod_that_is_leaving_already_need_not_be_evicted() -> None:
    leaving = tmpfs("old", size="60Gi", on="a")
    metadata = msgspec.structs.replace(leaving.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    leaving = important(msgspec.structs.replace(leaving, metadata=metadata), 100)
    said = first(vllm(memory="12Gi"), *cached("a"), leaving)
    assert said.endswith(
        "node a fits once pod inference/old (61.0 GiB) is gone, which is being deleted"
    )


def test_what_daemons_take_never_gets_free() -> None:
    """64 GiB would be enough for 60, but for the agent that stays."""
    taker = owned(tmpfs("agent", size="9Gi", memory="1Gi", on="a"), "DaemonSet")
    said = first(vllm(memory="60Gi"), *cached("a", of="a"), taker)
    assert said.endswith(
        "; no node is large enough: on a 6.0 GiB of memory would lack even if all pods left that "
        "can; waits for a node that is large enough"
    )


def test_where_some_node_is_large_enough_nothing_is_said_of_sizes() -> None:
    objects = [node("small", memory="8Gi"), node("a"), tmpfs("t", size="60Gi", on="a")]
    assert "large enough:" not in first(tmpfs(size="20Gi"), *objects)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        (cached(), "waits: none of 4 nodes has the model"),
        (
            [*cached(), loader_pod("a", LOADING)],
            "waits: none of 4 nodes has the model, 1 of 4: node cache is still loading the model, "
            "3 of 4: node cache does not hold the model; waits for ",
        ),
        (
            [*cached(), *(loader_pod(name, CRASHING) for name in "abcd")],
            "waits: none of 4 nodes has the model, 4 of 4: node cache failed to load the model; ",
        ),
        (
            [
                *cached(), loader_pod("a", READY), tmpfs(size="60Gi", on="a"),
                loader_pod("b", LOADING), loader_pod("c", CRASHING),
            ],
            "waits: 1 of 4 nodes has the model, it lacks 5.0 GiB of memory, "
            "1 of 4: node cache is still loading the model, "
            "1 of 4: node cache failed to load the model, "
            "1 of 4: node cache does not hold the model; ",
        ),
        (
            [*cached(of="ab"), cordoned("c"), loader_pod("c", LOADING)],
            "waits: none of 3 nodes has the model, 1 of 3: node cache is still loading the model "
            "and node is cordoned, 2 of 3: node cache does not hold the model; ",
        ),
        ([*cached("a", of="a"), tmpfs(size="60Gi", on="a")], "waits: 1 of 1 nodes has the model"),
    ],
    ids=["nowhere", "loading", "failed", "each its own", "loading and cordoned", "one node"],
)  # fmt: skip
def test_who_has_the_model_is_told(objects: list[KubeObject], said: str) -> None:
    assert first(vllm(), *objects).startswith(said)


def test_memory_alone_is_told_by_what_lacks_at_the_least() -> None:
    nodes = [node("a", memory="16Gi"), node("b", memory="10Gi")]
    said = first(tmpfs(size="20Gi", memory="1Gi"), *nodes)
    assert said == (
        "waits: all 2 nodes lack 5.0 GiB or more of memory (a lacks least); no node is large "
        "enough: on a 5.0 GiB of memory would lack even if all pods left that can; waits for a "
        "node that is large enough"
    )


def test_a_claim_is_told_by_what_is_wrong_with_it() -> None:
    asker = vllm(volume={"persistentVolumeClaim": {"claimName": "none", "readOnly": True}})
    assert first(asker, node("a")) == (
        "waits: 1 of 1: claim none does not exist; waits for its claim to be created"
    )


def test_what_would_end_the_wait_is_told_that_of_the_most_nodes_first() -> None:
    said = first(vllm(), *cached(), loader_pod("a", LOADING))
    assert said.endswith(
        "; waits for a loader to put the model on a node, or a node's loader to finish"
    )


def test_no_nodes_is_told() -> None:
    assert first(vllm()) == "there are no nodes"


def test_every_reason_has_its_words() -> None:
    assert set(TEXTS) == set(WAITS_FOR) == set(Reason)


# -- remedies --------------------------------------------------------------------------------------

STORE = {"persistentVolumeClaim": {"claimName": "model-store", "readOnly": True}}
CLAIM = vllm(volume=STORE)
REMEDIES: dict[str, tuple[Pod, list[KubeObject], str]] = {
    "ModelAbsent": (vllm(), cached(), "kubectl annotate node a modelcache.dev/provides=/var/lib"),
    "ModelLoading": (
        vllm(), [*cached(of="a"), loader_pod("a", LOADING)],
        "kubectl logs -f -n inference model-loader-a -c download",
    ),
    "ModelFailed": (
        vllm(), [*cached(of="a"), loader_pod("a", CRASHING)],
        "kubectl logs -n inference model-loader-a -c download --previous",
    ),
    "InsufficientMemory": (
        tmpfs(size="70Gi", memory="1Gi"), [node("a")], "spec.resources.requests.memory: 71Gi",
    ),
    "ClaimMissing": (CLAIM, [node("a")], "kubectl get persistentvolumeclaims -n inference"),
    "ClaimNotBound": (
        CLAIM, [node("a"), claim(phase="Pending")],
        "kubectl describe persistentvolumeclaim -n inference model-store",
    ),
    "ClaimFilling": (
        CLAIM, [node("a"), claim(), job("fill")], "kubectl logs -f -n inference job/fill",
    ),
    "ClaimFillFailed": (
        CLAIM, [node("a"), claim(), job("fill", ("Failed",))],
        "kubectl logs -n inference job/fill --all-containers --ignore-errors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REMEDIES)
def test_every_refusal_has_a_remedy_to_paste(reason: str) -> None:
    asker, objects, said = REMEDIES[reason]
    refused = document(asker, *objects)["nodes"][0]
    assert refused["reason"] == reason
    assert said in refused["remedy"]
    assert refused["message"].endswith(refused["remedy"])


HOSTILE = "x$(reboot)"


def test_names_in_commands_mean_nothing_else_to_a_shell() -> None:
    """A dump is somebody's file: no apiserver has looked at the names in it."""
    store = {"persistentVolumeClaim": {"claimName": HOSTILE, "readOnly": True}}
    held = [node(HOSTILE), loader(HOSTILE, HOSTILE), loader_pod(HOSTILE, CRASHING)]
    askers: list[tuple[Pod, list[KubeObject]]] = [
        (vllm(), [node(HOSTILE), loader()]),
        (vllm(), [*held, loader()]),
        (vllm(), [cordoned(HOSTILE)]),
        (vllm(memory="60Gi"), [node(HOSTILE), tmpfs(memory="9Gi", on=HOSTILE)]),
        (vllm(volume=store), [node("a"), claim(HOSTILE, phase="Pending")]),
    ]  # fmt: skip
    for asker, objects in askers:
        (refused,) = document(asker, *objects)["nodes"]
        command = refused["remedy"].partition("kubectl ")[2]
        assert HOSTILE in command
        assert HOSTILE not in re.sub(r"'[^']*'", "", command)


def test_a_node_that_provides_something_already_keeps_it() -> None:
    """``kubectl annotate`` refuses to change a value without being told, and replaces all of it."""
    baked = {"modelcache.dev/provides": "/opt/it's\n/opt/b"}
    (refused,) = document(vllm(), node("a", annotations=baked), loader())["nodes"]
    command = refused["remedy"].partition("declare what is baked in: ")[2]
    said = subprocess.run(
        ["sh", "-c", command.replace("kubectl", "printf '%s;'")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.endswith(
        ";modelcache.dev/provides=/opt/it's\n/opt/b\n/var/lib/models/llama-3.1-8b-instruct;"
    )


def test_a_pod_that_only_requests_is_told_what_would_fit() -> None:
    (refused,) = document(vllm(memory="40Gi"), *cached("a", of="a"), tmpfs(size="40Gi", on="a"))[
        "nodes"
    ]
    assert "it would fit with resources.requests.memory: 23Gi" in refused["remedy"]
