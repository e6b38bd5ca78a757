"""What comes back from the apiserver: a whole answer, a stream, or neither.

The transport's own exceptions end here; callers see one small tree, which tells what matters to
them: whether the server can have got the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isnan
from typing import Self

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, ReadTimeoutError, SSLError

from extender.errors import ExtenderError
from extender.watch.messages import Status, read_status

MAX_RETRY_AFTER = 120.0
"""Seconds. A server that asks for more is asked again all the same: its answer may be a fault."""

_CHUNK = 65536


class UnreachableError(ExtenderError):
    """No whole answer. ``sent`` is False where the server certainly got no request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class SilenceError(UnreachableError):
    """Nothing came for as long as the read timeout."""


class StoppedError(UnreachableError):
    """The transport was cut on purpose."""


class FencedError(UnreachableError):
    """It was not sent: by the time that it could be, it was not to be any more."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class HandshakeError(UnreachableError):
    """TLS was refused: a certificate on one of the two sides may have been replaced."""


class Answer(msgspec.Struct, frozen=True):
    """A whole HTTP answer. ``body`` is the bytes as they came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the server did what it was asked to."""
        return 200 <= self.status < 300

    def problem(self) -> Status:
        """Return the ``Status`` in the body, or one made of the HTTP status."""
        return read_status(self.body, self.status)

    def retry_after(self) -> float:
        """Return the seconds to wait that the server asked for; 0 where it did not."""
        return _retry_after(self.headers, self.problem())


class Stream:
    """An answer that is still coming. Close it, or use it as a context manager."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self.status = response.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection: the rest of a watch is of no use to the next request."""
        self._response.close()

    def drop(self) -> None:
        """Give the connection back: nobody reads this answer."""
        self._response.drain_conn()
        self._response.release_conn()

    def chunks(self) -> Iterator[bytes]:
        """Yield bytes as they arrive. Raises UnreachableError or SilenceError."""
        while True:
            try:
                chunk = self._response.read1(_CHUNK, decode_content=True)
            except HTTPError as error:
                raise unreachable(error, sent=True) from error
            if not chunk:
                return
            yield chunk

    def answer(self) -> Answer:
        """Read the rest as one body and give the connection back."""
        try:
            body = self._response.read(decode_content=True)
        except HTTPError as error:
            raise unreachable(error, sent=True) from error
        finally:
            self._response.release_conn()
        return Answer(status=self.status, headers=dict(self._response.headers), body=body)


def unreachable(error: HTTPError, *, sent: bool) -> UnreachableError:
    """Return this tree's error for one of urllib3's."""
    if isinstance(error, ReadTimeoutError):
        return SilenceError("the apiserver sent nothing within the read timeout", sent=sent)
    if isinstance(error, SSLError):
        return HandshakeError(f"TLS: {error}", sent=sent)
    return UnreachableError(f"{type(error).__name__}: {error}", sent=sent)


def _retry_after(headers: Mapping[str, str], problem: Status) -> float:
    lowered = {name.lower(): value for name, value in headers.items()}
    try:
        asked = float(lowered.get("retry-after", ""))
    except ValueError:
        asked = float("nan")
    if isnan(asked):  # a date, or nothing at all
        return asked_in(problem)
    return min(max(asked, 0.0), MAX_RETRY_AFTER)


def asked_in(problem: Status) -> float:
    """Return the seconds to wait that a Status asks for, bounded; 0 where it does not."""
    asked = problem.details.retry_after_seconds if problem.details else 0
    return float(min(max(asked, 0), MAX_RETRY_AFTER))
