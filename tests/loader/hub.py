"""A server that speaks the Hugging Face hub's API, and misbehaves as it is told.

It has what ``huggingface_hub`` and our range reader use: model info, the tree in pages, ``resolve``
with ETags and X-Repo-Commit, large files on another host behind a redirect, private and gated
repositories with their error codes. ``/web/`` serves the files of a directory as web servers do.

``troubles`` holds what goes wrong next: for a file's path, ``info`` or ``tree`` a list of troubles,
each of which is used up by one request. ``served`` tells what was asked and what was sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_test"


@lru_cache(maxsize=256)
def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=256)
def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    """``files`` by path; those with more than ``large`` bytes lie on the other host.

    ``claimed_commit``: what a mirror says that the files are of, whatever they are.
    """

    files: dict[str, bytes]
    large: int = 1000
    private: bool = False
    gated: bool = False
    branch: str = "main"
    claimed_commit: str = ""

    @property
    def commit(self) -> str:
        if self.claimed_commit:
            return self.claimed_commit
        names = [f"{path} {git_oid(content)}" for path, content in sorted(self.files.items())]
        return hashlib.sha1("\n".join(names).encode()).hexdigest()

    def is_large(self, path: str) -> bool:
        return len(self.files[path]) > self.large


@dataclass
class Trouble:
    """What goes wrong with one answer.

    ``status`` instead of the content; ``cut_after`` bytes of the body the connection ends;
    ``hang_after`` so many nothing comes until the server ends; ``flip`` changes a byte; ``longer``
    bytes more than there are; ``no_ranges`` sends the whole file whatever was asked; ``shifted``
    another range; ``at_hub``: the hub itself does it, not the host with the large files.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    hang_after: int | None = None
    flip: bool = False
    longer: int = 0
    no_ranges: bool = False
    shifted: bool = False
    at_hub: bool = False
    meanwhile: Callable[[], None] | None = None


@dataclass
class Served:
    """One answer with content: what was asked for and how much of it was sent."""

    path: str
    start: int
    sent: int
    asked_range: str | None
    headers: dict[str, str]


