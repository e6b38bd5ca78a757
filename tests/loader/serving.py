"""What the servers of these tests have in common: they run while a block does, on 127.0.0.1."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.authority import Pair


class Serving:
    """One or more listeners with one state, of which their handlers know as ``self.state``."""

    def __init__(
        self,
        handler: type[Handler],
        listeners: int = 1,
        address: str = "127.0.0.1",
        tls: Pair | None = None,
    ) -> None:
        self.ended = threading.Event()
        self._servers = [_Server((address, 0), handler) for _ in range(listeners)]
        for server in self._servers:
            server.state = self
            if tls is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(tls.cert, tls.key)
                server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.urls = [f"{scheme}://{address}:{server.server_port}" for server in self._servers]

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    state: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in mid-answer are what the tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET as its subclass says, and HEAD without the body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def respond(self) -> None:
        raise NotImplementedError

    def head(self, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.head(status, headers or {}, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)
