"""The two listeners: what each answers, health, readiness and metrics."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from prometheus_client.parser import text_string_to_metric_families

from extender.config import ExtenderConfiguration
from extender.serving.scope import HEALTH_PATHS, Scope, status_scope
from extender.serving.server import Server
from tests.serving.conftest import demo_service
from tests.serving.openapi import OPERATIONS
from tests.serving.running import GOOD, JSON, Running, answer_on, dead_kubeconfig, running

READ_ONLY = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/nodes",
    "/api/v1/models",
    "/api/v1/decisions",
    "/api/v1/waiting",
)
VERBS = ("filter", "prioritize", "preempt", "bind")
THREADS = 16
"""As many connections as the server has threads for one listener (``server.threads``)."""


@pytest.fixture(scope="module")
def unsynced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose apiserver does not answer."""
    folder = tmp_path_factory.mktemp("unsynced")
    with running(folder, "--kubeconfig", dead_kubeconfig(folder)) as started:
        yield started


# -- the status listener -------------------------------------------------------------------------


@pytest.mark.parametrize("path", READ_ONLY)
def test_on_loopback_both_listeners_answer_what_is_read_only(server: Running, path: str) -> None:
    assert server.ask("GET", path).status == 200
    assert server.ask("GET", path, at=server.status_address).status == 200


@pytest.fixture(scope="module")
def off_loopback() -> flask.Flask:
    """What serves a status listener on every address; its socket is bound, and nobody listens."""
    configuration = ExtenderConfiguration(status_listen="0.0.0.0:0")
    made = Server(demo_service(configuration), configuration)
    with socket.socket() as verbs, socket.socket() as status:
        verbs.bind(("127.0.0.1", 0))
        status.bind(("0.0.0.0", 0))
        made.cfg.when_ready(
            SimpleNamespace(LISTENERS=[SimpleNamespace(sock=sock) for sock in (verbs, status)])
        )
        app = made.load()
        app.config.update(VERBS=verbs.getsockname()[1], STATUS=status.getsockname()[1])
    return app


@pytest.mark.parametrize(("path", "method"), sorted({*OPERATIONS, ("/", "GET"), ("/new", "GET")}))
def test_a_status_listener_that_the_network_reaches_answers_health_and_metrics_and_nothing_else(
    off_loopback: flask.Flask, path: str, method: str
) -> None:
    """Neither what is read-only, nor a path that does not exist yet."""
    client = off_loopback.test_client()
    port = {"SERVER_PORT": str(off_loopback.config["STATUS"])}
    answer = client.open(path, method=method, json={}, environ_overrides=port)
    if path in HEALTH_PATHS:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 404
        assert answer.json == {"error": f"{path} is not served here; ask the address of --listen"}


@pytest.mark.parametrize("path", READ_ONLY)
def test_the_verbs_own_listener_still_answers_everything(
    off_loopback: flask.Flask, path: str
) -> None:
    port = {"SERVER_PORT": str(off_loopback.config["VERBS"])}
    answer = off_loopback.test_client().get(path, environ_overrides=port)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("127.0.0.1", Scope.READ_ONLY),
        ("127.8.8.8", Scope.READ_ONLY),
        ("::1", Scope.READ_ONLY),
        ("0.0.0.0", Scope.HEALTH),
        ("::", Scope.HEALTH),
        ("10.1.2.3", Scope.HEALTH),
        ("fe80::1", Scope.HEALTH),
    ],
)
def test_the_address_of_a_status_listener_says_what_it_answers(host: str, scope: Scope) -> None:
    assert status_scope(host, page=False) is scope
    open_to_all = Scope.PAGE if scope is Scope.HEALTH else scope
    assert status_scope(host, page=True) is open_to_all


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
def test_the_status_listener_serves_no_verb(server: Running, verb: str, method: str) -> None:
    answer = server.ask(method, f"/{verb}", b"{}", at=server.status_address)
    assert answer.status == 404
    assert answer.error() == f"/{verb} is not served here; ask the address of --listen"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "header", ["Host", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded", "SERVER-PORT"]
)
def test_no_header_opens_the_verbs_on_the_status_listener(
    server: Running, verb: str, header: str
) -> None:
    host, port = server.address
    for value in (f"{host}:{port}", str(port)):
        headers = {**JSON, header: value}
        answer = server.post(f"/{verb}", GOOD, headers=headers, at=server.status_address)
        assert answer.status in {400, 404}


def test_the_status_listener_explains_a_manifest_and_changes_nothing(server: Running) -> None:
    before = server.ask("GET", "/api/v1/decisions").body
    pod = {"kind": "Pod", "spec": {"containers": [{"name": "c"}]}}
    answer = server.post("/api/v1/explain", pod, at=server.status_address)
    assert answer.status == 200
    assert server.ask("GET", "/api/v1/decisions").body == before


