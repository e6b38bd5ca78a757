"""A complete list, page by page.

The resource version is left unset: the answer is then at least as new as the request. "0" would be
allowed to go back in time, and makes the apiserver ignore the page size. Since Kubernetes 1.34 it
serves such pages from its watch cache, so that they cost etcd nothing.

Only one page is held at a time: it is for whoever asked to keep what is worth it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from extender.errors import InvalidObjectError
from extender.kube.decode import decode
from extender.kube.objects import KubeObject, ObjectMeta
from extender.watch.answers import UnreachableError
from extender.watch.client import READ_TIMEOUT, Transport
from extender.watch.failures import RelistError, WatchFailedError, refusal
from extender.watch.messages import UNREADABLE, Page, read_identity, read_page
from extender.watch.resources import Resource

PAGE_SIZE = 500
_TRIES = 4

Pause = Callable[[float], None]
"""Waits out one failure (given: the seconds that the server asked for); raises to give up."""


class Unreadable(msgspec.Struct, frozen=True):
    """An object that cannot be decoded: who it is, as far as that can be told, and what is odd."""

    metadata: ObjectMeta | None
    error: str


Take = Callable[[Sequence[KubeObject]], None]
"""Takes some objects of a list; it may not keep the sequence."""


class Listing(msgspec.Struct, frozen=True):
    """What a complete list was: as of ``version``, so many ``objects``, and those beside them."""

    version: str
    objects: int
    unreadable: list[Unreadable]


def list_all(
    transport: Transport,
    resource: Resource,
    *,
    begin: Callable[[], Take],
    pause: Pause,
    page_size: int = PAGE_SIZE,
    read_timeout: float = READ_TIMEOUT,
) -> Listing:
    """List everything. Raises WatchFailedError or UnreachableError when it cannot be had now.

    ``begin`` is called before anything is asked for, and returns what takes the objects.

    Pages that expire while they are fetched (the list took longer than etcd keeps history, five
    minutes by default) make it ask once for all objects in one answer, which cannot expire; then it
    begins again, and what was taken so far counts no more.
    """
    pages = _Pages(transport, resource, pause, read_timeout)
    try:
        return pages.collect(begin(), page_size)
    except RelistError:
        if not pages.begun:
            raise
    return pages.collect(begin(), None)


def present_version(transport: Transport, resource: Resource, *, read_timeout: float) -> str:
    """Ask for the server's version as of now, by a list of one object.

    Raises WatchFailedError or UnreachableError when it cannot be had now.
    """
    return _fetch(transport, resource, {"limit": 1}, read_timeout).metadata.resource_version


class _Pages:
    def __init__(
        self, transport: Transport, resource: Resource, pause: Pause, read_timeout: float
    ) -> None:
        self._transport = transport
        self._resource = resource
        self._pause = pause
        self._read_timeout = read_timeout
        self.begun = False

    def collect(self, take: Take, page_size: int | None) -> Listing:
        """Fetch page after page until there is no continue token."""
        count = 0
        odd: list[Unreadable] = []
        query: dict[str, str | int] = dict(self._resource.selectors)
        if page_size is not None:
            query["limit"] = page_size
        page = self._fetch(query)
        version = page.metadata.resource_version
        count += self._read(page, take, odd)
        while page.metadata.continue_:
            self.begun = True
            query["continue"] = page.metadata.continue_
            page = self._fetch(query)
            count += self._read(page, take, odd)
        return Listing(version=version, objects=count, unreadable=odd)

    def _read(self, page: Page, take: Take, odd: list[Unreadable]) -> int:
        """Have the objects of a page taken; returns how many those are.

        They are let go some at a time: all at once, no other thread has a turn meanwhile.
        """
        items = page.items or ()
        count = 0
        for begin in range(0, len(items), PAGE_SIZE):
            found: list[KubeObject] = []
            for raw in items[begin : begin + PAGE_SIZE]:
                try:
                    found.append(decode(raw, self._resource.kind))
                except InvalidObjectError as error:
                    odd.append(Unreadable(metadata=read_identity(raw), error=str(error)))
            take(found)
            count += len(found)
        return count

    def _fetch(self, query: dict[str, str | int]) -> Page:
        """Fetch one page; a page that fails is asked for again, not the whole list."""
        for _ in range(_TRIES - 1):
            try:
                return self._fetch_once(query)
            except RelistError:
                raise
            except (WatchFailedError, UnreachableError) as error:
                if "continue" not in query:
                    raise
                self._pause(getattr(error, "retry_after", 0.0))
        return self._fetch_once(query)

    def _fetch_once(self, query: dict[str, str | int]) -> Page:
        return _fetch(self._transport, self._resource, query, self._read_timeout)


def _fetch(
    transport: Transport, resource: Resource, query: dict[str, str | int], read_timeout: float
) -> Page:
    answer = transport.request("GET", resource.path, query=query, read_timeout=read_timeout)
    if not answer.ok:
        raise refusal(answer)
    try:
        page = read_page(answer.body)
    except UNREADABLE as error:
        raise WatchFailedError(f"the list is not JSON of a list: {error}") from error
    if not page.metadata.resource_version:
        raise WatchFailedError("the list has no resource version")
    return page
