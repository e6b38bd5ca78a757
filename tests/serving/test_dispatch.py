"""Verbs that are answered before gunicorn: the same answers and errors, and nothing done twice."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from extender.config import ExtenderConfiguration
from extender.errors import ProtocolError
from extender.serving.app import create_app
from extender.serving.dispatch import PlainVerbs, raised
from tests.serving.conftest import demo_service
from tests.serving.running import GOOD, PASSED, Running, answer_on, as_go_writes

BODY = msgspec.json.encode(GOOD)
FILTER = as_go_writes("/filter", BODY)
HERE, A_STRANGER = "127.0.0.1", "192.0.2.7"


class Verb:
    """Counts how often it is called, and fails."""

    def __init__(self, error: Exception) -> None:
        self.calls = 0
        self._error = error

    def __call__(self, _: bytes | memoryview) -> bytes:
        self.calls += 1
        raise self._error


def test_both_ways_give_the_same_answer(server: Running) -> None:
    for path in ("/filter", "/prioritize"):
        with server.connect() as connection:
            connection.sendall(as_go_writes(path, BODY))
            left = answer_on(connection)
        right = server.post(path, GOOD)
        assert (left.status, left.body) == (right.status, right.body)
        assert left.status == 200
        assert {key.lower() for key in left.headers} == {key.lower() for key in right.headers}
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", left.headers["date"])


OTHERS: dict[str, bytes] = {
    "another method": FILTER.replace(b"POST", b"PUT", 1),
    "another path": FILTER.replace(b"/filter", b"/healthz", 1),
    "a longer path": FILTER.replace(b"/filter", b"/filter/x", 1),
    "a query": FILTER.replace(b"/filter", b"/filter?x=1", 1),
    "HTTP/1.0": FILTER.replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "a small letter": FILTER.replace(b"Content-Length", b"content-length", 1),
    "no length": FILTER.replace(b"Content-Length: %d\r\n" % len(BODY), b"", 1),
    "a sign": FILTER.replace(b"Length: ", b"Length: +", 1),
    "a zero in front": FILTER.replace(b"Length: ", b"Length: 0", 1),
    "two lengths": FILTER.replace(b"Content-Type", b"Content-Length: 1\r\nContent-Type", 1),
    "chunks": FILTER.replace(b"Accept-Encoding: gzip", b"Transfer-Encoding: chunked", 1),
    "a body that is awaited": FILTER.replace(b"Accept-Encoding: gzip", b"Expect: 100-continue", 1),
    "its end": FILTER.replace(b"Accept-Encoding: gzip", b"Connection: close", 1),
    "a charset": FILTER.replace(b"application/json", b"application/json; charset=utf-8", 1),
    "another type": FILTER.replace(b"application/json", b"text/plain", 1),
    "a folded line": FILTER.replace(b"\r\nUser-Agent", b"\r\n User-Agent", 1),
    "a bare line feed": FILTER.replace(b"\r\n", b"\n", 1),
    "too few bytes": FILTER[:-1],
    "too many bytes": FILTER + b"P",
    "nothing": b"",
}


@pytest.mark.parametrize("request_", OTHERS.values(), ids=OTHERS)
def test_what_go_does_not_write_is_left_to_others_unread(request_: bytes) -> None:
    service = demo_service(ExtenderConfiguration())
    verb = service.verbs["filter"] = Verb(RuntimeError())
    assert PlainVerbs(service).answer(request_, caller=HERE) is None
    assert verb.calls == 0


@given(st.integers(0, len(FILTER) - len(BODY) - 1), st.integers(0, 255))
def test_a_head_in_which_any_byte_is_another_is_the_same_request_or_left_to_others(
    place: int, byte: int
) -> None:
    """The host, the port and the client's name are nobody's business here; all the rest is."""
    free = re.compile(rb"Host: (.*)\r\nUser-Agent: (.*)\r\n").search(FILTER)
    assert free is not None
    other = FILTER[:place] + bytes([byte]) + FILTER[place + 1 :]
    answer = PlainVerbs(demo_service(ExtenderConfiguration())).answer(other, caller=HERE)
    is_free = any(free.start(n) <= place < free.end(n) for n in (1, 2))
    if other == FILTER or (is_free and 0x20 < byte < 0x7F):
        assert answer is not None
        assert msgspec.json.decode(answer.partition(b"\r\n\r\n")[2]) == PASSED
    elif not is_free:
        assert answer is None


def test_a_body_over_the_limit_is_left_to_others() -> None:
    limit = {"server": {"maxBodyBytes": 1024}}
    service = demo_service(msgspec.convert(limit, ExtenderConfiguration, strict=False))
    fits, exceeds = (as_go_writes("/filter", BODY.ljust(size)) for size in (1024, 1025))
    assert PlainVerbs(service).answer(fits, caller=HERE) is not None
    assert PlainVerbs(service).answer(exceeds, caller=HERE) is None


def test_strangers_do_not_get_to_bind() -> None:
    service = demo_service(ExtenderConfiguration())
    verb = service.verbs["bind"] = Verb(RuntimeError())
    bind = as_go_writes("/bind", BODY)
    assert PlainVerbs(service).answer(bind, caller=A_STRANGER) is None
    client = create_app(service).test_client()
    plain: dict[str, Any] = {"content_type": "application/json", "data": BODY}
    answer = client.post("/bind", environ_base={"REMOTE_ADDR": A_STRANGER}, **plain)
    assert (answer.status_code, verb.calls) == (403, 0)
    with pytest.raises(RuntimeError):
        PlainVerbs(service).answer(bind, caller=HERE)


@pytest.mark.parametrize(
    ("error", "status"),
    [(ProtocolError("field X is odd"), 400), (RuntimeError("a fault"), 500)],
    ids=["not the protocol", "a fault"],
)
def test_a_verb_that_fails_was_called_once_and_is_counted_once(
    error: Exception, status: int
) -> None:
    service = demo_service(ExtenderConfiguration())
    verb = service.verbs["bind"] = Verb(error)
    client: FlaskClient = create_app(service).test_client()
    with pytest.raises(type(error)) as failed:
        PlainVerbs(service).answer(as_go_writes("/bind", BODY), caller=HERE)
    with raised(failed.value):
        answer = client.post("/bind", content_type="application/json", data=BODY)
    assert answer.status_code == status
    assert answer.json is not None
    assert "a fault" not in answer.json["error"]
    assert verb.calls == 1
    counted = service.metrics.requests.labels("bind", str(status))._value.get()
    assert counted == 1


def test_a_connection_goes_on_after_an_error(server: Running) -> None:
    """And the next request is not taken for the one that failed."""
    with server.connect() as connection:
        for _ in range(3):
            connection.sendall(as_go_writes("/filter", b"[]"))
            refused = answer_on(connection)
            assert refused.status == 400
            assert refused.error()
            connection.sendall(FILTER)
            assert answer_on(connection).json() == PASSED
