"""``s3://bucket/prefix`` and ``gs://bucket/prefix``: object stores, through fsspec.

Credentials, regions and proxies come from where the stores' own SDKs look for them. A bucket that
all may read needs FSSPEC_S3_ANON=true or FSSPEC_GS_TOKEN=anon in the environment.

The libraries' own retries are off: they do not look at Retry-After, and each of many connections
would ask a store again, five times within a second, that has just asked to be left alone. Whoever
downloads tries again, for all connections at once (``transfer``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
import fsspec
import httpx2
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from fsspec.asyn import AsyncFileSystem, sync
from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError
from google.auth.exceptions import GoogleAuthError

from extender.loader.sources import (
    Cause,
    Credentials,
    Listing,
    RemoteFile,
    SourceError,
)
from extender.loader.sources.patterns import chosen, is_listed
from extender.loader.sources.ranges import CONNECT_SECONDS, retry_after
from extender.loader.sources.urls import Location, without_queries

BLOCK_BYTES = 4 * 1024 * 1024
"""Read at once: a range that is asked for comes in as many requests as it has blocks."""

Read = Callable[[str, int, int, str], bytes]
Failures = (
    OSError,
    ValueError,
    ClientError,
    BotoCoreError,
    GoogleAuthError,
    HttpError,
    aiohttp.ClientError,
)
"""What the two stores' libraries raise for what the network or the server does."""


_asked_to_wait: ContextVar[float | None] = ContextVar("asked_to_wait", default=None)
"""Seconds, of the request that this task has sent last: gcsfs tells no headers of a refusal."""


class _ReplacedError(OSError):
    """The object that was listed is there in another generation."""


class ObjectSource:
    """The objects below one prefix; see ``sources.Source``."""

    def __init__(
        self,
        location: Location,
        *,
        include: Sequence[str],
        exclude: Sequence[str],
        credentials: Credentials,
        stall_seconds: float,
    ) -> None:
        self._url = location.url
        self._prefix = location.place.rstrip("/")
        self._include, self._exclude = include, exclude
        self._is_object = False  # or a prefix of many, which only listing can tell
        self._store: AsyncFileSystem
        self._read: Read
        open_store = _s3 if location.scheme == "s3" else _gcs
        try:
            self._store, self._read = open_store(credentials.endpoint_url, stall_seconds)
        except Failures as error:  # its text may quote the credentials
            raise SourceError(
                f"source {self._url}: its credentials cannot be used ({type(error).__name__}); "
                "give such as the store's SDK takes (docs/sources.md)",
                cause=Cause.UNAUTHORIZED,
                permanent=False,
            ) from None

    def list(self) -> Listing:
        """Return the objects below the prefix, or the one object that has this very name."""
        try:
            found: Mapping[str, Mapping[str, Any]] = self._store.find(self._prefix, detail=True)
        except Failures as error:
            raise self._failure("", error) from error
        self._is_object = set(found) == {self._prefix}
        files = [
            RemoteFile(
                path=self._relative(name),
                size=entry["size"],
                version=str(entry.get("generation") or entry.get("ETag") or ""),
            )
            for name, entry in found.items()
            # Not the empty objects that stand for folders in consoles.
            if not name.endswith("/") and self._is_listed(self._relative(name))
        ]
        choice = chosen(files, source=self._url, include=self._include, exclude=self._exclude)
        return Listing(
            source=self._url,
            revision=None,
            files=choice.files,
            left_out=choice.left_out,
            vouched=self._is_object,
        )

    @contextmanager
    def open(self, file: RemoteFile, start: int, end: int | None) -> Iterator[Iterator[bytes]]:
        """Read a range of an object; one that was replaced since it was listed is refused."""
        yield self._blocks(file, start, file.size or 0 if end is None else end)

    def _blocks(self, file: RemoteFile, start: int, end: int) -> Iterator[bytes]:
        name = self._prefix if self._is_object else f"{self._prefix}/{file.path}"
        for at in range(start, end, BLOCK_BYTES):
            try:
                yield self._read(name, at, min(end, at + BLOCK_BYTES), file.version)
            except Failures as error:
                raise self._failure(f"{file.path}: ", error) from error

    def _is_listed(self, path: str) -> bool:
        return is_listed(path, source=self._url, include=self._include, exclude=self._exclude)

    def _relative(self, name: str) -> str:
        if name == self._prefix:
            return name.rsplit("/", 1)[-1]
        return name.removeprefix(f"{self._prefix}/")

    def _failure(self, path: str, error: Exception) -> SourceError:
        where = f"source {self._url}: {path}"
        status = _status(error)
        if status == 412 or isinstance(error, _ReplacedError):
            return SourceError(f"{where}was replaced since it was listed", cause=Cause.CHANGED)
        if status == 416:
            return SourceError(f"{where}is shorter than when it was listed", cause=Cause.CHANGED)
        if isinstance(error, FileNotFoundError) or status == 404:
            return SourceError(f"{where}does not exist; correct its address", cause=Cause.NOT_FOUND)
        if _is_refusal(error) or status in {401, 403}:
            return SourceError(
                f"{where}access refused; give credentials that may list and read it",
                cause=Cause.UNAUTHORIZED,
            )
        wait = _retry_after(error)
        if status in {429, 503}:
            return SourceError(
                f"{where}asks to wait ({status})", cause=Cause.THROTTLED, retry_after=wait
            )
        if status is not None and status >= 500:
            return SourceError(
                f"{where}has a fault ({status})", cause=Cause.SERVER, retry_after=wait
            )
        return SourceError(
            f"{where}cannot be reached: {without_queries(str(error))[:200]}",
            cause=Cause.UNREACHABLE,
        )


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, PermissionError | NoCredentialsError | GoogleAuthError):
        return True
    return str(error).startswith("Forbidden")  # gcsfs has no class for it


