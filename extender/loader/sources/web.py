"""``https://host/file`` and ``https://host/directory/``.

An address that ends in a slash is a directory. What it holds is told by the ``SHA256SUMS`` file in
it (as ``sha256sum`` writes it), or else by the links on the page that the server shows for it.
Any other address is one file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from urllib.parse import quote, unquote, urlsplit

import aiohttp
import fsspec

from extender.addresses import shown
from extender.loader.sources import Cause, Listing, RemoteFile, SourceError
from extender.loader.sources.patterns import Choice, chosen, is_listed
from extender.loader.sources.ranges import RangeReader, client
from extender.loader.sources.urls import Location, without_queries

SUMS = "SHA256SUMS"
MAX_SUMS_BYTES = 4 * 1024 * 1024

_SUM = re.compile(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)")
"""A line of sha256sum: https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html"""


class WebSource:
    """One file or directory of a web server; see ``sources.Source``."""

    def __init__(
        self,
        location: Location,
        *,
        include: Sequence[str],
        exclude: Sequence[str],
        stall_seconds: float,
    ) -> None:
        self._url = location.url
        self._shown = shown(location.url)
        self._include, self._exclude = include, exclude
        self._stall = stall_seconds
        self._ranges = RangeReader(client(stall_seconds), source=self._shown)

    def list(self) -> Listing:
        """Ask for the head of every file: its size and its ETag."""
        vouched = True
        if self._is_directory:
            hashes = self._listed()
            vouched = all(hashes.values())
            choice = chosen(
                [
                    RemoteFile(path=path, size=None, sha256=sha)
                    for path, sha in hashes.items()
                    if self._is_listed(path)
                ],
                source=self._shown,
                include=self._include,
                exclude=self._exclude,
            )
        else:
            name = unquote(urlsplit(self._url).path.rsplit("/", 1)[-1])
            choice = Choice((RemoteFile(path=name, size=None),), ())
        return Listing(
            source=self._shown,
            revision=None,
            files=tuple(self._measured(file) for file in choice.files),
            left_out=choice.left_out,
            vouched=vouched,
        )

    def open(
        self, file: RemoteFile, start: int, end: int | None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read a range of a file; one that has another ETag by now is refused."""
        return self._ranges.read(self._address(file.path), file, start, end, etag=file.version)

    def _is_listed(self, path: str) -> bool:
        return is_listed(path, source=self._shown, include=self._include, exclude=self._exclude)

    @property
    def _is_directory(self) -> bool:
        return urlsplit(self._url).path.endswith("/")

    def _address(self, path: str) -> str:
        if not self._is_directory:
            return self._url
        parts = urlsplit(self._url)
        return parts._replace(path=parts.path + quote(path)).geturl()

    def _measured(self, file: RemoteFile) -> RemoteFile:
        seen = self._ranges.look(self._address(file.path), file.path)
        return RemoteFile(path=file.path, size=seen.size, sha256=file.sha256, version=seen.version)

    def _listed(self) -> dict[str, str | None]:
        """Return path -> SHA-256, None where only the links of the page tell of it."""
        try:
            text = self._ranges.text(self._address(SUMS), SUMS, limit=MAX_SUMS_BYTES)
        except SourceError as error:
            if error.cause is not Cause.NOT_FOUND:
                raise
            return dict.fromkeys(self._linked())
        lines = [_SUM.fullmatch(line) for line in text.splitlines() if line.strip()]
        if not lines or None in lines:
            raise SourceError(
                f"source {self._shown}: {SUMS} is not as sha256sum writes it; write it anew",
                cause=Cause.INVALID,
            )
        # `sha256sum * > SHA256SUMS` lists this file, too, as it was before it was written.
        return {line[2]: line[1].lower() for line in lines if line is not None and line[2] != SUMS}

    def _linked(self) -> tuple[str, ...]:
        """Return the files that the server's own page of the directory links to."""
        if urlsplit(self._url).query:  # the links of the page do not have it
            raise SourceError(
                f"source {self._shown}: has a query and no {SUMS}, so that its files cannot be "
                f"told; write {SUMS} with sha256sum",
                cause=Cause.INVALID,
            )
        web = fsspec.filesystem(
            "https",
            skip_instance_cache=True,
            use_listings_cache=False,
            client_kwargs={
                "timeout": aiohttp.ClientTimeout(sock_connect=self._stall, sock_read=self._stall),
                "trust_env": True,
            },
        )
        try:
            found = web.find(self._url)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise SourceError(
                f"source {self._shown}: cannot be listed: {without_queries(str(error))}",
                cause=Cause.UNREACHABLE,
            ) from error
        if not found:
            raise SourceError(
                f"source {self._shown}: has neither {SUMS} nor a page that lists its files; "
                f"write {SUMS} with sha256sum",
                cause=Cause.NOT_FOUND,
            )
        below = [unquote(str(url).removeprefix(self._url)) for url in found]
        return tuple(path for path in below if "?" not in path and not path.startswith("http"))
