"""A short request over a connection that is kept: every form of answer, however it is cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from time import sleep

import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.watch.answers import Answer, SilenceError, UnreachableError
from extender.watch.exchange import exchange, message

PATIENCE = urllib3.Timeout(connect=10.0, read=20.0)
BODY = b'{"kind":"Status","status":"Success","code":201}'
PLAIN = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n" + BODY
)
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"kin\r\n2a\r\nd":"Status","status":"Success","code":201}\r\n0\r\n\r\n'
)
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN
WITH_OTHER_HEADERS = PLAIN.replace(b"\r\n\r\n", b"\r\nVary: Accept\r\nAudit-Id:  x \r\n\r\n")
WARNED = PLAIN.replace(b"\r\n\r\n", '\r\nWarning: 299 - "zu groß, 太大"\r\n\r\n'.encode())
"""What a ValidatingAdmissionPolicy or a webhook warns of comes in UTF-8."""
KEPT_ALIVE = PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
CLOSED = PLAIN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
OLD = PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0")
WITHOUT_REASON = PLAIN.replace(b"201 Created", b"201")
UP_TO_THE_END = b"HTTP/1.1 201 Created\r\n\r\n" + BODY


class Served:
    """A server that gives each request of a connection its answer, in pieces; then it hangs up.

    ``requests`` holds for each connection the requests that came.
    """

    def __init__(self, connections: Sequence[Sequence[bytes]], piece: int) -> None:
        self.requests: list[list[bytes]] = []
        self._connections = connections
        self._piece = piece
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.pool = urllib3.HTTPConnectionPool(host, port, maxsize=4)
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def ask(self) -> Answer:
        request = message("POST", "/x", "127.0.0.1", {"Accept": "application/json"}, b"{}")
        return exchange(self.pool, request, PATIENCE)

    def close(self) -> None:
        self.pool.close()
        self._listener.close()

    def _serve(self) -> None:
        for answers in self._connections:
            connection, _ = self._listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            requests: list[bytes] = []
            self.requests.append(requests)
            with connection:
                for answer in answers:
                    request = b""
                    while not request.endswith(b"\r\n\r\n{}"):
                        request += connection.recv(65536)
                    requests.append(request)
                    for begin in range(0, len(answer), self._piece):
                        connection.sendall(answer[begin : begin + self._piece])
                        sleep(0.0005 if self._piece < 10 else 0)


@contextmanager
def served(*connections: Sequence[bytes], piece: int = 65536) -> Iterator[Served]:
    server = Served(connections, piece)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize("piece", [1, 7, 65536])
@pytest.mark.parametrize(
    "form",
    [PLAIN, WITH_OTHER_HEADERS, WARNED, WITHOUT_REASON, KEPT_ALIVE, CHUNKED, CONTINUED],
    ids=["plain", "headers", "warned", "no reason", "kept alive", "chunked", "continued"],
)
def test_one_connection_takes_the_next_request(form: bytes, piece: int) -> None:
    with served([form, PLAIN, form], piece=piece) as server:
        for _ in range(3):
            answer = server.ask()
            assert (answer.status, answer.body) == (201, BODY)
        assert [len(one) for one in server.requests] == [3]


@pytest.mark.parametrize("piece", [1, 65536])
@pytest.mark.parametrize(
    "form", [CLOSED, OLD, UP_TO_THE_END], ids=["closed", "HTTP/1.0", "up to the end"]
)
def test_a_connection_that_ends_is_not_used_again(form: bytes, piece: int) -> None:
    with served([form], [PLAIN], piece=piece) as server:
        for _ in range(2):
            answer = server.ask()
            assert (answer.status, answer.body) == (201, BODY)
        assert [len(one) for one in server.requests] == [1, 1]


def test_what_comes_unasked_after_an_answer_is_nobodys_answer() -> None:
    with served([PLAIN + b"HTTP/1.1 200 OK\r\n"], [PLAIN]) as server:
        assert server.ask().status == 201
        assert server.ask().status == 201
        assert [len(one) for one in server.requests] == [1, 1]


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_anew() -> None:
    with served([PLAIN], [PLAIN]) as server:
        assert server.ask().status == 201
        (kept,) = (one for one in server.pool.pool.queue if one is not None)  # type: ignore[union-attr]
        kept.sock.recv(1, socket.MSG_PEEK)  # until it is closed
        assert server.ask().status == 201


@pytest.mark.parametrize("cut", [0, 1, 20, PLAIN.index(b"\r\n\r\n") + 3, len(PLAIN) - 1])
def test_an_answer_that_is_cut_off_is_none(cut: int) -> None:
    with served([PLAIN[:cut]], [PLAIN]) as server:
        with pytest.raises(UnreachableError) as failed:
            server.ask()
        assert failed.value.sent
        assert server.ask().status == 201


HEAD = st.lists(st.sampled_from([
    b"HTTP/1.1 201 Created\r\n", b"HTTP/1.1 99 \xff\r\n", b"Content-Length: 2\r\n",
    b"Content-Length: " + b"9" * 5000 + b"\r\n", b"Content-Length: \xb2\r\n",
    b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"zz\r\n", b"0\r\n",
    b"f" * 20 + b"\r\n",
    b"Warning: \xe4\r\n", b"\xff: x\r\n", b" folded\r\n", b":\r\n", b"\r\n", b"\r", b"{}",
])).map(b"".join)  # fmt: skip


@settings(max_examples=150)
@given(head=st.one_of(HEAD, st.binary(max_size=60)))
def test_whatever_comes_is_an_answer_or_none_and_never_an_error_of_another_kind(
    head: bytes,
) -> None:
    with served([b"HTTP/1.1 200 OK\r\n" + head]) as server:
        try:
            server.ask()
        except UnreachableError as error:
            assert error.sent


def test_an_answer_that_does_not_come_in_time_is_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pool = urllib3.HTTPConnectionPool(*listener.getsockname())
        with pytest.raises(SilenceError) as failed:
            exchange(pool, b"POST / HTTP/1.1\r\n\r\n", urllib3.Timeout(connect=10, read=0.05))
        assert failed.value.sent


def test_where_nobody_listens_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(UnreachableError) as failed:
        exchange(urllib3.HTTPConnectionPool(*address), b"POST / HTTP/1.1\r\n\r\n", PATIENCE)
    assert not failed.value.sent


def test_a_request_is_whole_and_in_one_piece() -> None:
    with served([PLAIN]) as server:
        server.ask()
        assert server.requests == [
            [
                b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
                b"Accept: application/json\r\nContent-Length: 2\r\n\r\n{}"
            ]
        ]


@pytest.mark.parametrize(
    ("path", "value"),
    [("/x", "a\r\nX: y"), ("/x", "a\n"), ("/x", "caf\u00e9"), ("/a b", "c"), ("/\r\n", "c")],
)
def test_what_would_be_another_request_is_not_written(path: str, value: str) -> None:
    assert message("POST", path, "h", {"Authorization": value}, b"") == b""
