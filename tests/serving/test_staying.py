"""A thread that stays with its connection for a moment: every request is answered, in its turn."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extender.serving.staying import STAY_SECONDS
from tests.serving.running import PASSED, Running, answer_on, as_go_writes
from tests.serving.test_slow_clients import GOOD_BODY, THREADS, WHOLE

GO = as_go_writes("/filter", GOOD_BODY)
BIND = WHOLE.replace(b"/filter", b"/bind")
"""Not the body of a bind: refused, by the threads that bind."""
ASKED = 20


@pytest.mark.parametrize("pause", [0.0, STAY_SECONDS * 2], ids=["at once", "later"])
@pytest.mark.parametrize("forms", [(WHOLE,), (GO,), (GO, WHOLE)], ids=["any", "Go's", "in turns"])
def test_one_connection_is_answered_again_and_again(
    server: Running, pause: float, forms: tuple[bytes, ...]
) -> None:
    with server.connect() as connection:
        for number in range(ASKED):
            connection.sendall(forms[number % len(forms)])
            answer = answer_on(connection)
            assert (answer.status, answer.json()) == (200, PASSED)
            time.sleep(pause)


@pytest.mark.parametrize("cut", [1, 20, len(WHOLE) - 1])
@pytest.mark.parametrize("form", [WHOLE, GO], ids=["any", "Go's"])
def test_a_request_that_comes_in_pieces_is_answered(server: Running, form: bytes, cut: int) -> None:
    with server.connect() as connection:
        for pause in (0.0, STAY_SECONDS / 2, STAY_SECONDS * 2):
            connection.sendall(form)
            assert answer_on(connection).status == 200
            connection.sendall(form[:cut])
            time.sleep(pause)
            connection.sendall(form[cut:])
            assert answer_on(connection).status == 200


@pytest.mark.parametrize("form", [WHOLE, GO], ids=["any", "Go's"])
def test_requests_that_follow_one_another_unasked_are_answered_in_turn(
    server: Running, form: bytes
) -> None:
    with server.connect() as connection:
        connection.settimeout(60)
        connection.sendall(form * 3)
        answers = b""
        while answers.count(b'"Error":""}') < 3:
            answers += connection.recv(65536)
        assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_what_another_kind_of_thread_serves_is_answered_on_the_same_connection(
    server: Running,
) -> None:
    """kube-scheduler's client takes the connection of the last filter for the next bind."""
    with server.connect() as connection:
        for request, status in ((WHOLE, 200), (BIND, 400), (b"GET /healthz HTTP/1.1\r\n\r\n", 200)):
            connection.sendall(WHOLE)
            assert answer_on(connection).status == 200
            connection.sendall(request)
            assert answer_on(connection).status == status


def test_the_threads_for_binds_stay_for_whatever_comes_next(server: Running) -> None:
    with server.connect() as connection:
        for pause in (0.0, STAY_SECONDS * 2):
            for request, status in ((BIND, 400), (BIND, 400), (GO, 200), (BIND, 400), (GO, 200)):
                connection.sendall(request)
                assert answer_on(connection).status == status
                time.sleep(pause)


def test_more_connections_than_threads_all_get_their_turn(server: Running) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(THREADS * 3)]
        with ThreadPoolExecutor(len(connections)) as together:
            for _ in range(ASKED):
                asked = [together.submit(one.sendall, WHOLE) for one in connections]
                assert all(each.result() is None for each in asked)
                assert {answer_on(one).status for one in connections} == {200}


def test_a_client_that_leaves_meanwhile_leaves_nothing_behind(server: Running) -> None:
    files = Path(f"/proc/{server.worker_pids()[0]}/fd")
    before = len(list(files.iterdir()))
    for _ in range(ASKED * 3):
        with server.connect() as connection:
            connection.sendall(WHOLE)
            assert answer_on(connection).status == 200
    deadline = time.monotonic() + 60
    while len(list(files.iterdir())) > before + 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(files.iterdir())) <= before + 2
