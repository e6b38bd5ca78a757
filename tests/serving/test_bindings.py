"""Bindings over real HTTP: what each answer of an apiserver, or none, means for bind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from extender.kube.objects import Pod
from extender.serving.bindings import ApiBindings
from extender.serving.pools import BIND_THREADS
from extender.serving.touching import REQUEUED_ANNOTATION
from extender.verbs.bind import Sent
from extender.verbs.doubt import Doubt
from extender.watch.client import connect
from extender.wire import BindArgs
from tests.serving.answering import Apiserver, answering, kubeconfig
from tests.watch.fake_apiserver import Exchange, FakeApiserver

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


ON_POD = 'Operation cannot be fulfilled on pods/binding "llama": '
INTERNAL = "Internal error occurred: "
SAID: list[tuple[int, str, Sent]] = [
    (200, "", Sent.DONE),
    (201, "", Sent.DONE),
    (0, "", Sent.LOST),
    (400, "because of this", Sent.REFUSED),
    (401, "because of this", Sent.REFUSED),
    (403, "because of this", Sent.REFUSED),
    (404, 'pods "llama" not found', Sent.CONFLICT),
    (409, f'{ON_POD}pod llama is already assigned to node "gpu-2"', Sent.CONFLICT),
    (409, f"{ON_POD}pod llama is being deleted, cannot be assigned to a host", Sent.CONFLICT),
    (409, f"{ON_POD}pod llama has non-empty .spec.schedulingGates", Sent.CONFLICT),
    (
        409,
        'Operation cannot be fulfilled on pods "llama": StorageError: invalid object, Code: 4, '
        "AdditionalErrorMsg: Precondition failed: UID in precondition: u-1, UID in object: u-2",
        Sent.CONFLICT,
    ),
    (409, f"{ON_POD}etcdserver: request timed out", Sent.UNCLEAR),
    (409, f"{ON_POD}context deadline exceeded", Sent.UNCLEAR),
    (409, 'admission webhook "w.example.com" denied the request: busy', Sent.REFUSED),
    (422, "because of this", Sent.REFUSED),
    (429, "too many requests", Sent.REFUSED),
    (500, f'{INTERNAL}failed calling webhook "w.example.com": connection refused', Sent.REFUSED),
    (500, 'admission webhook "w.example.com" denied the request: oops', Sent.REFUSED),
    (500, f"{INTERNAL}ValidatingAdmissionWebhook/w has panicked: oops", Sent.REFUSED),
    (500, f"{INTERNAL}resource quota evaluation timed out", Sent.REFUSED),
    (500, "This request caused apiserver to panic. Look in the logs.", Sent.UNCLEAR),
    (500, f"{INTERNAL}etcdserver: leader changed", Sent.UNCLEAR),
    (502, "", Sent.UNCLEAR),
    (503, "apiserver is shutting down", Sent.REFUSED),
    (503, "upstream connect error or disconnect/reset before headers", Sent.UNCLEAR),
    (504, "Timeout: request did not complete within the allotted timeout", Sent.UNCLEAR),
]


@pytest.mark.parametrize(("status", "said", "sent"), SAID)
def test_each_answer_is_told_apart_said_in_words_and_asked_for_once(
    apiserver: Apiserver, bindings: ApiBindings, status: int, said: str, sent: Sent
) -> None:
    """Only what the apiserver says before it writes proves that nothing was written."""
    apiserver.status = status
    apiserver.body = {"kind": "Status", "code": status, "message": said}
    answer = bindings.create(ARGS, {})
    assert answer.sent is sent
    if status >= 400:
        assert f"({status})" in answer.message
        assert said in answer.message
        assert ("not certain" in answer.message) == (sent is Sent.UNCLEAR)
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


def test_as_many_binds_as_there_are_threads_keep_their_connections(tmp_path: Any) -> None:
    """A connection that is not kept costs the next Binding a TLS handshake."""
    all_at_once = Barrier(BIND_THREADS)
    connections: set[Any] = set()

    def answer(exchange: Exchange) -> None:
        connections.add(exchange.handler.client_address)
        all_at_once.wait(30)
        exchange.refuse(404, "NotFound")

    with FakeApiserver() as api, ThreadPoolExecutor(BIND_THREADS) as binds:
        api.always["list"] = answer
        bindings = ApiBindings(connect(str(kubeconfig(api.url, tmp_path))))
        for _ in range(2):
            asked = [binds.submit(bindings.pod, "inference", "llama") for _ in range(BIND_THREADS)]
            assert [each.result() for each in asked] == [None] * BIND_THREADS
    assert len(connections) == BIND_THREADS


def test_a_pod_is_found_missing_or_unknown(apiserver: Apiserver, bindings: ApiBindings) -> None:
    apiserver.status, apiserver.body = 200, {"spec": {"nodeName": "gpu-2"}}
    found = bindings.pod("inference", "llama")
    assert isinstance(found, Pod)
    assert found.spec.node_name == "gpu-2"
    apiserver.status = 404
    assert bindings.pod("inference", "llama") is None
    apiserver.status, apiserver.body = 500, {"message": "etcd is away"}
    assert bindings.pod("inference", "llama") == "HTTP 500: etcd is away"


DOUBT = Doubt(namespace="inference", name="llama", uid="u-1", node="gpu-1", claim=1, seconds=5.0)


@pytest.mark.parametrize(
    ("first", "body", "found"),
    [
        ([], {"metadata": {"uid": "u-1"}, "spec": {"nodeName": "gpu-1"}}, "gpu-1"),
        ([404], {}, None),
        ([409], {"metadata": {"uid": "u-2"}}, ""),
        ([409], {"metadata": {"uid": "u-1"}, "message": "modified"}, "HTTP 409: modified"),
        ([403], {"message": "no right"}, "HTTP 403: no right"),
        ([0], {}, "ProtocolError"),
    ],
    ids=["there", "gone", "another by that name", "written meanwhile", "no right", "no answer"],
)
def test_a_doubt_is_asked_about_by_a_write_that_changes_no_more_than_the_mark(
    apiserver: Apiserver, bindings: ApiBindings, first: list[int], body: Any, found: str | None
) -> None:
    """A read could miss what the storage has yet to do; after a write it is too late for that."""
    apiserver.status, apiserver.first, apiserver.body = 200, first, body
    seen = bindings.written(DOUBT)
    if isinstance(seen, Pod):
        assert seen.spec.node_name == found
    else:
        assert (seen or "").startswith(found or "")
        assert (seen is None) == (found is None)
    (method, path, sent), *_ = apiserver.seen
    assert (method, path) == ("PATCH", f"{PATH}/status")
    assert sent["metadata"]["uid"] == "u-1"
    assert list(sent) == ["metadata"]
    assert list(sent["metadata"]["annotations"]) == [REQUEUED_ANNOTATION]
