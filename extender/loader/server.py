"""Health and metrics of the loader: read-only, for the kubelet and Prometheus.

``/healthz``: the loop turns. ``/readyz``: a catalog is in force, and what lies on the disk was
looked at once and reported; not that every model is there, which the report says. ``/metrics``.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from extender.errors import UsageError

_CLIENT_SECONDS = 10.0

Check = Callable[[], str]
"""Why something is not well; empty where it is."""

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class StatusServer:
    """Answers on ``address`` (host, port) until ``stop``. Raises UsageError where it cannot."""

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        *,
        alive: Check,
        ready: Check,
    ) -> None:
        metrics: Any = make_wsgi_app(registry)
        checks = {"/healthz": alive, "/readyz": ready}

        def answer(environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                body: Iterable[bytes] = metrics(environ, start)
                return body
            check = checks.get(path)
            problem = check() if check is not None else ""
            status = "404 Not Found" if check is None else "200 OK"
            text = "ok\n" if check is not None else "/healthz, /readyz and /metrics are served\n"
            if problem:
                status, text = "503 Service Unavailable", f"{problem}\n"
            start(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [text.encode()]

        host, port = address
        server_class = _server_class(host)
        try:
            self._server = make_server(host, port, answer, server_class, _Handler)
        except OSError as error:
            raise UsageError(
                f"--status-listen {host}:{port}: {error.strerror or error}; name an address of "
                "this machine and a port that is free"
            ) from error
        self.port: int = self._server.server_port
        self._thread = Thread(target=self._server.serve_forever, name="status", daemon=True)

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def _server_class(host: str) -> type[ThreadingWSGIServer]:
    class Server(ThreadingWSGIServer):
        address_family = socket.AF_INET6 if _is_v6(host) else socket.AF_INET

    return Server


def _is_v6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


class _Handler(WSGIRequestHandler):
    """One request, which a client that is slow does not hold for long."""

    timeout = _CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has there
        """Say nothing: probes come every few seconds."""