class Hub:
    """The server; as a context manager it runs. ``url`` is the hub's, ``cdn_url`` the other's."""

    def __init__(self, *, page: int = 3, piece: int = 16 * 1024, delay: float = 0.0) -> None:
        self.repositories: dict[str, Repository] = {}
        self.web: dict[str, bytes] = {}
        self.index_page = True
        self.ranges = True
        self.page = page
        self.piece = piece
        self.delay = delay
        self.troubles: dict[str, list[Trouble]] = defaultdict(list)
        self.served: list[Served] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self._servers = [_Server(("127.0.0.1", 0), _Handler, self) for _ in range(2)]
        self.url, self.cdn_url = (
            f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers
        )

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

    def bytes_sent(self, path: str | None = None) -> int:
        with self.lock:
            return sum(one.sent for one in self.served if path in {None, one.path})

    def trouble(self, path: str, *, at_hub: bool = True) -> Trouble:
        """Return the next trouble of a path, used up; a trouble-free one where there is none."""
        with self.lock:
            waiting = self.troubles[path]
            if waiting and waiting[0].at_hub in {at_hub, False}:
                return waiting.pop(0)
        return Trouble()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[_Handler], hub: Hub) -> None:
        self.hub = hub
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away in mid-answer are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server.hub
        target = urlsplit(self.path)
        path = unquote(target.path)
        with hub.lock:
            hub.asked.append((self.path, dict(self.headers)))
        if api := re.fullmatch(r"/api/models/(.+?)(?:/revision/(.+)|/tree/([^/]+))?", path):
            self._api(api[1], api[2], api[3], parse_qs(target.query))
        elif resolve := re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", path):
            self._resolve(*resolve.groups())
        elif path.startswith("/cdn/"):
            self._cdn(path.removeprefix("/cdn/"))
        elif path.startswith("/web/"):
            self._web(path.removeprefix("/web/"))
        else:
            self._answer(404)

    def _api(
        self, name: str, revision: str | None, tree: str | None, query: dict[str, list[str]]
    ) -> None:
        repository = self._repository(name, revision or tree)
        if repository is None:
            return
        trouble = self.server.hub.trouble("tree" if tree else "info")
        if trouble.status:
            self._answer(trouble.status, trouble.headers)
            return
        if tree is None:
            self._json({"id": name, "sha": repository.commit, "siblings": []})
            return
        first, page = int(query.get("cursor", ["0"])[0]), self.server.hub.page
        entries = [self._entry(repository, path) for path in sorted(repository.files)]
        headers = {}
        if first + page < len(entries):
            address = f"{self.server.hub.url}{urlsplit(self.path).path}?recursive=true"
            headers["Link"] = f'<{address}&cursor={first + page}>; rel="next"'
        self._json(entries[first : first + page], headers)

    def _entry(self, repository: Repository, path: str) -> dict[str, Any]:
        content = repository.files[path]
        entry: dict[str, Any] = {
            "type": "file",
            "path": path,
            "size": len(content),
            "oid": git_oid(content),
        }
        if repository.is_large(path):
            oid = sha256_of(content)
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return entry

    def _repository(self, name: str, revision: str | None) -> Repository | None:
        """Return the repository, or answer why not as the hub does."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        repository = self.server.hub.repositories.get(name)
        if token and token != TOKEN:
            self._answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
            return None
        if repository is None or (repository.private and not token):
            self._answer(404 if token else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        if revision not in {None, repository.branch, repository.commit}:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repository

    def _resolve(self, name: str, revision: str, path: str) -> None:
        hub = self.server.hub
        repository = self._repository(name, revision)
        if repository is None:
            return
        if repository.gated:
            token = self.headers.get("Authorization")
            self._answer(403 if token else 401, {"X-Error-Code": "GatedRepo"})
            return
        if path not in repository.files:
            self._answer(404, {"X-Error-Code": "EntryNotFound"})
            return
        content = repository.files[path]
        headers = {"X-Repo-Commit": repository.commit}
        if not repository.is_large(path):
            self._content(path, content, f'"{git_oid(content)}"', hub.trouble(path), headers)
            return
        with hub.lock:
            waiting = hub.troubles[path]
            trouble = waiting.pop(0) if waiting and waiting[0].at_hub else Trouble()
        if trouble.status:
            self._answer(trouble.status, trouble.headers)
            return
        sha256 = sha256_of(content)
        headers |= {
            "Location": f"{hub.cdn_url}/cdn/{sha256}?Signature=secret",
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
        }
        self._answer(302, headers)

    def _cdn(self, sha256: str) -> None:
        hub = self.server.hub
        for repository in list(hub.repositories.values()):
            for path, content in repository.files.items():
                if sha256_of(content) == sha256:
                    trouble = hub.trouble(path, at_hub=False)
                    self._content(path, content, '"of-the-store"', trouble, {})
                    return
        self._answer(404)

    def _web(self, path: str) -> None:
        hub = self.server.hub
        content = hub.web.get(path)
        if content is not None:
            etag = f'"{hashlib.md5(content).hexdigest()}"'
            self._content(path, content, etag, hub.trouble(path), {})
            return
        if any(p.startswith(f"{path}/") for p in hub.web):
            self._answer(301, {"Location": f"/web/{path}/"})
            return
        below = sorted({p[len(path) :].partition("/")[0] for p in hub.web if p.startswith(path)})
        if not below or not hub.index_page or not (path.endswith("/") or not path):
            self._answer(404)
            return
        folders = {p[len(path) :].partition("/")[0] for p in hub.web if p[len(path) :].count("/")}
        links = [f"{name}/" if name in folders else name for name in below]
        page = "".join(f'<a href="{link}">{link}</a>\n' for link in links).encode()
        self._answer(200, {"Content-Type": "text/html"}, page)

    def _content(
        self, path: str, content: bytes, etag: str, trouble: Trouble, headers: dict[str, str]
    ) -> None:
        hub = self.server.hub
        if trouble.meanwhile:
            trouble.meanwhile()
        if trouble.status:
            self._answer(trouble.status, trouble.headers)
            return
        asked = self.headers.get("Range")
        headers = {"ETag": etag, **headers}
        status, start, end = 200, 0, len(content)
        same = self.headers.get("If-Range", etag) == etag
        if asked and same and hub.ranges and not trouble.no_ranges:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
            assert wanted is not None, asked
            start = int(wanted[1])
            end = min(end, int(wanted[2]) + 1) if wanted[2] else end
            if start >= len(content):
                self._answer(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            if trouble.shifted:
                start = max(0, start - 1)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        body = bytearray(content[start:end])
        if trouble.flip and body:
            body[len(body) // 2] ^= 1
        body += b"x" * trouble.longer
        self.send_response(status)
        for key, value in {**headers, **trouble.headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self._send(path, start, bytes(body), asked, trouble)

    def _send(
        self, path: str, start: int, body: bytes, asked: str | None, trouble: Trouble
    ) -> None:
        hub = self.server.hub
        record = Served(path, start, 0, asked, dict(self.headers))
        with hub.lock:
            hub.served.append(record)
            hub.at_once += 1
            hub.most_at_once = max(hub.most_at_once, hub.at_once)
        try:
            stop = trouble.cut_after if trouble.hang_after is None else trouble.hang_after
            for at in range(0, len(body), hub.piece):
                piece = body[at : at + hub.piece]
                if stop is not None and at + len(piece) >= stop:
                    self.wfile.write(piece[: stop - at])
                    record.sent += stop - at
                    if trouble.hang_after is not None:
                        hub.ended.wait(60)
                    self.close_connection = True
                    return
                self.wfile.write(piece)
                record.sent += len(piece)
                if hub.delay:
                    time.sleep(hub.delay)
        finally:
            with hub.lock:
                hub.at_once -= 1

    def _json(self, document: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self._answer(200, {"Content-Type": "application/json", **(headers or {})}, body)

    def _answer(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
