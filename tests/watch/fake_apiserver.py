"""A small apiserver that can be made to fail in every way that a real one or its network can.

It speaks list (paged), watch (bookmarks, timeouts, resume) and token authentication over HTTP on
127.0.0.1, keeps one revision counter and an event history, and forgets history when compacted.
Faults are functions of an ``Exchange``. Each is used once, by the next request of its verb;
returning False means that the request goes on as if nothing had been.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Event, Thread
from time import monotonic
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

Object = dict[str, Any]
Fault = Callable[["Exchange"], "bool | None"]

NODES = "/api/v1/nodes"
PODS = "/api/v1/pods"


@dataclass(frozen=True)
class Change:
    """One entry of the history."""

    revision: int
    type: str
    path: str
    object: Object


@dataclass(frozen=True)
class Request:
    """One request as it came; ``verb`` is list, page (a list that goes on), watch or other."""

    verb: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float


@dataclass
class Snapshot:
    """What etcd would restore."""

    revision: int
    objects: dict[tuple[str, str], Object]


@dataclass
class FakeApiserver:
    """Start it with ``with``. Everything here may be called from any thread."""

    bookmark_every: float = 0.1
    tls: ssl.SSLContext | None = None
    tokens: set[str] | None = None
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.changed = Condition()
        self.revision = 100
        self.compacted = 0
        self.history: list[Change] = []
        self.objects: dict[tuple[str, str], Object] = {}
        self.snapshots: dict[str, tuple[int, list[Object]]] = {}
        self.faults: dict[str, deque[Fault]] = {"list": deque(), "page": deque(), "watch": deque()}
        self.always: dict[str, Fault] = {}
        self.stopped = Event()
        self._sockets: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    # -- lifecycle -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def up(self) -> None:
        """Listen, on the port of before if there was one."""
        self.stopped = Event()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Stop listening and reset every connection."""
        self.stopped.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        self.drop()
        with self.changed:
            self.changed.notify_all()

    def drop(self) -> None:
        """Reset every connection, as a proxy does that restarts."""
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    # -- objects ---------------------------------------------------------------------------------

    def put(self, path: str, name: str, **fields: Any) -> Object:
        """Create or change an object; returns it as stored."""
        with self.changed:
            before = self.objects.get((path, name))
            self.revision += 1
            uid = before["metadata"]["uid"] if before else f"uid-{name}-{self.revision}"
            metadata = {"name": name, "uid": uid, "resourceVersion": str(self.revision)}
            stored = {"metadata": metadata | fields.pop("metadata", {}), **fields}
            self.objects[path, name] = stored
            self._record("MODIFIED" if before else "ADDED", path, stored)
        return stored

    def delete(self, path: str, name: str) -> None:
        """Delete an object."""
        with self.changed:
            self.revision += 1
            gone = self.objects.pop((path, name))
            metadata = gone["metadata"] | {"resourceVersion": str(self.revision)}
            self._record("DELETED", path, gone | {"metadata": metadata})

    def tick(self) -> None:
        """Move the revision on, as writes to other kinds do."""
        with self.changed:
            self.revision += 1
            self.changed.notify_all()

    def _record(self, kind: str, path: str, obj: Object) -> None:
        self.history.append(Change(self.revision, kind, path, obj))
        self.changed.notify_all()

    def truth(self, path: str) -> dict[str, str]:
        """Return name -> resource version of what a list would say."""
        with self.changed:
            return {
                name: obj["metadata"]["resourceVersion"]
                for (where, name), obj in self.objects.items()
                if where == path
            }

    def compact(self) -> None:
        """Forget all history: versions below the present one are gone, and so are page tokens."""
        with self.changed:
            self.compacted = self.revision
            self.history.clear()
            self.snapshots.clear()

    def snapshot(self) -> Snapshot:
        """Take an etcd snapshot."""
        with self.changed:
            return Snapshot(self.revision, dict(self.objects))

    def restore(self, snapshot: Snapshot) -> None:
        """Come back from a snapshot, with its lower revision."""
        with self.changed:
            self.revision = snapshot.revision
            self.objects = dict(snapshot.objects)
            self.history.clear()
            self.compacted = 0

    # -- faults ----------------------------------------------------------------------------------

    def fail(self, verb: str, *faults: Fault) -> None:
        """Let the next requests of a verb (list, page, watch) meet these faults, one each."""
        self.faults[verb].extend(faults)

    def count(self, verb: str, path: str | None = None) -> int:
        """Return how many requests of a verb came."""
        return sum(r.verb == verb and path in {None, r.path} for r in list(self.requests))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Say nothing of the connections that tests break."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ClassVar[FakeApiserver]
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.api._sockets.add(self.request)
        super().setup()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        self.api._sockets.discard(self.request)

    def log_message(self, *_: object) -> None:
        """Tests print enough."""

    def do_GET(self) -> None:
        Exchange(self.api, self).serve()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        Exchange(self.api, self).reply(201, json.loads(body))

    do_PATCH = do_POST  # noqa: N815 - the name that the library looks for


