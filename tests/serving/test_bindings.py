"""Bindings over real HTTP: what each answer of an apiserver, or none, means for bind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import msgspec
import pytest
import yaml
from prometheus_client import generate_latest

from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration
from extender.kube.objects import LeaseSpec, Pod
from extender.serving.bindings import ApiBindings
from extender.serving.knowledge import FileKnowledge
from extender.serving.leadership import Fence
from extender.serving.pools import BIND_THREADS
from extender.serving.service import Service
from extender.serving.touching import REQUEUED_ANNOTATION
from extender.verbs.bind import Sent
from extender.verbs.context import Context
from extender.verbs.doubt import Doubt
from extender.watch.client import connect
from extender.wire import BindArgs
from tests.builders import node, tmpfs
from tests.controlplane.processes import free_port
from tests.serving.answering import Apiserver, answering, kubeconfig
from tests.watch.fake_apiserver import Exchange, FakeApiserver

ARGS = BindArgs(namespace="inference", name="llama", uid="u-1", node="gpu-1")
BIND = b'{"PodNamespace": "inference", "PodName": "ram", "PodUID": "uid-ram", "Node": "gpu-1"}'
PATH = "/api/v1/namespaces/inference/pods/llama"
OPEN = str
"""A fence that nothing closes."""


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
    assert bindings.create(ARGS, {"why": "because"}, OPEN).sent is Sent.DONE
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
    answer = bindings.create(ARGS, {}, OPEN)
    assert answer.sent is sent
    if status >= 400:
        assert f"({status})" in answer.message
        assert said in answer.message
        assert ("not certain" in answer.message) == (sent is Sent.UNCLEAR)
    assert len(apiserver.seen) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_what_a_gateway_says_is_no_answer_of_the_apiserver(
    apiserver: Apiserver, bindings: ApiBindings, status: int
) -> None:
    """It has given up; the apiserver may go on for as long as it gives a request."""
    apiserver.status, apiserver.body = status, "<html>Gateway Time-out</html>"
    answer = bindings.create(ARGS, {}, OPEN)
    assert answer.sent is Sent.LOST
    assert f"a gateway before it did ({status})" in answer.message


def test_a_missing_right_is_named(apiserver: Apiserver, bindings: ApiBindings) -> None:
    apiserver.status = 403
    assert "pods/binding" in bindings.create(ARGS, {}, OPEN).message


def test_an_apiserver_that_is_not_there_has_not_done_it(tmp_path: Any) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    bindings = ApiBindings(connect(str(kubeconfig(nobody, tmp_path))))
    assert bindings.create(ARGS, {}, OPEN).sent is Sent.REFUSED
    assert isinstance(bindings.pod("inference", "llama"), str)


PLUGIN = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo >>asked
[ -e slow ] && touch waited
cat <<'END'
{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
 "status": {"token": "from-the-plugin", "expirationTimestamp": "2026-01-01T00:00:00Z"}}
END
"""
"""Its token has always expired, so that every request asks for another one."""


def with_plugin(url: str, folder: Path) -> Path:
    """Write a kubeconfig whose token comes from the plugin.

    Where it finds ``slow``, it leaves ``waited``: more time has gone by than it really took.
    """
    plugin = folder / "plugin"
    plugin.write_text(PLUGIN, encoding="utf-8")
    plugin.chmod(0o755)
    config: Path = kubeconfig(url, folder)
    document = yaml.safe_load(config.read_text(encoding="utf-8"))
    document["users"][0]["user"]["exec"] = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(plugin),
        "interactiveMode": "Never",
    }
    config.write_text(yaml.safe_dump(document), encoding="utf-8")
    return config


def test_a_plugin_that_takes_longer_than_the_lead_lasts_keeps_the_binding_from_the_apiserver(
    apiserver: Apiserver, tmp_path: Path
) -> None:
    """The fence is open when bind asks it first, and its lead has run out when the token is there.

    Its clock goes on only where the test says so. The process counts as old enough.
    """
    began = 0.0

    def clock() -> float:
        return began + (10.0 if (tmp_path / "waited").exists() else 0.0)

    fence = Fence("pod-a", monotonic=clock, now=clock)
    began = 60.0
    renewed = [f"1970-01-01T00:01:{seconds:02}Z" for seconds in (0, 10)]
    lease = LeaseSpec(holder_identity="pod-a_1", renew_time=renewed[0], lease_duration_seconds=6)
    fence.observe(lease, asked_at=clock())
    state = ClusterState(clock=time.time, steady=time.monotonic)
    state.upsert(node("gpu-1"))
    context = Context(state=state, fence=fence.closed)
    context.request(tmpfs("ram"))
    bindings = ApiBindings(connect(str(with_plugin(apiserver.url, tmp_path))))
    service = Service(context, FileKnowledge(), ExtenderConfiguration(), bindings=bindings)
    (tmp_path / "slow").touch()
    before = (tmp_path / "asked").read_text(encoding="utf-8")
    assert fence.closed() == ""
    answer = json.loads(service.bind(BIND))
    assert "the binding was not sent: the lease of kube-scheduler was not seen" in answer["Error"]
    assert "its credential and its connection were waited for" in answer["Error"]
    assert (tmp_path / "asked").read_text(encoding="utf-8") > before
    assert apiserver.seen == []
    assert state.reserved() == 0
    (tmp_path / "slow").unlink()
    for renewal in renewed:
        fence.observe(msgspec.structs.replace(lease, renew_time=renewal), asked_at=clock())
    assert json.loads(service.bind(BIND)) == {"Error": ""}
    counted = generate_latest(service.metrics.registry).decode()
    assert 'model_cache_extender_binds_total{outcome="notSent"} 1.0' in counted
    assert 'model_cache_extender_binds_total{outcome="bound"} 1.0' in counted


def test_as_many_binds_as_there_are_threads_keep_their_connections(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is not kept costs the next Binding a TLS handshake."""
    monkeypatch.setattr("extender.serving.bindings.LOOK_UP_SECONDS", 30.0)  # all wait for the last
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
