"""Ranges of files over HTTP: what the hub and plain web servers have in common.

The server's word is checked before a byte is taken: the range that it sends is the one asked for,
the length is that of the listing, and the ETag is the one seen then. So a file that was replaced in
between, or a server that ignores ranges, is noticed and never mixed with what is there already.

A redirect to another host takes no Authorization header with it (the HTTP client sees to that).
Addresses of redirects carry signatures: they are never shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import httpx2

from extender.loader.sources import Cause, RemoteFile, SourceError
from extender.loader.sources.urls import without_queries

CONNECT_SECONDS = 10.0

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

Headers = Mapping[str, str]
Explain = Callable[[httpx2.Response], SourceError | None]


def client(stall_seconds: float) -> httpx2.Client:
    """Return a client for many threads. It asks for no compression: ranges are of the file."""
    return httpx2.Client(
        follow_redirects=True,
        timeout=httpx2.Timeout(
            connect=CONNECT_SECONDS, read=stall_seconds, write=stall_seconds, pool=None
        ),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        headers={"Accept-Encoding": "identity", "User-Agent": "model-cache-extender"},
    )


class RangeReader:
    """Reads ranges of one source's files. ``source`` is how messages name it."""

    def __init__(self, http: httpx2.Client, *, source: str) -> None:
        self._http = http
        self._source = source

    @contextmanager
    def read(
        self,
        url: str,
        file: RemoteFile,
        start: int,
        end: int | None,
        *,
        headers: Headers | None = None,
        etag: str = "",
        explain: Explain = lambda _: None,
    ) -> Iterator[Iterator[bytes]]:
        """Read from ``start`` to ``end``; see ``Source.open``.

        ``etag``: the version (see ``look``) that the server has to answer with. ``explain``: what a
        refusal or an answer means, where the server says more than its status.
        """
        whole = start == 0 and (end is None or end == file.size)
        asked = dict(headers or {})
        if not whole:
            asked["Range"] = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
            if etag.startswith('"'):
                asked["If-Range"] = etag
        with self._answer(url, asked, file.path, explain) as response:
            self._check(response, file, start, end, whole=whole, etag=etag)
            yield self._pieces(response, file.path)

    def look(self, url: str, path: str, *, headers: Headers | None = None) -> RemoteFile:
        """Return size and version of a file, from the head of an answer whose body is not read.

        The version is its ETag, or where the server has none the time of its last change.
        """
        with self._answer(url, dict(headers or {}), path, lambda _: None) as response:
            length = response.headers.get("Content-Length", "")
            return RemoteFile(
                path=path,
                size=int(length) if length.isascii() and length.isdigit() else None,
                version=str(
                    response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
                ),
            )

    def text(self, url: str, path: str, *, limit: int) -> str:
        """Return a small text. Raises SourceError also where it has more than ``limit`` bytes."""
        with self._answer(url, {}, path, lambda _: None) as response:
            read = b""
            for piece in self._pieces(response, path):
                read += piece
                if len(read) > limit:
                    raise self._error(path, f"has more than {limit} bytes", Cause.INVALID)
            return read.decode(errors="replace")

    @contextmanager
    def _answer(
        self, url: str, headers: Headers, path: str, explain: Explain
    ) -> Iterator[httpx2.Response]:
        try:
            request = self._http.build_request("GET", url, headers=headers)
            response = self._http.send(request, stream=True)
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.TooManyRedirects) as error:
            raise self._unreachable(path, error) from error
        try:
            first, *others = [*response.history, response]
            plain = next((hop.url.host for hop in others if hop.url.scheme == "http"), None)
            if first.url.scheme == "https" and plain is not None:
                problem = f"leads to http://{plain}, where it can be changed on the way"
                raise self._error(path, problem, Cause.INVALID)
            said = explain(_of_the_host_asked(response))
            if said is not None:
                raise said
            if response.status_code not in {200, 206}:
                raise self._refusal(response, path)
            yield response
        finally:
            response.close()

    def _pieces(self, response: httpx2.Response, path: str) -> Iterator[bytes]:
        try:
            yield from response.iter_raw()
        except httpx2.TransportError as error:
            raise self._unreachable(path, error) from error

    def _check(
        self,
        response: httpx2.Response,
        file: RemoteFile,
        start: int,
        end: int | None,
        *,
        whole: bool,
        etag: str,
    ) -> None:
        is_etag = etag.startswith(('"', "W/"))
        answered = response.headers.get("ETag" if is_etag else "Last-Modified", "")
        if etag and answered and answered != etag:
            raise self._error(file.path, "was replaced since it was listed", Cause.CHANGED)
        encoding = response.headers.get("Content-Encoding", "") or "identity"
        if encoding != "identity":
            problem = f"comes encoded ({encoding}) though that was not asked for; switch that off"
            raise self._error(file.path, problem, Cause.INVALID)
        length = response.headers.get("Content-Length", "")
        if response.status_code == 200:
            if file.size is not None and length.isdigit() and int(length) != file.size:
                problem = f"has {length} bytes now, {file.size} when it was listed"
                raise self._error(file.path, problem, Cause.CHANGED)
            if not whole:
                raise self._error(
                    file.path, "can only be read as a whole (no ranges)", Cause.NO_RANGES
                )
            return
        sent = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        last = int(sent[2]) + 1 if sent else -1
        wanted = last == end if end is not None else True
        fits = not length.isdigit() or int(length) == last - start
        if sent is None or whole or int(sent[1]) != start or not wanted or not fits:
            problem = f"came as another range than asked for ({start} to {end})"
            raise self._error(file.path, problem, Cause.INVALID, permanent=False)
        if sent[3] != "*" and file.size is not None and int(sent[3]) != file.size:
            problem = f"has {sent[3]} bytes now, {file.size} when it was listed"
            raise self._error(file.path, problem, Cause.CHANGED)

    def _refusal(self, response: httpx2.Response, path: str) -> SourceError:
        status, host = response.status_code, response.url.host
        wait = retry_after(response.headers)
        if status in {408, 425, 429}:
            return self._error(path, f"{host} asks to wait ({status})", Cause.THROTTLED, wait=wait)
        if status >= 500:
            return self._error(path, f"{host} has a fault ({status})", Cause.SERVER, wait=wait)
        if status == 416:
            return self._error(path, "is shorter than when it was listed", Cause.CHANGED)
        if status in {401, 403} and _of_the_host_asked(response) is not response:
            # The signature of a redirect ends after a while; the next request gets a new one.
            problem = f"{host} refuses the link that it was given ({status})"
            return self._error(path, problem, Cause.SERVER, wait=wait)
        if status in {401, 403}:
            problem = f"{host} refuses access ({status}); give credentials that may read it"
            return self._error(path, problem, Cause.UNAUTHORIZED)
        if status in {404, 410}:
            return self._error(path, f"is not at {host} ({status})", Cause.NOT_FOUND)
        return self._error(path, f"{host} answers {status}", Cause.INVALID)

    def _unreachable(
        self,
        path: str,
        error: httpx2.TransportError | httpx2.InvalidURL | httpx2.TooManyRedirects,
    ) -> SourceError:
        if isinstance(error, httpx2.InvalidURL | httpx2.TooManyRedirects):
            return self._error(path, f"leads nowhere ({type(error).__name__})", Cause.INVALID)
        what = (
            "sends nothing"
            if isinstance(error, httpx2.TimeoutException)
            else f"breaks: {said(error)}"
        )
        return self._error(path, f"the connection {what}", Cause.UNREACHABLE)

    def _error(
        self,
        path: str,
        problem: str,
        cause: Cause,
        *,
        wait: float | None = None,
        permanent: bool | None = None,
    ) -> SourceError:
        return SourceError(
            f"source {self._source}: {path}: {problem}",
            cause=cause,
            retry_after=wait,
            permanent=permanent,
        )


def said(error: httpx2.TransportError) -> str:
    """Return what the HTTP client says of a failure, without what nobody may read.

    What it will not send it quotes, a header with a token among them.
    """
    if isinstance(error, httpx2.LocalProtocolError):
        return "the request is not one that HTTP can carry"
    return without_queries(str(error))


def _of_the_host_asked(response: httpx2.Response) -> httpx2.Response:
    """Return the last answer of the host that was asked: what it redirects to is another one's."""
    answers = [*response.history, response]
    return [answer for answer in answers if answer.url.origin == answers[0].url.origin][-1]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header; a date is read against the server's own clock.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        until, now = (parsedate_to_datetime(t) for t in (said, headers.get("Date", "")))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return None