class Exchange:
    """One request and what is done about it."""

    def __init__(self, api: FakeApiserver, handler: _Handler) -> None:
        self.api = api
        self.handler = handler
        url = urlsplit(handler.path)
        self.path = url.path
        self.query = dict(parse_qsl(url.query))
        verb = "watch" if "watch" in self.query else "page" if "continue" in self.query else "list"
        self.verb = verb
        self.position = int(self.query.get("resourceVersion") or 0)
        headers = dict(handler.headers.items())
        api.requests.append(Request(verb, self.path, self.query, headers, monotonic()))

    def serve(self) -> None:
        """Check the token, meet the next fault, or do what was asked."""
        token = self.handler.headers.get("Authorization", "").split(" ")[-1]
        if self.api.tokens is not None and token not in self.api.tokens:
            self.refuse(401, "Unauthorized")
            return
        with contextlib.suppress(OSError):
            waiting = self.api.faults[self.verb]
            fault = waiting.popleft() if waiting else self.api.always.get(self.verb)
            if fault is None or fault(self) is False:
                self.proceed()

    def proceed(self) -> None:
        """Answer as a healthy server does."""
        if self.verb == "watch":
            self.watch()
        else:
            self.list()

    # -- building blocks for faults --------------------------------------------------------------

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer; ``body`` is JSON data, or bytes to send as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.handler.send_response(status)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def refuse(self, code: int, reason: str, headers: dict[str, str] | None = None) -> None:
        """Send a Status."""
        self.reply(code, status(code, reason), headers)

    def begin(self) -> None:
        """Send the head of a stream."""
        self.handler.send_response(200)
        self.handler.send_header("Content-Type", "application/json")
        self.handler.send_header("Transfer-Encoding", "chunked")
        self.handler.end_headers()
        self.handler.wfile.flush()

    def chunk(self, data: bytes) -> None:
        """Send bytes of a stream."""
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.handler.wfile.flush()

    def event(self, kind: str, obj: Object) -> None:
        """Send one event."""
        self.chunk(line(kind, obj))

    def end(self) -> None:
        """End a stream in good order."""
        self.handler.wfile.write(b"0\r\n\r\n")
        self.handler.wfile.flush()

    def abort(self) -> None:
        """Reset the connection: no end, no goodbye."""
        linger = struct.pack("ii", 1, 0)
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close()

    def close(self) -> None:
        """Close the connection without ending the stream."""
        self.handler.close_connection = True
        socket.socket.shutdown(self.handler.connection, socket.SHUT_RDWR)

    def hang(self) -> None:
        """Keep the connection open and say nothing until the server goes down."""
        self.api.stopped.wait(60)

    def changes(self, wait: float) -> Iterator[Change]:
        """Yield what happened after this watch's position, waiting for more."""
        until = monotonic() + wait
        while not self.api.stopped.is_set():
            with self.api.changed:
                news = [c for c in self.api.history if c.revision > self.position]
                if not news and not self.api.changed.wait(max(0.0, until - monotonic())):
                    return
            for change in news:
                self.position = change.revision
                if change.path == self.path:
                    yield change

    def next_line(self) -> bytes:
        """Wait for the next event and return it as it would be sent."""
        change = next(self.changes(30))
        return line(change.type, change.object)

    # -- healthy answers -------------------------------------------------------------------------

    def list(self) -> None:
        """Answer a list or one of its pages."""
        with self.api.changed:
            token = self.query.get("continue")
            if token:
                at, start = json.loads(base64.b64decode(token))
                if at not in self.api.snapshots:
                    self.refuse(410, "Expired")
                    return
            else:
                mine = [o for (path, _), o in self.api.objects.items() if path == self.path]
                at, start = f"{self.path}@{self.api.revision}", 0
                self.api.snapshots[at] = (self.api.revision, mine)
            revision, everything = self.api.snapshots[at]
        limit = int(self.query.get("limit") or len(everything) or 1)
        end = start + limit
        metadata: Object = {"resourceVersion": str(revision)}
        if end < len(everything):
            metadata["continue"] = base64.b64encode(json.dumps([at, end]).encode()).decode()
            metadata["remainingItemCount"] = len(everything) - end
        self.reply(200, {"kind": "List", "metadata": metadata, "items": everything[start:end]})

    def watch(self) -> None:
        """Serve a watch until its timeout, with bookmarks like the real one's.

        Like the real one it sends no bookmark that is not newer than the watch's start, and
        accepts a version that it has not reached.
        """
        started_at = self.position
        if started_at < self.api.compacted:
            self.refuse(410, "Expired")
            return
        until = monotonic() + float(self.query.get("timeoutSeconds", "60"))
        self.begin()
        while monotonic() < until and not self.api.stopped.is_set():
            for change in self.changes(min(self.api.bookmark_every, until - monotonic())):
                self.event(change.type, change.object)
            if self.api.revision > started_at and "allowWatchBookmarks" in self.query:
                self.bookmark()
        self.end()

    def bookmark(self) -> None:
        """Send the present revision."""
        with self.api.changed:
            missed = any(c.revision > self.position for c in self.api.history)
            revision = self.api.revision
        if not missed:
            self.event("BOOKMARK", {"metadata": {"resourceVersion": str(revision)}})


def line(kind: str, obj: Object) -> bytes:
    """Return an event as it stands in a watch."""
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def status(code: int, reason: str, **details: Any) -> Object:
    """Return a Status."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": f"{reason} by the test",
        "details": details,
    }
