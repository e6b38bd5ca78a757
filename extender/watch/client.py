"""HTTP to the apiserver, without a typed call per resource.

One ``request`` serves lists, watches, patches and bindings: bytes in, bytes out. It goes through
the official client's connection pool, which has the TLS and proxy settings, but with no retries of
its own (callers know what may be repeated) and no models (they cost ten times the parsing).
Certificate files are read for every new connection, so their rotation needs nothing here.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping
from ssl import SSLCertVerificationError
from threading import Lock, local
from time import monotonic
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit
from weakref import WeakSet

import urllib3
from kubernetes.client.rest import RESTClientObject
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from extender import __version__
from extender.watch.access import Access, load_access
from extender.watch.answers import (
    Answer,
    FencedError,
    HandshakeError,
    StoppedError,
    Stream,
    unreachable,
)
from extender.watch.exchange import exchange, message

CONNECT_TIMEOUT = 3.05
READ_TIMEOUT = 60.0

Query = Mapping[str, str | int]

Got = TypeVar("Got", Answer, Stream)

Fence = Callable[[], str]
"""Says why a request may not leave any more; empty while it may."""


class _Question(NamedTuple):
    method: str
    url: str
    body: bytes | None
    headers: Mapping[str, str] | None
    timeout: urllib3.Timeout


class Transport:
    """Requests to one apiserver. Safe to use from several threads."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = Lock()
        self._live: WeakSet[Any] = WeakSet()
        self._cut = False
        self._generation = -1
        self._host = ""
        self._pool = urllib3.PoolManager()
        self._host_pool: Any = None
        self._asking = local()
        """``fence`` of what each thread is asking."""

    def sibling(self) -> Transport:
        """Return a transport with connections of its own, which ``cut`` leaves alone."""
        return Transport(self._access)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        fence: Fence = str,
    ) -> Answer:
        """Send one request and return the whole answer, whatever its status.

        Raises UnreachableError where there is none. A refused credential (401) is read anew from
        its source and tried once more: a request that was not let in has changed nothing. A source
        may take seconds (an exec plugin), and so may a connection that has to be made first: so
        ``fence`` is asked after them, each time that the request is about to leave. Raises
        FencedError where it may not.
        """
        timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        question = _Question(method, _url(path, query), body, headers, timeout)
        timed = _timed(fence)
        if body is None:
            return self._with_renewal(lambda: self._send(question, timed, self._open)).answer()
        return self._with_renewal(lambda: self._send(question, timed, self._exchange))

    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        fence: Fence = str,
    ) -> Stream:
        """Send one request and return as soon as the answer's head is there."""
        timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        question = _Question(method, _url(path, query), body, headers, timeout)
        timed = _timed(fence)
        return self._with_renewal(lambda: self._send(question, timed, self._open))

    def _with_renewal(self, send: Callable[[], Got]) -> Got:
        """Send once more with another credential where the present one is refused."""
        generation = self._connect()
        try:
            got = send()
        except HandshakeError as error:
            if error.sent or not self._access.renew(generation):
                raise
            self._connect()
            return send()
        if self._refused(got.status) and self._access.renew(generation):
            if isinstance(got, Stream):
                got.drop()
            self._connect()
            got = send()
        return got

    def cut(self) -> None:
        """Close every connection now, from any thread; requests in flight and later ones fail."""
        with self._lock:
            self._cut = True
            live = list(self._live)
        for sock in live:
            with contextlib.suppress(OSError, AttributeError):
                # Not the TLS object's own method: that one also takes the TLS state away from
                # the thread that is reading.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _refused(self, status: int) -> bool:
        # An exec plugin that failed once leaves requests anonymous: 403 rather than 401.
        return status == 401 or (status == 403 and self._access.anonymous())

    def _connect(self) -> int:
        """Make sure that the connections belong to the present configuration."""
        generation, configuration = self._access.current()
        with self._lock:
            if generation != self._generation:
                rest: Any = RESTClientObject(configuration)
                pool: urllib3.PoolManager = rest.pool_manager
                host_pool = pool.connection_from_url(configuration.host)
                host_pool.ConnectionCls = _tracked(host_pool.ConnectionCls, self)
                self._pool, self._host_pool = pool, host_pool
                self._host = configuration.host.rstrip("/")
                self._generation = generation
        return generation

    def _send(
        self,
        question: _Question,
        fence: Fence,
        ask: Callable[[_Question, Mapping[str, str]], Got],
    ) -> Got:
        headers = self._headers(question.body, question.headers)
        _pass(fence)
        if self._cut:
            raise StoppedError("the connection was closed on purpose", sent=False)
        self._asking.fence = fence
        return ask(question, headers)

    def _open(self, question: _Question, headers: Mapping[str, str]) -> Stream:
        try:
            response = self._pool.urlopen(
                question.method,
                self._host + question.url,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=question.timeout,
                body=question.body,
                headers=headers,
            )
        except HTTPError as error:
            raise unreachable(error, sent=_may_be_sent(question.method, error)) from error
        return Stream(response)

    def _exchange(self, question: _Question, headers: Mapping[str, str]) -> Answer:
        parts, body = urlsplit(self._host), question.body or b""
        host = parts.netloc.rpartition("@")[2]
        request = message(question.method, parts.path + question.url, host, headers, body)
        if not request or self._pool.proxy is not None:
            return self._open(question, headers).answer()
        return exchange(self._host_pool, request, question.timeout)

    def _headers(self, body: bytes | None, extra: Mapping[str, str] | None) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "User-Agent": f"model-cache-extender/{__version__}",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        authorization = self._access.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        headers.update(extra or {})
        return headers

    def _connected(self, sock: Any) -> None:
        """See whether a connection that has just been made may be used."""
        with self._lock:
            if self._cut:
                sock.close()
                raise OSError("the connection was closed on purpose")
            self._live.add(sock)
        _pass(self._asking.fence)


def connect(kubeconfig: str | None = None, context: str | None = None) -> Transport:
    """Return a transport to the cluster that is named, or to the one that this pod runs in."""
    return Transport(load_access(kubeconfig, context))


def _timed(fence: Fence) -> Fence:
    """Return a fence that also says how long ago the request was asked for."""
    began = monotonic()

    def timed() -> str:
        closed = fence()
        waited = monotonic() - began
        return closed and (
            f"{closed} (its credential and its connection were waited for: {waited:.1f} s)"
        )

    return timed


def _pass(fence: Fence) -> None:
    closed = fence()
    if closed:
        raise FencedError(closed)


def _tracked(base: Any, transport: Transport) -> Any:
    """Return a connection class whose sockets ``transport`` sees, and can close any time."""

    class Tracked(base):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            transport._connected(self.sock)  # noqa: SLF001 - the two are one mechanism

    return Tracked


def _url(path: str, query: Query | None) -> str:
    return path + ("?" + urlencode(query) if query else "")


def _may_be_sent(method: str, error: HTTPError) -> bool:
    if isinstance(error, SSLError):
        # In TLS 1.3 a server refuses a client certificate only after the request went out.
        refused_by_us = any(isinstance(arg, SSLCertVerificationError) for arg in error.args)
        return method != "GET" and not refused_by_us
    return not isinstance(error, (NewConnectionError, ConnectTimeoutError, ProxyError))
