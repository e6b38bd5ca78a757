"""The verbs, before gunicorn and Flask, whose way to an answer takes longer than many an answer.

kube-scheduler waits for each one, and wants the processor meanwhile. Reading a request's head into
an environment, routing it and writing a response in two pieces is most of what a short question
costs. Only what is plainly in order is spared it: a request as Go's HTTP client writes it, to the
letter, of a length that is allowed, from a caller who may ask. Everything else is gunicorn's and
Flask's before any of it is read, and so is every error: what a verb has raised is raised once more
in its route, so that there is one form of answering and logging it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import formatdate
from functools import lru_cache

from extender.serving.arrival import seconds_since_begin
from extender.serving.callers import is_loopback
from extender.serving.service import Service

KNOWN_CALLERS_ONLY = frozenset({"bind"})
"""Verbs with an effect: whoever may call them places pods with this program's rights."""

_REQUEST = re.compile(
    rb"POST /([a-z]{1,20}) HTTP/1\.1\r\n"
    rb"Host: [!-~]{1,300}\r\n"
    rb"User-Agent: [ -~]{1,300}\r\n"
    rb"Content-Length: ([1-9][0-9]{0,9})\r\n"
    rb"Content-Type: application/json\r\n"
    rb"(?:Accept-Encoding: gzip\r\n)?"
    rb"\r\n"
)
"""The order in which net/http writes (``Request.write``, ``transferWriter.writeHeader``)."""

_raised: ContextVar[Exception | None] = ContextVar("raised", default=None)


class PlainVerbs:
    """Answers for a service what comes over plain HTTP to the listener that serves everything."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._max_body_bytes = service.configuration.server.max_body_bytes

    def answer(self, request: bytes | bytearray, *, caller: str) -> bytes | None:
        """Return the whole response to a whole request; None where others have to answer it.

        Raises what the verb raises.
        """
        head = _REQUEST.match(request)
        if head is None:
            return None
        name, length = head[1].decode(), int(head[2])
        verb = self._service.verbs.get(name)
        if verb is None or length > self._max_body_bytes or len(request) != head.end() + length:
            return None
        if name in KNOWN_CALLERS_ONLY and not is_loopback(caller):
            return None
        body = verb(memoryview(request)[head.end() :])
        self._service.metrics.answered(name, 200, seconds_since_begin())
        return _head(int(time.time())) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@lru_cache(maxsize=1)
def _head(now: int) -> bytes:
    return (
        "HTTP/1.1 200 OK\r\nServer: gunicorn\r\n"
        f"Date: {formatdate(now, usegmt=True)}\r\n"
        "Connection: keep-alive\r\nContent-Type: application/json\r\n"
    ).encode()


@contextmanager
def raised(error: Exception | None) -> Iterator[None]:
    """Have the route of a verb raise what the verb has raised already, if it has."""
    token = _raised.set(error)
    try:
        yield
    finally:
        _raised.reset(token)


def raise_again() -> None:
    """Raise what the verb of this request has raised already, if it has."""
    error = _raised.get()
    if error is not None:
        raise error
