"""The pods of a node, with claims on its own disk followed; what cannot be told is an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extender.errors import NotRemovedError
from extender.kube.times import time_text
from extender.loader.node_pods import UNBOUND_SECONDS, NodePods
from extender.loader.usage import models_in_use
from tests.loader.cluster import apiserver
from tests.serving.answering import Apiserver

START = 1_790_000_000.0
CACHE = "/var/lib/models"
PATHS = ("llama", "org/other")
CLAIM = "/api/v1/namespaces/ml/persistentvolumeclaims/models"
OWN_CLAIM = "/api/v1/namespaces/ml/persistentvolumeclaims/server-models"
VOLUME = "/api/v1/persistentvolumes/disk"
BOUND = (200, {"metadata": {"name": "models"}, "spec": {"volumeName": "disk"}})
GONE = (404, {"kind": "Status", "message": "not found"})
FORBIDDEN = (403, {"kind": "Status", "message": "is forbidden"})
BY_CLAIM = {"persistentVolumeClaim": {"claimName": "models"}}

Desk = tuple[Apiserver, NodePods]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with apiserver(tmp_path) as (api, transport):
        show(api, BY_CLAIM)
        yield api, NodePods(transport, "n1", clock=lambda: START + 1)


def show(
    api: Apiserver, source: dict[str, Any], uid: str = "u", model: str = "/m/llama", **status: Any
) -> None:
    """Let one pod be on the node, that serves a model from a volume of this source."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.11.0",
        "args": ["--model", model],
        "volumeMounts": [{"name": "models", "mountPath": "/m"}],
    }
    pod = {
        "metadata": {
            "name": "server", "namespace": "ml", "uid": uid, "creationTimestamp": time_text(START),
        },
        "spec": {"containers": [container], "volumes": [{"name": "models", **source}]},
        "status": {"phase": "Pending", **status},
    }  # fmt: skip
    pods = {"metadata": {"resourceVersion": "1"}, "items": [pod]}
    api.at = {"/api/v1/pods": (200, pods), CLAIM: BOUND, OWN_CLAIM: BOUND}
    at(api, {"local": {"path": CACHE}})


def at(api: Apiserver, source: dict[str, Any]) -> None:
    api.at[VOLUME] = (200, {"metadata": {"name": "disk"}, "spec": source})


def used(pods: NodePods) -> set[str]:
    return models_in_use(pods(), CACHE, PATHS)


@pytest.mark.parametrize(
    ("source", "model", "expected"),
    [
        ({"local": {"path": CACHE}}, "/m/llama", {"llama"}),
        ({"hostPath": {"path": CACHE}}, "/m/llama", {"llama"}),
        ({"local": {"path": "/var/lib"}}, "/m/models/org/other", {"org/other"}),
        ({"local": {"path": f"{CACHE}/org"}}, "/m/other", {"org/other"}),
        ({"local": {"path": CACHE}}, "$(UNKNOWN)", set(PATHS)),
        ({"local": {"path": "/mnt/other"}}, "/m/llama", set()),
        ({"nfs": {"server": "192.0.2.1", "path": CACHE}}, "/m/llama", set()),
        ({"csi": {"driver": "d", "volumeHandle": "h"}}, "/m/llama", set()),
    ],
    ids=[
        "local", "hostPath", "above", "below", "a model that cannot be told", "elsewhere",
        "of a server", "of a driver",
    ],
)  # fmt: skip
def test_a_claim_is_where_its_volume_is(
    desk: Desk, source: dict[str, Any], model: str, expected: set[str]
) -> None:
    api, pods = desk
    show(api, BY_CLAIM, model=model)
    at(api, source)
    assert used(pods) == expected


def test_the_claim_of_an_ephemeral_volume_is_followed_by_the_name_it_has(desk: Desk) -> None:
    api, pods = desk
    show(api, {"ephemeral": {"volumeClaimTemplate": {}}})
    del api.at[CLAIM]
    assert used(pods) == {"llama"}


