"""``hf://organisation/name``: a repository of the Hugging Face hub, or of a mirror of it.

Listed by ``huggingface_hub`` (one commit, every file with its size and hash), read range by range
from that commit, so that a branch which moves meanwhile mixes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, RepoFile, constants, hf_hub_url, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import (  # type: ignore[attr-defined] # documented, not in __all__
    build_hf_headers,
    hf_raise_for_status,
)

from extender.addresses import shown
from extender.loader.sources import Cause, Credentials, Listing, RemoteFile, SourceError
from extender.loader.sources.patterns import chosen, is_listed
from extender.loader.sources.ranges import (
    CONNECT_SECONDS,
    Headers,
    RangeReader,
    client,
    retry_after,
    said,
)
from extender.loader.sources.urls import Location

LIST_SECONDS = 30.0
DEFAULT_REVISION = "main"

_SHA256 = re.compile("[0-9a-f]{64}")
"""The hub's ETag of a large file. Mirrors and stores use anything else, also other hashes."""


_TOKEN = re.compile("[!-~]+")
"""What can stand in a header: the printable ASCII characters without the space."""


class HubSource:
    """One repository at one revision; see ``sources.Source``."""

    def __init__(
        self,
        location: Location,
        *,
        include: Sequence[str],
        exclude: Sequence[str],
        credentials: Credentials,
        stall_seconds: float,
    ) -> None:
        _use_bounded_client()
        self._url = location.url
        self._repository = location.place
        self._revision = location.revision or DEFAULT_REVISION
        self._include, self._exclude = include, exclude
        self._token_file = credentials.hub_token_file
        self._endpoint = (
            credentials.hub_endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        ).rstrip("/")
        if not self._endpoint.startswith(("http://", "https://")):
            raise SourceError(
                f"source {self._url}: the hub's endpoint {shown(self._endpoint)!r} is no address; "
                "write https://host (--hub-endpoint or HF_ENDPOINT)",
                cause=Cause.INVALID,
            )
        self._commit = self._revision
        self._ranges = RangeReader(client(stall_seconds), source=self._url)

    def list(self) -> Listing:
        """Resolve the revision to its commit and return that commit's files."""
        token = self._token()
        if constants.is_offline_mode():
            raise SourceError(
                f"source {self._url}: HF_HUB_OFFLINE is set; unset it, or use a file:// source",
                cause=Cause.UNREACHABLE,
                permanent=True,
            )
        api = HfApi(endpoint=self._endpoint, token=token or False)
        try:
            commit = api.model_info(self._repository, revision=self._revision).sha
            tree = list(
                api.list_repo_tree(self._repository, recursive=True, revision=commit)
                if commit
                else ()
            )
        except (HfHubHTTPError, OfflineModeIsEnabled, HFValidationError) as error:
            raise self._refusal(error, token is not None) from error
        except _UnreachableError as error:
            raise SourceError(f"source {self._url}: {error}", cause=Cause.UNREACHABLE) from error
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(
                f"source {self._url}: {shown(self._endpoint)} does not answer as the hub does "
                f"({type(error).__name__}); correct HF_ENDPOINT",
                cause=Cause.INVALID,
            ) from error
        self._commit = commit or self._revision
        files = [
            _remote_file(entry)
            for entry in tree
            if isinstance(entry, RepoFile) and self._is_listed(entry.path)
        ]
        choice = chosen(files, source=self._url, include=self._include, exclude=self._exclude)
        return Listing(
            source=self._url, revision=commit, files=choice.files, left_out=choice.left_out
        )

    def _is_listed(self, path: str) -> bool:
        return is_listed(path, source=self._url, include=self._include, exclude=self._exclude)

    def open(
        self, file: RemoteFile, start: int, end: int | None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read a range of a file at the commit that was listed last."""
        token = self._token()
        url = hf_hub_url(
            self._repository, file.path, revision=self._commit, endpoint=self._endpoint
        )

        def explain(response: httpx2.Response) -> SourceError | None:
            if response.status_code < 400:
                return self._other_content(file, response.headers)
            if response.status_code in {408, 416, 429}:
                return None
            try:
                response.read()
                hf_raise_for_status(response)
            except HfHubHTTPError as error:
                return self._refusal(error, token is not None, file.path)
            except httpx2.TransportError:
                return None  # the status says enough
            return None

        return self._ranges.read(
            url, file, start, end, headers=build_hf_headers(token=token or False), explain=explain
        )

    def _other_content(self, file: RemoteFile, headers: Headers) -> SourceError | None:
        """Compare what is about to be served with what was listed, where the ETag tells."""
        etag = headers.get("X-Linked-Etag") or headers.get("ETag") or ""
        served = etag.removeprefix("W/").strip('"')
        if file.sha256 is None or not _SHA256.fullmatch(served) or served == file.sha256:
            return None
        return SourceError(
            f"source {self._url}: {file.path}: was replaced since it was listed",
            cause=Cause.CHANGED,
        )

    def _token(self) -> str | None:
        """Return the token, None where there is none. Raises SourceError that does not quote it."""
        where, problem, token = "HF_TOKEN", "", os.environ.get("HF_TOKEN", "")
        if self._token_file is not None:
            where = f"the token file {self._token_file}"
            try:
                token = Path(self._token_file).read_text(errors="replace")
            except OSError as error:
                problem = error.strerror or type(error).__name__
        token = token.strip()
        if token and not _TOKEN.fullmatch(token):
            problem = (
                "holds more than a token (white space, a second line, or what is not ASCII); "
                "write the token alone"
            )
        if problem:
            raise SourceError(f"source {self._url}: {where}: {problem}", cause=Cause.UNAUTHORIZED)
        return token or None

    def _refusal(self, error: Exception, has_token: bool, path: str = "") -> SourceError:  # noqa: FBT001
        """Say what the hub's answer means, and what to do."""
        where = f"source {self._url}: {path}: " if path else f"source {self._url}: "
        give = "give a token that may (--hub-token-file or HF_TOKEN)"
        page = f"{shown(self._endpoint)}/{self._repository}"
        if isinstance(error, GatedRepoError):
            remedy = f"accept its terms at {page} with the token's account" if has_token else give
            return SourceError(f"{where}the repository is gated; {remedy}", cause=Cause.GATED)
        if isinstance(error, RevisionNotFoundError):
            return SourceError(
                f"{where}the repository has no revision {self._revision!r}; correct it",
                cause=Cause.NOT_FOUND,
            )
        if isinstance(error, RepositoryNotFoundError):
            which = "and the token may not read it" if has_token else f"then {give}"
            return SourceError(
                f"{where}{page} does not exist, or is private, {which}", cause=Cause.NOT_FOUND
            )
        if isinstance(error, RemoteEntryNotFoundError):
            return SourceError(f"{where}is not in the repository", cause=Cause.NOT_FOUND)
        if isinstance(error, HfHubHTTPError):
            return _by_status(where, error.response, shown(self._endpoint))
        return SourceError(f"{where}{error}", cause=Cause.INVALID)


def _by_status(where: str, response: httpx2.Response, endpoint: str) -> SourceError:
    status, wait = response.status_code, retry_after(response.headers)
    if status == 429:
        return SourceError(
            f"{where}{endpoint} asks to wait (429)", cause=Cause.THROTTLED, retry_after=wait
        )
    if status >= 500:
        return SourceError(
            f"{where}{endpoint} has a fault ({status})", cause=Cause.SERVER, retry_after=wait
        )
    if status in {404, 410}:
        return SourceError(f"{where}is not at {endpoint} ({status})", cause=Cause.NOT_FOUND)
    if status in {401, 403}:
        return SourceError(
            f"{where}{endpoint} refuses the token ({status}); renew it, or let it read this",
            cause=Cause.UNAUTHORIZED,
        )
    return SourceError(f"{where}{endpoint} answers {status}", cause=Cause.INVALID)


def _remote_file(entry: RepoFile) -> RemoteFile:
    sha256 = entry.lfs.sha256 if entry.lfs is not None else None
    return RemoteFile(
        path=entry.path,
        size=entry.lfs.size if entry.lfs is not None else entry.size,
        sha256=sha256,
        git_oid=None if sha256 else entry.blob_id,
        version=sha256 or entry.blob_id,
    )


class _UnreachableError(Exception):
    """What the library does not know and therefore does not try again."""


class _BoundedClient(httpx2.Client):
    """What ``huggingface_hub`` asks with: never waits without end, and never tries again by itself.

    The library sleeps through its own retries, for as long as a server's Retry-After says, and
    nothing can interrupt it. Trying again is up to the caller here.
    """

    def request(self, *args: Any, **kwargs: Any) -> httpx2.Response:
        """Ask, within ``LIST_SECONDS``."""
        kwargs["timeout"] = httpx2.Timeout(LIST_SECONDS, connect=CONNECT_SECONDS)
        try:
            response = super().request(*args, **kwargs)
        except httpx2.TransportError as error:
            raise _UnreachableError(
                f"{error.request.url.host} cannot be reached: {said(error)}"
            ) from error
        if response.status_code == 429 or response.status_code >= 500:
            hf_raise_for_status(response)
        return response


@cache
def _use_bounded_client() -> None:
    set_client_factory(lambda: _BoundedClient(follow_redirects=True))