def test_connections_that_never_finish_a_request_do_not_keep_the_verbs_waiting(
    server: Running,
) -> None:
    """The status listener is open to the cluster network; the verbs have threads of their own."""
    lingering = [server.connect(server.status_address) for _ in range(2 * THREADS)]
    try:
        for connection in lingering:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        assert server.answers_well()
    finally:
        for connection in lingering:
            connection.close()


def test_a_request_that_does_not_become_whole_is_cut_and_said(server: Running) -> None:
    """Half-sent requests on all threads of the verbs' own listener hold it up for seconds only."""
    mark = server.mark()
    lingering = [server.connect() for _ in range(THREADS)]
    try:
        for connection in lingering:
            connection.sendall(
                b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: 10\r\n\r\n{"
            )
        assert server.answers_well()
        for connection in lingering:
            answer = answer_on(connection)
            assert (answer.status, answer.error()) == (
                400,
                "the body ended early; send all that was announced",
            )
    finally:
        for connection in lingering:
            connection.close()
    events = [line["event"] for line in server.lines(mark)]
    assert events.count("request cut") == THREADS
    assert events.count("request refused") == THREADS
    assert "Traceback" not in server.log()


# -- health --------------------------------------------------------------------------------------


def test_a_server_that_knows_everything_is_alive_and_ready(server: Running) -> None:
    for path in ("/healthz", "/readyz"):
        answer = server.ask("GET", path)
        assert (answer.status, answer.body) == (200, b"ok\n")
        assert answer.headers["content-type"].startswith("text/plain")


def test_a_server_without_an_apiserver_is_alive_and_names_what_it_has_not_listed(
    unsynced: Running,
) -> None:
    assert unsynced.ask("GET", "/healthz").status == 200
    answer = unsynced.ask("GET", "/readyz")
    assert answer.status == 503
    lines = answer.body.decode().splitlines()
    missing = {line.removeprefix("not listed yet: ") for line in lines if "not listed" in line}
    assert {"Node", "Pod", "DaemonSet", "PersistentVolumeClaim"} <= missing


def test_a_server_without_knowledge_says_so_to_kube_scheduler_and_guesses_nothing(
    unsynced: Running,
) -> None:
    """An error makes kube-scheduler try again soon; prioritize must not fail the pod for it."""
    mark = unsynced.mark()
    answer = unsynced.post("/filter", GOOD)
    assert answer.status == 200
    assert answer.json()["Error"].startswith("model-cache-extender has not listed yet: ")
    ranked = unsynced.post("/prioritize", GOOD)
    assert ranked.json() == [{"Host": name, "Score": 0} for name in GOOD["NodeNames"]]
    said = [line for line in unsynced.lines(mark) if line["event"] == "not decided"]
    assert [(line["level"], line["pod"]) for line in said] == [("warning", "good")] * 2


# -- metrics -------------------------------------------------------------------------------------


def samples(server: Running) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(server.ask("GET", "/metrics").body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def sample(server: Running, name: str, **labels: str) -> float:
    key = f"model_cache_extender_{name}", frozenset(labels.items())
    return samples(server).get(key, 0.0)


def test_metrics_are_exposition_text_with_one_prefix(server: Running) -> None:
    answer = server.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = list(text_string_to_metric_families(answer.body.decode()))
    assert families
    for family in families:
        assert re.fullmatch(r"model_cache_extender_[a-z0-9_]+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type != "unknown", family.name


def test_no_label_grows_with_pods_or_nodes(server: Running) -> None:
    for number in range(20):
        pod: Any = {"metadata": {"name": f"grows-{number}", "uid": f"grows-{number}"}}
        server.post("/filter", {"Pod": pod, "NodeNames": [f"gpu-{number}"]})
    labels = {label for _, pairs in samples(server) for label in pairs}
    assert not [pair for pair in labels if "grows" in pair[1] or "gpu-" in pair[1]]


@pytest.mark.parametrize(
    ("body", "code"), [(b'{"Pod": {}, "NodeNames": []}', "200"), (b"{", "400")], ids=["good", "bad"]
)
def test_every_answer_is_counted_by_verb_and_status(
    server: Running, body: bytes, code: str
) -> None:
    before = sample(server, "requests_total", verb="filter", code=code)
    timed = sample(server, "request_duration_seconds_count", verb="filter")
    server.ask("POST", "/filter", body)
    assert sample(server, "requests_total", verb="filter", code=code) == before + 1
    assert sample(server, "request_duration_seconds_count", verb="filter") == timed + 1


def test_the_demo_cluster_is_in_the_metrics(server: Running) -> None:
    assert sample(server, "nodes") == 5
    assert sample(server, "memory_allocatable_bytes") == 5 * 64 * 2**30
    assert sample(server, "models", state="ready", evidence="declared") == 2
    assert sample(server, "stale") == 0


def test_what_is_not_synced_is_in_the_metrics(unsynced: Running) -> None:
    synced = [
        value for (name, _), value in samples(unsynced).items() if name.endswith("_watch_synced")
    ]
    assert len(synced) >= 8
    assert set(synced) == {0}
