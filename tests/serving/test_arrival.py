"""When a request may have a thread: only once reading it cannot keep the thread waiting."""

from __future__ import annotations

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.errors import NoMoreData, ParseException
from hypothesis import given
from hypothesis import strategies as st

from extender.serving.arrival import MAX_BODY_BYTES, MAX_HEAD_BYTES, Arrival, arrival

LIMIT = 64 * 1024 * 1024
POST = b"POST /filter HTTP/1.1\r\nHost: x\r\n"


def judged(data: bytes) -> Arrival:
    return arrival(data, max_body_bytes=LIMIT)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Arrival.WAITS),
        (b"G", Arrival.WAITS),
        (POST, Arrival.WAITS),
        (POST + b"Content-Length: 2\r\n\r\n", Arrival.WAITS),
        (POST + b"Content-Length: 2\r\n\r\n{", Arrival.WAITS),
        (POST + b"Content-Length: 2\r\n\r\n{}", Arrival.WHOLE),
        (POST + b"content-length:2\r\n\r\n{}", Arrival.WHOLE),
        (POST + b"Content-Length: 2\r\n\r\n{}GET /", Arrival.WHOLE),
        (POST + b"\r\n", Arrival.WHOLE),
        (b"hello\r\n\r\n", Arrival.WHOLE),
        (b"GET /metrics HTTP/1.1\r\n\r\n", Arrival.WHOLE),
        (b"GET /healthz HTTP/1.1\r\n\r\n", Arrival.HEALTH),
        (b"GET /readyz HTTP/1.0\r\n\r\n", Arrival.HEALTH),
        (b"GET /readyz/more HTTP/1.1\r\n\r\n", Arrival.WHOLE),
        (b"POST /bind HTTP/1.1\r\nContent-Length: 2\r\n\r\n{", Arrival.WAITS),
        (b"POST /bind HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", Arrival.BIND),
        (b"POST /bindings HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", Arrival.WHOLE),
        (b"POST /bind HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0", Arrival.PARTLY),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\n", Arrival.WAITS),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Arrival.PARTLY),
        (POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", Arrival.PARTLY),
        (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", Arrival.PARTLY),
        (POST + b"Content-Length: +2\r\n\r\n{}", Arrival.PARTLY),
        (POST + b"Content-Length: 1000000000000\r\n\r\n", Arrival.PARTLY),
        (POST + b"Content-Length: 999999\r\n\r\n" + b" " * MAX_BODY_BYTES, Arrival.PARTLY),
        (POST + b"X: " + b"a" * MAX_HEAD_BYTES, Arrival.ENDLESS),
        (POST + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", Arrival.ENDLESS),
    ],
    ids=lambda value: repr(value[:70]) if isinstance(value, bytes) else "",
)
def test_what_has_arrived_tells_who_serves_it(data: bytes, expected: Arrival) -> None:
    assert judged(data) is expected


LINES = st.sampled_from(
    [
        b"Content-Length: 3",
        b"content-length:\t0",
        b"CONTENT-LENGTH: 12 ",
        b"Content-Length : 4",
        b"Content-Length: 3, 3",
        b"Content-Length: 0x5",
        b"Content-Length:",
        b"Content_Length: 9",
        b"X-Content-Length: 7",
        b" Content-Length: 8",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"transfer-encoding:chunked",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Host: x",
        b"X: a\nContent-Length: 6",
        b"X: a\rContent-Length: 6",
        b"Connection: close",
    ]
)
BODIES = st.sampled_from([b"", b"{}", b"abc", b"0\r\n\r\n", b"a" * 20, b"5\r\nabc"])


@given(
    first=st.sampled_from(
        [b"POST /f HTTP/1.1", b"GET / HTTP/1.0", b"GET /healthz HTTP/1.1", b"hello", b"", b"\r\nA"]
    ),
    lines=st.lists(LINES, max_size=4),
    body=BODIES,
)
def test_what_counts_as_whole_never_makes_the_parser_wait_for_more(
    first: bytes, lines: list[bytes], body: bytes
) -> None:
    data = b"\r\n".join([first, *lines, b"", b""]) + body
    if judged(data) not in {Arrival.WHOLE, Arrival.HEALTH}:
        return
    waited = []

    def source() -> object:
        yield data
        waited.append(True)

    parser = get_parser(Config(), source(), ("127.0.0.1", 1))
    try:
        request = next(parser)
        request.body.read()
    except NoMoreData:
        waited.append(True)
    except ParseException:
        pass
    assert not waited
