"""A local apiserver for measuring: lists a fleet, and streams changes of its pods at a set rate.

It runs as a process of its own (``python -m bench.apiserver``), so that serving costs the measured
program nothing. The world moves only while it is watched, by one watcher: nothing can be missed.
``POST /events?rate=N`` sets the changes a second. ``POST /expire`` ends the watch of pods with 410
and answers once they have been listed anew, with the seconds from the first page to the last.
"""

from __future__ import annotations

import json
import random
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import click

from bench.fleet import Fleet

PODS = "/api/v1/pods"
_TICK_SECONDS = 0.01
_MOST_AT_ONCE = 500
"""Changes; what a reader is too slow for is not owed to it for ever."""
_BOOKMARK_SECONDS = 5.0


class World:
    """The fleet and what has become of it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.version = 2
        self.rate = 0.0
        self.expired = Event()
        self.listed = Event()
        self.list_began = self.list_ended = 0.0
        self._random = random.Random(1)
        self._changed: dict[int, tuple[bool, int]] = {}
        dumped = {
            "/api/v1/nodes": [fleet.node(index) for index in range(fleet.nodes)],
            "/apis/apps/v1/daemonsets": fleet.daemonsets(),
        }
        self._items = {path: [_dump(item) for item in items] for path, items in dumped.items()}
        self._loader_pods = [_dump(pod) for pod in fleet.loader_pods()]

    def count(self, path: str) -> int:
        """Return how many objects a list has."""
        if path == PODS:
            return len(self._loader_pods) + self.fleet.pods
        return len(self._items.get(path, ()))

    def page(self, path: str, begin: int, end: int) -> list[str]:
        """Return objects of a list as JSON."""
        if path != PODS:
            return self._items.get(path, [])[begin:end]
        loaders = len(self._loader_pods)
        others = range(max(0, begin - loaders), max(0, end - loaders))
        return self._loader_pods[begin:end] + [self._pod(index) for index in others]

    def change(self) -> str:
        """Change one pod, and return the event."""
        index = self._random.randrange(self.fleet.pods)
        ready, _ = self._changed.get(index, (True, 1))
        self.version += 1
        self._changed[index] = (not ready, self.version)
        return f'{{"type":"MODIFIED","object":{self._pod(index)}}}\n'

    def _pod(self, index: int) -> str:
        ready, version = self._changed.get(index, (True, 1))
        return self.fleet.pod(index, ready=ready, version=version)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    world: World

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        if query.get("watch") == "true":
            self._watch(parts.path, float(query["timeoutSeconds"]))
        else:
            self._list(parts.path, query)

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/events":
            self.world.rate = float(dict(parse_qsl(parts.query))["rate"])
        else:
            world = self.world
            world.listed.clear()
            world.expired.set()
            world.listed.wait()
            self._answer(f"{world.list_ended - world.list_began:.3f}")
            return
        self._answer("ok")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _list(self, path: str, query: dict[str, str]) -> None:
        begin = int(query.get("continue") or 0)
        count = self.world.count(path)
        end = min(count, begin + int(query.get("limit") or count))
        if path == PODS and begin == 0:
            self.world.list_began = time.monotonic()
        metadata: dict[str, Any] = {"resourceVersion": str(self.world.version)}
        if end < count:
            metadata["continue"] = str(end)
        items = ",".join(self.world.page(path, begin, end))
        self._answer(f'{{"kind":"List","metadata":{_dump(metadata)},"items":[{items}]}}')
        if path == PODS and end == count:
            self.world.list_ended = time.monotonic()
            self.world.listed.set()

    def _watch(self, path: str, seconds: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        end = time.monotonic() + seconds
        bookmark = last = time.monotonic()
        owed = 0.0
        while (now := time.monotonic()) < end:
            lines = []
            if path == PODS:
                owed = min(owed + (now - last) * self.world.rate, _MOST_AT_ONCE)
                lines = [self.world.change() for _ in range(int(owed))]
                owed -= len(lines)
            last = now
            if now >= bookmark:
                bookmark = now + _BOOKMARK_SECONDS
                lines.append(self._bookmark())
            if path == PODS and self.world.expired.is_set():
                self.world.expired.clear()
                status = {"kind": "Status", "code": 410, "reason": "Expired"}
                self._send(_dump({"type": "ERROR", "object": status}) + "\n")
                break
            if lines:
                self._send("".join(lines))
            time.sleep(_TICK_SECONDS)
        self.wfile.write(b"0\r\n\r\n")

    def _bookmark(self) -> str:
        metadata = {"resourceVersion": str(self.world.version)}
        return _dump({"type": "BOOKMARK", "object": {"metadata": metadata}}) + "\n"

    def _send(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _answer(self, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _dump(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"))


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--nodes", type=int, required=True)
@click.option("--pods", type=int, required=True)
def main(port: int, nodes: int, pods: int) -> None:
    """Serve until killed."""
    handler = type("Handler", (_Handler,), {"world": World(Fleet(nodes=nodes, pods=pods))})
    _Server(("127.0.0.1", port), handler).serve_forever()


if __name__ == "__main__":
    main()