def _s3(endpoint_url: str | None, stall_seconds: float) -> tuple[AsyncFileSystem, Read]:
    store = fsspec.filesystem(
        "s3",
        skip_instance_cache=True,
        use_listings_cache=False,
        endpoint_url=endpoint_url,
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": stall_seconds,
            "max_pool_connections": 64,
            "retries": {"total_max_attempts": 1},
        },
    )
    store.retries = 1

    async def get(name: str, start: int, end: int, etag: str) -> bytes:
        bucket, key, _ = store.split_path(name)
        condition = {"IfMatch": etag} if etag else {}
        answer = await store._call_s3(  # noqa: SLF001 - fsspec's own reads take no condition
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **condition
        )
        async with answer["Body"] as body:
            return bytes(await body.read())

    def read(name: str, start: int, end: int, etag: str) -> bytes:
        return bytes(sync(store.loop, get, name, start, end, etag))

    return store, read


def _gcs(endpoint_url: str | None, stall_seconds: float) -> tuple[AsyncFileSystem, Read]:
    # What "gs" stands for in fsspec asks for each bucket's kind first, over gRPC, which proxies and
    # compatible stores do not speak.
    store = _Gcs(
        skip_instance_cache=True,
        use_listings_cache=False,
        endpoint_url=endpoint_url,
        requests_timeout=aiohttp.ClientTimeout(
            sock_connect=CONNECT_SECONDS, sock_read=stall_seconds
        ),
        session_kwargs={"trace_configs": [_traced()]},
    )

    def read(name: str, start: int, end: int, generation: str) -> bytes:
        try:
            return bytes(store.cat_file(name, start=start, end=end, generation=generation or None))
        except FileNotFoundError:
            if generation and store.exists(name):
                raise _ReplacedError from None  # another generation is there
            raise

    return store, read


class _Gcs(GCSFileSystem):  # type: ignore[misc] # gcsfs has no types
    """Sends a request once, and says of a refusal how long the store asks to wait."""

    async def _request(self, *args: Any, **more: Any) -> Any:
        try:
            once = GCSFileSystem._request.__wrapped__  # noqa: SLF001 - what it tries again
            return await once(self, *args, **more)
        except HttpError as error:
            raise _RefusedError(error, _asked_to_wait.get()) from error


class _RefusedError(OSError):
    """What the store answered, and ``retry_after``: the seconds that it asks to wait."""

    def __init__(self, error: HttpError, retry_after: float | None) -> None:
        super().__init__(str(error))
        self.retry_after = retry_after


def _traced() -> aiohttp.TraceConfig:
    async def note(_session: object, _context: object, ended: Any) -> None:
        _asked_to_wait.set(retry_after(ended.response.headers))

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(note)
    return trace


def _status(error: BaseException) -> int | None:
    """Return the HTTP status behind an error of one of the SDKs."""
    for each in _behind(error):
        if isinstance(each, ClientError):
            status = each.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = getattr(each, "code", None) or getattr(each, "status", None)
        if isinstance(status, int):
            return status
    return None


def _retry_after(error: BaseException) -> float | None:
    """Return the seconds that the store asks to wait, as one of the SDKs tells of it."""
    for each in _behind(error):
        if isinstance(each, ClientError):
            headers = each.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            return retry_after(httpx2.Headers(headers))
        if isinstance(each, _RefusedError):
            return each.retry_after
    return None


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
