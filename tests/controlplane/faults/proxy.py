"""A proxy that ends TLS between the extender and a real kube-apiserver, and breaks what it is told.

Everything that it passes on is what the real server said; a fault changes only how it arrives.
Faults wait by verb and path: ``list``, ``page`` (a list that goes on), ``ask`` (a list of one,
which asks for the version), ``watch`` (the opening of one) and ``event`` (the next event of a watch
that is open). Each is met once. Returning False means: go on as if nothing had been.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import ssl
import struct
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

Fault = Callable[["Exchange"], "bool | None"]
EventFault = Callable[["Exchange", bytes], None]

_HOP_BY_HOP = frozenset({"host", "connection", "content-length", "accept-encoding"})


class BrokenOffError(Exception):
    """Raised by a fault that has ended the exchange in its own way."""


@dataclass(frozen=True)
class Request:
    """One request as it came, and when (monotonic seconds)."""

    verb: str
    path: str
    at: float


class Proxy:
    """Start it with ``with``. Everything here may be called from any thread."""

    def __init__(self, upstream: str, authority: Path, certificate: Path, key: Path) -> None:
        self.upstream = upstream
        self.authority = authority
        self.requests: list[Request] = []
        self.met = 0
        self.gone = 0
        """How often the real server said 410."""
        self.stopped = Event()
        self.thawed = Event()
        self.thawed.set()
        self.flowing = Event()
        self.flowing.set()
        self.held = 0
        """How many Bindings are on their way and get no further."""
        self.epoch = 0
        self.port = 0
        self.lock = Lock()
        self._through: int | None = None  # so many Bindings more before they are held
        self._faults: dict[tuple[str, str], deque[Any]] = defaultdict(deque)
        self._sockets: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.serve_with(certificate, key)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def serve_with(self, certificate: Path, key: Path) -> None:
        """Show this certificate to every new connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.tls = context

    def up(self) -> None:
        """Listen, on the port of before if there was one."""
        self.stopped = Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        self.stopped.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self.drop()

    def drop(self) -> None:
        """Cut every connection, as a load balancer does that restarts."""
        with self.lock:
            sockets = list(self._sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Say nothing more on any connection, old or new, and close none: a cable is cut."""
        self.thawed.clear()
        self.epoch += 1

    def thaw(self) -> None:
        """Serve new connections again; the old ones stay silent for ever."""
        self.thawed.set()

    def hold_bindings(self, after: int = 0) -> None:
        """Let so many Bindings more reach the real server; those whose clients hang up never will.

        It counts them itself: somebody who looks may look too late.
        """
        with self.lock:
            self._through = after
            if not after:
                self.flowing.clear()

    def let_bindings_go(self) -> None:
        """Pass on what was held, and what comes."""
        with self.lock:
            self._through = None
            self.flowing.set()

    def take_binding(self) -> None:
        """Note that a Binding has come; hold it, and all others, once enough have passed."""
        with self.lock:
            if self._through:
                self._through -= 1
            elif self._through == 0:
                self.flowing.clear()

    def meet(self, verb: str, *faults: Any, paths: Iterable[str]) -> int:
        """Let the next requests or events of these paths meet the faults; return how many will."""
        number = 0
        with self.lock:
            for path in paths:
                self._faults[verb, path].extend(faults)
                number += len(faults)
        return number

    def next_fault(self, verb: str, path: str) -> Any:
        """Take the next fault that waits for a verb on a path."""
        with self.lock:
            waiting = self._faults[verb, path]
            if not waiting:
                return None
            self.met += 1
            return waiting.popleft()

    def forget(self) -> int:
        """Let no more faults be met; return how many were left over."""
        with self.lock:
            left = sum(len(waiting) for waiting in self._faults.values())
            self._faults.clear()
        return left

    def asked(self, verb: str, path: str, since: float = 0.0) -> list[float]:
        """Return when requests of a verb came to a path."""
        return [
            r.at for r in list(self.requests) if (r.verb, r.path) == (verb, path) and r.at >= since
        ]

    def hold(self, sock: socket.socket) -> None:
        with self.lock:
            self._sockets.add(sock)

    def release(self, sock: socket.socket) -> None:
        with self.lock:
            self._sockets.discard(sock)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Say nothing of the connections that tests break."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: ClassVar[Proxy]

    def setup(self) -> None:
        self.proxy.hold(self.request)
        self.upstream: http.client.HTTPSConnection | None = None
        self._raw = self.request
        self.proxy_stopped = self.proxy.stopped
        self.wait_for_thaw()
        self.epoch = self.proxy.epoch
        self.request.settimeout(10)
        self.request = self.proxy.tls.wrap_socket(self.request, server_side=True)
        self.request.settimeout(None)
        self.proxy.hold(self.request)
        super().setup()

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        if self.upstream is not None:
            self.hang_up()
        with contextlib.suppress(OSError):
            self.request.close()
        self.proxy.release(self.request)
        self.proxy.release(self._raw)

    def wait_for_thaw(self) -> None:
        while not self.proxy.thawed.wait(0.05):
            if self.proxy_stopped.is_set():
                raise BrokenOffError

    @property
    def lost(self) -> bool:
        """Whether a freeze has come over this connection."""
        return self.epoch != self.proxy.epoch

    def call(self) -> http.client.HTTPResponse:
        """Pass the request on and return the real server's answer."""
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        sock = self.upstream.sock if self.upstream is not None else None
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self.hang_up()  # a server ends connections that nobody uses for long
        if self.upstream is None:
            address = urlsplit(self.proxy.upstream)
            context = ssl.create_default_context(cafile=self.proxy.authority)
            self.upstream = http.client.HTTPSConnection(
                address.hostname or "", address.port, context=context, timeout=10
            )
            self.upstream.connect()
            self.upstream.sock.settimeout(None)
            self.proxy.hold(self.upstream.sock)
        self.upstream.request(self.command, self.path, body=self.body, headers=headers)
        return self.upstream.getresponse()

    def hang_up(self) -> None:
        """Close the connection to the real server."""
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            if upstream.sock is not None:
                self.proxy.release(upstream.sock)
            upstream.close()

    def log_message(self, *_: object) -> None:
        """Tests print enough."""

    def do_GET(self) -> None:
        try:
            length = int(self.headers.get("Content-Length") or 0)
            self.body = self.rfile.read(length) if length else None
            Exchange(self.proxy, self).serve()
        except (BrokenOffError, OSError, http.client.HTTPException):
            self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - names that the library wants


class Exchange:
    """One request and what is done about it."""

    def __init__(self, proxy: Proxy, handler: _Handler) -> None:
        self.proxy = proxy
        self.handler = handler
        url = urlsplit(handler.path)
        self.path = url.path
        query = dict(parse_qsl(url.query))
        self.verb = (
            handler.command.lower()
            if handler.command != "GET"
            else "watch"
            if "watch" in query
            else "page"
            if "continue" in query
            else "ask"
            if query.get("limit") == "1"
            else "list"
        )
        self._lines: Iterator[bytes] = iter(())
        proxy.requests.append(Request(self.verb, self.path, monotonic()))

    def serve(self) -> None:
        """Meet the next fault, or do what was asked."""
        self.hang_if_lost()
        if self.verb == "post" and self.path.endswith("/binding"):
            self.wait_to_bind()
        fault = self.proxy.next_fault(self.verb, self.path)
        if fault is None or fault(self) is False:
            self.proceed()

    def wait_to_bind(self) -> None:
        """Wait while Bindings are held. As in a server, one whose client has gone is not done."""
        proxy, client = self.proxy, self.handler.connection
        proxy.take_binding()
        if proxy.flowing.is_set():
            return
        with proxy.lock:
            proxy.held += 1
        try:
            while not proxy.flowing.wait(0.02):
                gone, _, _ = select.select([client], [], [], 0)
                if gone or self.handler.proxy_stopped.is_set():
                    raise BrokenOffError
        finally:
            with proxy.lock:
                proxy.held -= 1

    def proceed(self) -> None:
        """Pass the real answer on."""
        try:
            answer = self.handler.call()
        except (OSError, http.client.HTTPException) as error:
            self.refuse(502, f"BadGateway: {type(error).__name__}")
            self.handler.hang_up()
            return
        self.proxy.gone += answer.status == 410
        if self.verb != "watch" or answer.status != 200:
            self.reply(answer.status, answer.read(), dict(answer.getheaders()))
            return
        self.begin()
        self.go_on(answer)
        self.end()

    # -- building blocks for faults --------------------------------------------------------------

    def reply(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.hang_if_lost()
        self.handler.send_response(code)
        for name, value in (headers or {}).items():
            if name.lower() in {"content-type", "retry-after"}:
                self.handler.send_header(name, value)
        self.handler.send_header("Content-Length", str(len(body)))
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def refuse(self, code: int, reason: str, headers: dict[str, str] | None = None) -> None:
        """Send a Status in place of an answer."""
        self.reply(code, json.dumps(status(code, reason)).encode(), headers)

    def begin(self) -> None:
        """Send the head of a stream."""
        self.hang_if_lost()
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.end_headers()
        self.handler.wfile.flush()

    def go_on(self, answer: http.client.HTTPResponse) -> None:
        """Pass events on as they come; each may meet a fault."""
        self._lines = iter(answer.readline, b"")
        for line in self._lines:
            self.proxy.gone += line.startswith(b'{"type":"ERROR"') and b'"code":410' in line
            fault = None if is_bookmark(line) else self.proxy.next_fault("event", self.path)
            if fault is not None:
                fault(self, line)
            else:
                self.chunk(line)

    def another_event(self) -> bytes:
        """Wait for the next event that is no bookmark."""
        return next(line for line in self._lines if not is_bookmark(line))

    def chunk(self, data: bytes) -> None:
        """Send bytes of a stream; on a connection that was frozen they are lost."""
        if not self.handler.lost:
            self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.handler.wfile.flush()

    def end(self) -> None:
        """End a stream in good order."""
        self.hang_if_lost()
        self.handler.wfile.write(b"0\r\n\r\n")
        self.handler.wfile.flush()

    def abort(self) -> None:
        """Reset the connection: no end, no goodbye."""
        linger = struct.pack("ii", 1, 0)
        connection = self.handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.handler.close_connection = True
        self.handler.rfile.close()
        self.handler.wfile.close()
        connection.close()
        raise BrokenOffError

    def close(self) -> None:
        """Close the connection without ending the stream."""
        socket.socket.shutdown(self.handler.connection, socket.SHUT_RDWR)
        raise BrokenOffError

    def hang(self) -> None:
        """Keep the connection open and say nothing more."""
        self.handler.proxy_stopped.wait(120)
        raise BrokenOffError

    def hang_if_lost(self) -> None:
        """Say nothing on a connection that was frozen."""
        if self.handler.lost:
            self.hang()


def is_bookmark(line: bytes) -> bool:
    return b'"type":"BOOKMARK"' in line[:40]


def status(code: int, reason: str) -> dict[str, Any]:
    """Return a Status."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": f"{reason} by the test",
    }
