"""Clients that are slow, idle, greedy or gone: none of them keeps a decision waiting."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.authority import CLIENT
from tests.serving.running import DEMO_CLUSTER, GOOD, Running, answer_on, running
from tests.serving.test_tls import Site, connect, filtered, serving

SOON = 2.0
"""Seconds; far less than kube-scheduler's patience (5 s), far more than an answer takes."""
MANY = 200
MOST = 2_000
THREADS = 16
HEAD = b"POST /filter HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GOOD_BODY = msgspec.json.encode(GOOD)
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(GOOD_BODY) + GOOD_BODY
Address = tuple[str, int]


@pytest.fixture(autouse=True)
def enough_files() -> Iterator[None]:
    """Let this process, and the servers that it starts, have what files they may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * MOST)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def opened(address: Address, number: int, data: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say a few bytes and then nothing."""
    with contextlib.ExitStack() as stack:
        connections = []
        for _ in range(number):
            connection = socket.create_connection(address, timeout=30)
            connections.append(stack.enter_context(connection))
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
        yield connections


def assert_decides_soon(server: Running, times: int = 5) -> None:
    """New connections are answered, and the kubelet's probe is."""
    assert server.status_address is not None
    for _ in range(times):
        begun = time.monotonic()
        assert server.answers_well()
        assert time.monotonic() - begun < SOON
        begun = time.monotonic()
        assert server.ask("GET", "/healthz", at=server.status_address).status == 200
        assert time.monotonic() - begun < SOON


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
    with opened(addresses(server)[listener], MANY) as connections:
        for position in range(10):
            for connection in connections:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(WHOLE[position : position + 1])
            assert_decides_soon(server, times=1)


@pytest.mark.parametrize("listener", ["verbs", "status"])
@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_two_thousand_idle_connections_keep_no_decision_waiting(
    server: Running, listener: str, said: bytes
) -> None:
    """Also where each has been answered once, and is kept for another request."""
    number = min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)
    assert server.answers_well()
    with opened(addresses(server)[listener], number, said):
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


def test_half_a_handshake_keeps_no_decision_waiting(tmp_path: Path) -> None:
    """Anyone who reaches the verbs' listener may begin one."""
    site = Site.at(tmp_path / "site")
    context = site.context(site.clients.issue("kube-scheduler", CLIENT))
    with serving(tmp_path, site) as server:
        for data in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            with opened(server.address, MANY, data):
                for _ in range(5):
                    begun = time.monotonic()
                    with contextlib.closing(connect(server, context)) as connection:
                        filtered(connection)
                    assert time.monotonic() - begun < SOON
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
        assert time.monotonic() - begun < 10
