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
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.loader.serving import Handler, Serving

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


class Hub(Serving):
    """The server; as a context manager it runs. ``url`` is the hub's, ``cdn_url`` the other's."""

    def __init__(
        self,
        *,
        page: int = 3,
        piece: int = 16 * 1024,
        delay: float = 0.0,
        address: str = "127.0.0.1",
    ) -> None:
        super().__init__(_Handler, listeners=2, address=address)
        self.url, self.cdn_url = self.urls
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
        self.lock = threading.Lock()

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


class _Handler(Handler):
    @property
    def hub(self) -> Hub:
        hub = self.server.state
        assert isinstance(hub, Hub)
        return hub

    def respond(self) -> None:
        hub = self.hub
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
            self.answer(404)

    def _api(
        self, name: str, revision: str | None, tree: str | None, query: dict[str, list[str]]
    ) -> None:
        repository = self._repository(name, revision or tree)
        if repository is None:
            return
        trouble = self.hub.trouble("tree" if tree else "info")
        if trouble.meanwhile is not None:
            trouble.meanwhile()
        if trouble.status:
            self.answer(trouble.status, trouble.headers)
            return
        if tree is None:
            self._json({"id": name, "sha": repository.commit, "siblings": []})
            return
        first, page = int(query.get("cursor", ["0"])[0]), self.hub.page
        entries = [self._entry(repository, path) for path in sorted(repository.files)]
        headers = {}
        if first + page < len(entries):
            address = f"{self.hub.url}{urlsplit(self.path).path}?recursive=true"
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
        repository = self.hub.repositories.get(name)
        if token and token != TOKEN:
            self.answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
            return None
        if repository is None or (repository.private and not token):
            self.answer(404 if token else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        if revision not in {None, repository.branch, repository.commit}:
            self.answer(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repository

    def _resolve(self, name: str, revision: str, path: str) -> None:
        hub = self.hub
        repository = self._repository(name, revision)
        if repository is None:
            return
        if repository.gated:
            token = self.headers.get("Authorization")
            self.answer(403 if token else 401, {"X-Error-Code": "GatedRepo"})
            return
        if path not in repository.files:
            self.answer(404, {"X-Error-Code": "EntryNotFound"})
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
            self.answer(trouble.status, trouble.headers)
            return
        sha256 = sha256_of(content)
        headers |= {
            "Location": f"{hub.cdn_url}/cdn/{sha256}?Signature=secret",
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
        }
        self.answer(302, headers)

    def _cdn(self, sha256: str) -> None:
        hub = self.hub
        for repository in list(hub.repositories.values()):
            for path, content in repository.files.items():
                if sha256_of(content) == sha256:
                    trouble = hub.trouble(path, at_hub=False)
                    self._content(path, content, '"of-the-store"', trouble, {})
                    return
        self.answer(404)

    def _web(self, path: str) -> None:
        hub = self.hub
        content = hub.web.get(path)
        if content is not None:
            etag = f'"{hashlib.md5(content).hexdigest()}"'
            self._content(path, content, etag, hub.trouble(path), {})
            return
        if any(p.startswith(f"{path}/") for p in hub.web):
            self.answer(301, {"Location": f"/web/{path}/"})
            return
        below = sorted({p[len(path) :].partition("/")[0] for p in hub.web if p.startswith(path)})
        if not below or not hub.index_page or not (path.endswith("/") or not path):
            self.answer(404)
            return
        folders = {p[len(path) :].partition("/")[0] for p in hub.web if p[len(path) :].count("/")}
        links = [f"{name}/" if name in folders else name for name in below]
        page = "".join(f'<a href="{link}">{link}</a>\n' for link in links).encode()
        self.answer(200, {"Content-Type": "text/html"}, page)

    def _content(
        self, path: str, content: bytes, etag: str, trouble: Trouble, headers: dict[str, str]
    ) -> None:
        hub = self.hub
        if trouble.meanwhile:
            trouble.meanwhile()
        if trouble.status:
            self.answer(trouble.status, trouble.headers)
            return
        asked = self.headers.get("Range")
        headers = {"ETag": etag, **headers, **trouble.headers}
        status, start, end = 200, 0, len(content)
        same = self.headers.get("If-Range", etag) == etag
        if asked and same and hub.ranges and not trouble.no_ranges:
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
            assert wanted is not None, asked
            start = int(wanted[1])
            end = min(end, int(wanted[2]) + 1) if wanted[2] else end
            if start >= len(content):
                self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            if trouble.shifted:
                start = max(0, start - 1)
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        body = bytearray(content[start:end])
        if trouble.flip and body:
            body[len(body) // 2] ^= 1
        body += b"x" * trouble.longer
        self.head(status, {**headers, **trouble.headers}, len(body))
        if self.command != "HEAD":
            self._send(path, start, bytes(body), asked, trouble)

    def _send(
        self, path: str, start: int, body: bytes, asked: str | None, trouble: Trouble
    ) -> None:
        hub = self.hub
        record = Served(path, start, 0, asked, dict(self.headers))
        with hub.lock:
            hub.served.append(record)
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

    def _json(self, document: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.answer(200, {"Content-Type": "application/json", **(headers or {})}, body)
