"""An apiserver that gives the answers of a test, over real HTTP, and keeps what it was sent."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, ClassVar

import yaml


@dataclass
class Apiserver:
    """Gives one answer to everything, and keeps what it was sent.

    Status 0: it hangs up. ``first`` are the statuses of the first answers, used up one by one.
    ``at`` has the status and the body of single paths. Requests whose path has ``hangs`` in it are
    answered once they are ``released``. ``meanwhile`` is told of each path before it is answered.
    """

    status: int = 201
    first: list[int] = field(default_factory=list)
    body: Any = field(default_factory=dict)
    at: dict[str, tuple[int, Any]] = field(default_factory=dict)
    hangs: str = ""
    released: Event = field(default_factory=Event)
    meanwhile: Callable[[str], None] = lambda _: None
    url: str = ""
    seen: list[tuple[str, str, Any]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    apiserver: ClassVar[Apiserver]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self._answer(json.loads(self.rfile.read(length)))

    do_PATCH = do_POST  # noqa: N815 - the name that http.server calls

    def do_GET(self) -> None:
        self._answer(None)

    def _answer(self, sent: Any) -> None:
        self.apiserver.seen.append((self.command, self.path, sent))
        if self.apiserver.hangs and self.apiserver.hangs in self.path:
            self.apiserver.released.wait(60)
        self.apiserver.meanwhile(self.path)
        usual = self.apiserver.status, self.apiserver.body
        status, document = self.apiserver.at.get(self.path.partition("?")[0], usual)
        if self.apiserver.first:
            status = self.apiserver.first.pop(0)
        if status == 0:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering() -> Iterator[Apiserver]:
    """Serve on 127.0.0.1 for as long as it is needed."""
    made = Apiserver()
    handler = type("OwnHandler", (Handler,), {"apiserver": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.released.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


def kubeconfig(url: str, folder: Any) -> Any:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path
