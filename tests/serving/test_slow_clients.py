"""Clients that are slow, idle, greedy or gone: none of them keeps a decision waiting."""

from __future__ import annotations

import contextlib
import itertools
import resource
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.authority import CLIENT
from tests.serving.running import DEMO_CLUSTER, GOOD, GRACE_SECONDS, Running, answer_on, running
from tests.serving.site import Site
from tests.serving.test_tls import connect, filtered, serving

PATIENCE = 5.0
"""Seconds until kube-scheduler gives a call up (``httpTimeout``): no answer may take longer."""
SOON = 2.0
"""What half of the answers take less than, far more than one needs: who waits for slow clients does
so every time, and a busy machine does not."""
MANY = 200
MOST = 10_000
THREADS = 16
HEAD = b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GOOD_BODY = msgspec.json.encode(GOOD)
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD_BODY) + GOOD_BODY
Address = tuple[str, int]


@pytest.fixture(autouse=True)
def enough_files() -> Iterator[None]:
    """Let this process, and the servers that it starts, have what files they may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, MOST + 1_000)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


_callers = itertools.cycle(f"127.0.0.{last}" for last in range(2, 200))


@contextlib.contextmanager
def opened(address: Address, number: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say a few bytes and then nothing.

    They come from many addresses: one has ports for 28,000 in the minute that they stay taken.
    """
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(number):
            caller = (next(_callers), 0)
            connection = socket.create_connection(address, timeout=30, source_address=caller)
            connections.append(stack.enter_context(connection))
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
        yield connections


def timed(answered_well: Callable[[], bool]) -> float:
    """Seconds until a good answer."""
    begun = time.monotonic()
    assert answered_well()
    return time.monotonic() - begun


def assert_soon(*asked: list[float]) -> None:
    """Of each kind of question, nobody was kept waiting."""
    for took in asked:
        assert max(took) < PATIENCE, took
        assert statistics.median(took) < SOON, took


def is_alive(server: Running) -> bool:
    assert server.status_address is not None
    return server.ask("GET", "/healthz", at=server.status_address).status == 200


def assert_decides_soon(server: Running) -> None:
    """New connections are answered, and the kubelet's probe is."""
    decisions, probes = [], []
    for _ in range(5):
        decisions.append(timed(server.answers_well))
        probes.append(timed(lambda: is_alive(server)))
    assert_soon(decisions, probes)


def addresses(server: Running) -> dict[str, Address]:
    assert server.status_address is not None
    return {"verbs": server.address, "status": server.status_address}


@pytest.mark.parametrize("listener", ["verbs", "status"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST /filter HT",
        HEAD,
        HEAD + b"Content-Length: 10\r\n\r\n{",
        HEAD + b"Content-Length: 10000000000\r\n\r\n{",
        HEAD + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"GET /healthz HTTP/1.1\r\nContent-Length: 10\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=[
        "nothing", "half a line", "half the headers", "half a body", "a huge body",
        "a body that waits for leave", "half a chunk", "half a probe", "half a TLS greeting",
    ],
)  # fmt: skip
def test_two_hundred_half_sent_requests_keep_no_decision_waiting(
    server: Running, listener: str, data: bytes
) -> None:
    with opened(addresses(server)[listener], MANY, data):
        assert_decides_soon(server)


@pytest.mark.parametrize("listener", ["verbs", "status"])
def test_a_byte_now_and_then_keeps_no_decision_waiting(server: Running, listener: str) -> None:
    decisions, probes = [], []
    with opened(addresses(server)[listener], MANY) as connections:
        for position in range(10):
            for connection in connections:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(WHOLE[position : position + 1])
            decisions.append(timed(server.answers_well))
            probes.append(timed(lambda: is_alive(server)))
    assert_soon(decisions, probes)


@pytest.mark.parametrize("listener", ["verbs", "status"])
@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_ten_thousand_idle_connections_keep_no_decision_waiting(
    server: Running, listener: str, said: bytes
) -> None:
    """Also where each has been answered once, and is kept for another request.

    As many as this process may have files, where that is less.
    """
    number = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    assert server.answers_well()
    with opened(addresses(server)[listener], number, said) as connections:
        for connection in connections if said else ():
            with contextlib.suppress(ConnectionError):
                connection.recv(4096)  # all are idle only then; a busy machine takes long to answer
        assert_decides_soon(server)
    assert "Traceback" not in server.log()


def test_strangers_never_displace_a_client_that_has_been_answered(server: Running) -> None:
    with server.connect() as kept:
        kept.sendall(WHOLE)
        assert answer_on(kept).status == 200
        with opened(server.address, 3 * MANY), opened(addresses(server)["status"], 3 * MANY):
            kept.sendall(WHOLE)
            assert answer_on(kept).status == 200


def test_more_idle_connections_than_a_listener_keeps_lose_the_oldest(server: Running) -> None:
    with opened(server.address, 2 * MANY) as connections:
        assert server.answers_well()
        oldest, newest = connections[0], connections[-1]
        assert oldest.recv(1) == b"", "closed"
        newest.sendall(WHOLE)
        assert answer_on(newest).status == 200


def test_clients_that_do_not_hang_up_keep_no_decision_waiting(server: Running) -> None:
    """The end of a connection is not waited for: with HTTP/1.0 it comes after each answer."""
    with opened(addresses(server)["status"], 50, b"GET /healthz HTTP/1.0\r\n\r\n"):
        assert_decides_soon(server)


def test_clients_that_do_not_read_their_answers_keep_no_probe_waiting(server: Running) -> None:
    for number in range(100):
        pod = {"metadata": {"name": f"{number}-" + "x" * 30_000, "uid": f"long-{number}"}}
        server.post("/filter", {"Pod": pod, "NodeNames": ["gpu-1"]})
    status = addresses(server)["status"]
    assert len(server.ask("GET", "/api/v1/decisions", at=status).body) > 2 * 2**20
    with contextlib.ExitStack() as stack:
        for _ in range(2 * THREADS):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(status)
            deaf.sendall(b"GET /api/v1/decisions HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.5)
        assert_decides_soon(server)


def is_decided(server: Running, context: ssl.SSLContext) -> bool:
    with contextlib.closing(connect(server, context)) as connection:
        return filtered(connection).status == 200


def test_half_a_handshake_keeps_no_decision_waiting(tmp_path: Path) -> None:
    """Anyone who reaches the verbs' listener may begin one."""
    site = Site.at(tmp_path / "site")
    context = site.context(site.clients.issue("kube-scheduler", CLIENT))
    with serving(tmp_path, site) as server:
        for data in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            with opened(server.address, MANY, data):
                assert_soon([timed(lambda: is_decided(server, context)) for _ in range(5)])
        assert "Traceback" not in server.log()


def test_a_server_that_may_open_few_files_goes_on_deciding(tmp_path: Path) -> None:
    """Fewer than its limits of connections need; the worker must not die of it."""
    demo = ("--snapshot", DEMO_CLUSTER, "--status-listen", "127.0.0.1:0")
    with running(tmp_path, *demo, files=100) as server:
        assert server.answers_well()
        workers = server.worker_pids()
        with opened(addresses(server)["status"], MANY):
            assert_decides_soon(server)
        assert set(workers) <= set(server.worker_pids())
        assert "Traceback" not in server.log()


def test_idle_connections_end_when_the_server_stops(tmp_path: Path) -> None:
    with running(tmp_path, "--snapshot", DEMO_CLUSTER) as server, opened(server.address, 100):
        assert server.answers_well()
        begun = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begun < GRACE_SECONDS