def test_a_claim_is_asked_for_once_for_each_pod(desk: Desk) -> None:
    api, pods = desk
    for _ in range(3):
        assert used(pods) == {"llama"}
    asked = [path.partition("?")[0] for _, path, _ in api.seen]
    assert asked == ["/api/v1/pods", CLAIM, VOLUME, *["/api/v1/pods"] * 2]
    show(api, BY_CLAIM, uid="another")
    at(api, {"local": {"path": "/mnt"}})
    assert used(pods) == set()


def test_without_claims_no_more_is_asked_than_the_pods(desk: Desk) -> None:
    api, pods = desk
    show(api, {"hostPath": {"path": CACHE}})
    assert used(pods) == {"llama"}
    assert len(api.seen) == 1


@pytest.mark.parametrize("path", [CLAIM, VOLUME])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (GONE, "claim models of pod ml/server is not there or not bound"),
        (FORBIDDEN, "right to get nodes, persistentvolumeclaims and persistentvolumes"),
        ((500, {}), "HTTP 500"),
        ((0, {}), "which models are in use cannot be known"),
        ((200, {"spec": 1}), "spec"),
    ],
    ids=["not there", "forbidden", "a fault", "no answer", "unreadable"],
)
def test_where_a_claim_cannot_be_followed_nothing_is_known_to_be_unused(
    desk: Desk, path: str, answer: tuple[int, Any], said: str
) -> None:
    api, pods = desk
    api.at[path] = answer
    with pytest.raises(NotRemovedError, match=said):
        pods()


def test_a_claim_that_is_not_bound_yet_may_become_anything(desk: Desk) -> None:
    api, pods = desk
    api.at[CLAIM] = (200, {"metadata": {"name": "models"}})
    with pytest.raises(NotRemovedError, match="bind it, or delete the pod"):
        pods()
    api.at[CLAIM] = BOUND
    assert used(pods) == {"llama"}


WAITS = {"state": {"waiting": {"reason": "ContainerCreating"}}}
RAN = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 1}


@pytest.mark.parametrize("path", [CLAIM, VOLUME])
@pytest.mark.parametrize("status", [{}, {"containerStatuses": [WAITS]}])
def test_a_pod_that_can_never_start_for_want_of_its_claim_keeps_nothing_for_ever(
    tmp_path: Path, path: str, status: dict[str, Any]
) -> None:
    now = START
    with apiserver(tmp_path) as (api, transport):
        pods = NodePods(transport, "n1", clock=lambda: now)
        show(api, BY_CLAIM, startTime=time_text(START + 60), **status)
        api.at[path] = GONE
        now += 60 + UNBOUND_SECONDS - 1
        with pytest.raises(NotRemovedError):
            pods()
        now += 1
        assert used(pods) == set()
        api.at |= {CLAIM: BOUND}
        at(api, {"local": {"path": CACHE}})
        assert used(pods) == {"llama"}  # it came after all


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Running"},
        {"containerStatuses": [RAN]},
        {"initContainerStatuses": [{"state": {"running": {}}}]},
        {"initContainerStatuses": [{"state": {"terminated": {}}}]},
    ],
    ids=["running", "restarted", "an init container runs", "an init container ran"],
)
def test_a_pod_that_has_run_may_still_read_by_a_claim_that_somebody_deleted(
    tmp_path: Path, status: dict[str, Any]
) -> None:
    with apiserver(tmp_path) as (api, transport):
        show(api, BY_CLAIM, **status)
        api.at[CLAIM] = GONE
        with pytest.raises(NotRemovedError):
            NodePods(transport, "n1", clock=lambda: START + 10 * UNBOUND_SECONDS)()


def test_a_name_of_no_node_is_none_whose_models_nobody_reads(desk: Desk) -> None:
    api, pods = desk
    api.at["/api/v1/nodes/n1"] = (200, {"metadata": {"name": "n1"}})
    pods.expect_node()
    for answer, said in (
        (GONE, "there is no node n1; correct its name"),
        (FORBIDDEN, "to get nodes"),
    ):
        api.at["/api/v1/nodes/n1"] = answer
        with pytest.raises(NotRemovedError, match=f"{said}.*cannot be known"):
            pods.expect_node()
