"""More requests than threads: what has waited too long is given up, not computed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest

from extender.cluster.state import ClusterState
from extender.config import ExtenderConfiguration, ServerSection
from extender.serving.arrival import note_begin
from extender.serving.bindings import SEND_SECONDS, ApiBindings
from extender.serving.knowledge import FileKnowledge
from extender.serving.service import Service
from extender.verbs.context import TOO_LATE, Context
from extender.verbs.preempt import AGAIN_SECONDS
from extender.watch.client import connect
from tests.builders import node, tmpfs
from tests.serving.answering import answering, kubeconfig
from tests.serving.running import DEMO_CLUSTER, GOOD, Running, answer_on, running
from tests.serving.test_slow_clients import WHOLE
from tests.watch.harness import eventually

DEADLINE = 0.5
RAM = {
    "containers": [{"name": "main", "image": "busybox:1.37"}],
    "volumes": [{"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "20Gi"}}],
}
MORE_THAN_BUFFERS_HOLD = 16 * 2**20
FILTERED = 'model_cache_extender_request_duration_seconds_bucket{le="0.25",verb="filter"}'


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with one thread for whole requests, and a list that no socket's buffer takes."""
    folder = tmp_path_factory.mktemp("narrow")
    config = folder / "config.yaml"
    config.write_text(
        "apiVersion: modelcache.dev/v1alpha1\nkind: ExtenderConfiguration\n"
        f"server: {{threads: 1, deadlineSeconds: {DEADLINE}}}\n"
    )
    status = ("--status-listen", "127.0.0.1:0")
    with running(folder, "--snapshot", DEMO_CLUSTER, "--config", config, *status) as server:
        for number in range(MORE_THAN_BUFFERS_HOLD // 2**18):
            pod = {"metadata": {"name": "x" * 2**18, "uid": f"long-{number}"}}
            server.post("/filter", {"Pod": pod, "NodeNames": ["gpu-1"]})
        yield server


@contextmanager
def stuffed(server: Running) -> Iterator[None]:
    """The one thread writes to a client that does not read."""
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(server.address)
        deaf.sendall(b"GET /api/v1/decisions HTTP/1.1\r\nHost: x\r\n\r\n")
        assert deaf.recv(15) == b"HTTP/1.1 200 OK"
        yield


def metric(server: Running, name: str) -> float:
    text = server.ask("GET", "/metrics", at=server.status_address).body.decode()
    return next(float(row.split()[-1]) for row in text.splitlines() if row.startswith(name + " "))


def asked_while_stuffed(server: Running, request: bytes, seconds: float) -> Any:
    """Send a request that finds no thread for so long; return the JSON of its answer."""
    with server.connect() as connection:
        with stuffed(server):
            connection.sendall(request)
            time.sleep(seconds)
        answer = answer_on(connection)
        assert answer.status == 200
        return answer.json()


def test_what_waited_for_a_thread_longer_than_the_deadline_is_not_computed(
    narrow: Running,
) -> None:
    here, quick = narrow.mark(), metric(narrow, FILTERED)
    assert asked_while_stuffed(narrow, WHOLE, 2 * DEADLINE)["Error"] == TOO_LATE
    (given_up,) = (line for line in narrow.lines(here) if line["event"] != "request cut")
    assert (given_up["event"], given_up["reason"]) == ("not decided", TOO_LATE)
    assert metric(narrow, FILTERED) == quick, "the wait is part of the request's duration"
    assert eventually(narrow.answers_well), "the next one is in time again"


def test_what_waited_for_a_thread_less_long_is_computed(narrow: Running) -> None:
    """Judged where the answer was there by the deadline, which a busy machine may let go by."""

    def computed() -> bool:
        began = time.monotonic()
        answer = asked_while_stuffed(narrow, WHOLE, 0.0)
        if time.monotonic() - began < DEADLINE:
            assert answer["NodeNames"] == GOOD["NodeNames"]
        return bool(answer["NodeNames"] == GOOD["NodeNames"])

    assert eventually(computed, 30)


def test_the_status_listener_answers_while_the_verbs_have_no_thread(narrow: Running) -> None:
    with stuffed(narrow):
        assert narrow.ask("GET", "/readyz", at=narrow.status_address).status == 200
        assert narrow.ask("GET", "/api/v1/nodes", at=narrow.status_address).status == 200


@pytest.mark.parametrize(
    ("deadline", "waited", "sent"),
    [
        (4.0, 0.0, True),
        (4.0, SEND_SECONDS - 1.0, False),
        (8.0, SEND_SECONDS - 1.0, True),
        (8.0, 8.1 - SEND_SECONDS, False),
        (0.1, 0.0, True),
    ],
    ids=["at once", "late", "late with a long deadline", "too late for it", "a short deadline"],
)
def test_a_binding_is_sent_only_where_its_answer_can_come_in_time(
    deadline: float, waited: float, sent: bool, tmp_path: Path
) -> None:
    """Else kube-scheduler has given the pod up when it is bound."""
    state = ClusterState(clock=time.time)
    state.upsert(node("a"))
    context = Context(state=state)
    context.request(tmpfs("ram"))
    configuration = ExtenderConfiguration(server=ServerSection(deadline_seconds=deadline))
    asked = {"PodNamespace": "inference", "PodName": "ram", "PodUID": "uid-ram", "Node": "a"}

    def bind(service: Service) -> bytes:
        note_begin(time.monotonic() - waited)
        return service.bind(json.dumps(asked).encode())

    with answering() as apiserver:
        bindings = ApiBindings(connect(str(kubeconfig(apiserver.url, tmp_path))))
        service = Service(context, FileKnowledge(), configuration, bindings=bindings)
        answer = json.loads(copy_context().run(bind, service))
    assert answer["Error"] == ("" if sent else TOO_LATE)
    assert len(apiserver.seen) == sent
    assert state.reserved() == sent


def test_a_pod_whose_evictions_were_not_judged_in_time_is_tried_again_soon() -> None:
    """Not at once, which would be more of the same; kube-scheduler takes it for refused."""
    now = time.time()
    state = ClusterState(clock=lambda: now)
    state.upsert(node("a", memory="8Gi"))
    service = Service(Context(state=state), FileKnowledge(), ExtenderConfiguration())
    pod = {"metadata": {"name": "ram", "namespace": "x", "uid": "u"}, "spec": RAM}
    proposed = {"a": {"Pods": [{"UID": "v"}], "NumPDBViolations": 0}}

    def ask(verb: Callable[[bytes], bytes], **more: Any) -> Any:
        return json.loads(verb(json.dumps({"Pod": pod, **more}).encode()))

    def late() -> Any:
        note_begin(time.monotonic() - 60)
        return ask(service.preempt, NodeNameToMetaVictims=proposed)

    assert ask(service.filter, NodeNames=["a"])["NodeNames"] == []
    assert copy_context().run(late) == {"NodeNameToMetaVictims": {}}
    (waiting,) = service.waiting.all()
    assert waiting.again_at == pytest.approx(now + AGAIN_SECONDS)
    assert ask(service.preempt, NodeNameToMetaVictims=proposed) == {"NodeNameToMetaVictims": {}}
    (waiting,) = service.waiting.all()
    assert waiting.again_at is None, "it is known what it waits for"
