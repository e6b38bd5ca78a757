"""A short request and its whole answer, on a connection of urllib3's, in few steps.

A Binding has kube-scheduler wait, on the processors that it shares with this program. urllib3 and
http.client take half a millisecond for one, four times as much as the encryption: they write head
and body in two pieces, read the answer's head as if it were an e-mail, and prepare for much that
does not come. What comes in the usual form is read here; any other answer is http.client's, from
its first byte on. urllib3 makes, checks and keeps the connections, for requests of all kinds.
"""

from __future__ import annotations

import http.client
import io
import re
import ssl
from collections.abc import Mapping
from time import monotonic
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError, ProtocolError, SSLError

from extender.watch.answers import Answer, SilenceError, UnreachableError, unreachable

_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
"""What a line of a head may hold where it can be written without a second thought."""

_HEAD = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [^\r\n]*)?\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)\r\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_MAX_HEAD = 64 * 1024
_CHUNK = 16 * 1024
_FRAMING = ("transfer-encoding", "content-encoding", "connection")
"""With one of these, the answer's end is found in another way, or it is no plain text."""


def message(method: str, path: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a request as it is sent; empty where it is better left to others to write."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    if not all(map(_PLAIN.fullmatch, lines)) or " " in path:
        return b""
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def exchange(pool: Any, request: bytes, timeout: urllib3.Timeout) -> Answer:
    """Send a request over a connection of a pool, and return the answer.

    Raises UnreachableError, with ``sent`` where some of it may have left, and what the pool's
    connections raise where they must not be used.
    """
    connection, kept = pool._get_conn(), False  # noqa: SLF001 - as urllib3's own urlopen does
    try:
        connection.timeout = timeout.connect_timeout
        _connected(connection)
        answer, kept = _asked(connection.sock, request, float(timeout.read_timeout or 0))
        return answer
    finally:
        if not kept:
            connection.close()
        pool._put_conn(connection if kept else None)  # noqa: SLF001


def _connected(connection: Any) -> None:
    try:
        if connection.is_closed:
            connection.connect()
    except HTTPError as error:
        raise unreachable(error, sent=False) from error
    except ssl.SSLError as error:
        raise unreachable(SSLError(error), sent=False) from error
    except OSError as error:
        raise UnreachableError(f"{type(error).__name__}: {error}", sent=False) from error


def _asked(sock: Any, request: bytes, patience: float) -> tuple[Answer, bool]:
    """Return the answer, and whether the connection can take another request."""
    try:
        sock.settimeout(patience)
        sock.sendall(request)
        return _Reading(sock, monotonic() + patience).answer()
    except TimeoutError as error:
        raise SilenceError(
            "the apiserver sent nothing within the read timeout", sent=True
        ) from error
    except ssl.SSLError as error:  # TLS 1.3 refuses a client's certificate only now
        raise unreachable(SSLError(error), sent=True) from error
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
        # The last two are what http.client says of a chunk's size that is no number.
        raise unreachable(ProtocolError("Connection aborted.", error), sent=True) from error


class _Reading(io.RawIOBase):
    """What comes over a socket until ``deadline`` (``monotonic``), readable from its beginning."""

    def __init__(self, sock: Any, deadline: float) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline
        self._data = b""
        self._given = 0

    def answer(self) -> tuple[Answer, bool]:
        while b"\r\n\r\n" not in self._data and len(self._data) < _MAX_HEAD:
            if not self._more():  # http.client would take what came for all of the head
                raise http.client.RemoteDisconnected("the answer's head is cut off")
        head = _HEAD.match(self._data)
        if head is None:
            return self._odd()
        # As http.client reads it: a Warning may say anything in UTF-8, and nobody here asks.
        lines = (line.partition(":") for line in str(head[2], "latin-1").split("\r\n")[:-1])
        headers = {name.lower(): value.strip() for name, _, value in lines}
        length = headers.get("content-length", "")
        if not _LENGTH.fullmatch(length) or any(map(headers.__contains__, _FRAMING)):
            return self._odd()
        end = head.end() + int(length)
        while len(self._data) < end:
            if not self._more():
                raise http.client.IncompleteRead(self._data[head.end() :])
        body = self._data[head.end() : end]
        return Answer(status=int(head[1]), headers=headers, body=body), len(self._data) == end

    def _more(self) -> bool:
        """Wait for more; false where nothing comes any more."""
        if self._data:
            self._sock.settimeout(max(0.001, self._deadline - monotonic()))
        more = self._sock.recv(_CHUNK)
        self._data += more
        return bool(more)

    def _odd(self) -> tuple[Answer, bool]:
        """Have http.client read it all, from the beginning."""
        response = http.client.HTTPResponse(self)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        answer = Answer(status=response.status, headers=dict(response.headers), body=body)
        return answer, not response.will_close

    def makefile(self, *_: object) -> io.BufferedReader:
        """Return the file that http.client asks its socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Tell that this can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give what has come already, then what comes."""
        if self._given == len(self._data) and not self._more():
            return 0
        part = self._data[self._given : self._given + len(buffer)]
        buffer[: len(part)] = part
        self._given += len(part)
        return len(part)
