"""Bindings over real HTTP: what each answer of an apiserver, or none, means for bind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from extender.kube.objects import Pod
from extender.serving.bindings import ApiBindings
from extender.verbs.bind import Sent
from extender.watch.client import connect
from extender.wire import BindArgs
from tests.serving.answering import Apiserver, answering, kubeconfig

ARGS = BindArgs(namespace="inference", name="llama", uid="u-1", node="gpu-1")
PATH = "/api/v1/namespaces/inference/pods/llama"


@pytest.fixture
def apiserver() -> Iterator[Apiserver]:
    with answering() as made:
        yield made


@pytest.fixture
def bindings(apiserver: Apiserver, tmp_path: Any) -> ApiBindings:
    return ApiBindings(connect(str(kubeconfig(apiserver.url, tmp_path))))


def test_the_binding_is_for_this_very_pod_and_carries_the_annotations(
    apiserver: Apiserver, bindings: ApiBindings
) -> None:
    assert bindings.create(ARGS, {"why": "because"}).sent is Sent.DONE
    ((method, path, sent),) = apiserver.seen
    assert (method, path) == ("POST", f"{PATH}/binding")
    assert sent["metadata"] == {
        "namespace": "inference",
        "name": "llama",
        "uid": "u-1",
        "annotations": {"why": "because"},
    }
    assert sent["target"] == {"apiVersion": "v1", "kind": "Node", "name": "gpu-1"}


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (200, Sent.DONE),
        (201, Sent.DONE),
        (0, Sent.LOST),
        (400, Sent.REFUSED),
        (401, Sent.REFUSED),
        (403, Sent.REFUSED),
        (404, Sent.CONFLICT),
        (409, Sent.CONFLICT),
        (422, Sent.REFUSED),
        (429, Sent.REFUSED),
        (500, Sent.LOST),
        (503, Sent.LOST),
        (504, Sent.LOST),
    ],
)
def test_each_answer_is_told_apart_and_asked_for_once(
    apiserver: Apiserver, bindings: ApiBindings, status: int, sent: Sent
) -> None:
    apiserver.status = status
    apiserver.body = {"kind": "Status", "code": status, "message": "because of this"}
    answer = bindings.create(ARGS, {})
    assert answer.sent is sent
    if status >= 400:
        assert str(status) in answer.message
        assert "because of this" in answer.message
    assert len(apiserver.seen) == 1


def test_a_missing_right_is_named(apiserver: Apiserver, bindings: ApiBindings) -> None:
    apiserver.status = 403
    assert "pods/binding" in bindings.create(ARGS, {}).message


def test_an_apiserver_that_is_not_there_has_not_done_it(tmp_path: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bindings = ApiBindings(connect(str(kubeconfig(f"http://127.0.0.1:{port}", tmp_path))))
    assert bindings.create(ARGS, {}).sent is Sent.REFUSED
    assert isinstance(bindings.pod("inference", "llama"), str)


def test_a_pod_is_found_missing_or_unknown(apiserver: Apiserver, bindings: ApiBindings) -> None:
    apiserver.status, apiserver.body = 200, {"spec": {"nodeName": "gpu-2"}}
    found = bindings.pod("inference", "llama")
    assert isinstance(found, Pod)
    assert found.spec.node_name == "gpu-2"
    apiserver.status = 404
    assert bindings.pod("inference", "llama") is None
    apiserver.status, apiserver.body = 500, {"message": "etcd is away"}
    assert bindings.pod("inference", "llama") == "HTTP 500: etcd is away"
