"""One kind's list+watch loop: after any fault, the sink holds what a fresh list would say.

What decides between going on and listing anew:

- A broken connection, an overloaded or failing server: wait, go on from the last version. The
  events in between are delivered then; a list would make an overloaded server worse.
- 410, a version that the server does not have, versions that are out of order: wait, list anew.
- Before a watch goes on, the server is asked for its present version (a list of one object). One
  that is lower than ours means a restored etcd: such a server accepts our version and then stays
  silent until it has caught up, which nothing else would show. One that is equal proves that
  nothing was missed. Asking also makes the apiserver's watch cache current, without which it sends
  no bookmarks for kinds that rarely change.
- A server that was out of reach for some time may have been restored, and may have written more
  than it lost since: its version would not tell. It is listed anew. That is also the shortest way
  back to proof, as bookmarks come only once a minute.
- Silence for longer than bookmarks can be apart: the socket is half open, or nothing at all has
  happened in the cluster. The server's version tells which: go on where it is ours, else list anew.

What was missed is delivered as a backlog: its events prove nothing about the present until they
reach the version that the server had when it was asked.

The first watch after a list is a short one. A kind that rarely changes gets bookmarks only on a
watch that began with the question for the version, so that this has to come before long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from threading import Event
from typing import Protocol

import msgspec
import structlog

from extender.backoff import Backoff
from extender.errors import InvalidObjectError
from extender.kube.decode import decode
from extender.kube.draft import Draft
from extender.kube.objects import KubeObject, ObjectMeta
from extender.watch.answers import SilenceError, UnreachableError
from extender.watch.audit import Audit, Findings, Known, examples
from extender.watch.client import READ_TIMEOUT, Transport
from extender.watch.failures import RelistError, WatchFailedError, failure, refusal
from extender.watch.framing import LineTooLongError, split_lines
from extender.watch.freshness import Tracker
from extender.watch.listing import (
    PAGE_SIZE,
    Take,
    Unreadable,
    list_all,
    present_version,
)
from extender.watch.messages import (
    UNREADABLE,
    WatchEvent,
    older,
    read_event,
    read_identity,
    read_status,
)
from extender.watch.resources import Resource

log = structlog.get_logger(__name__)

_MAX_REMEMBERED = 1000
_LONG_LIST = 2.0
"""Seconds; after such a list it is asked how much has happened meanwhile."""


class Sink(Known, Protocol):
    """Where objects go. Called from one thread per kind, never after ``stop`` has returned."""

    def listing(self, kind: type[KubeObject]) -> Draft:
        """Begin a complete list, which is about to be asked for; it may be so in vain.

        Nothing else comes of that kind before its end.
        """

    def upsert(self, obj: KubeObject) -> None:
        """Apply one added or modified object; it may be one that is known already."""

    def delete(self, obj: KubeObject) -> None:
        """Apply one deleted object; perhaps only its metadata is there."""

    def unreadable(self, kind: type[KubeObject], metadata: ObjectMeta, error: str) -> None:
        """Forget what is known of an object that exists in a form that cannot be read.

        What was known is out of date, so it must not be used; what is true now cannot be told.
        ``metadata`` holds name, namespace and UID only. After a list it is called once for each
        such object, after it has replaced what was known.
        """


class Timing(msgspec.Struct, frozen=True):
    """Sizes and times of a loop, in seconds; pairs are bounds to choose from at random."""

    page_size: int = PAGE_SIZE
    first_watch: tuple[float, float] = (20.0, 40.0)
    watch: tuple[float, float] = (290.0, 580.0)
    audit: tuple[float, float] = (1500.0, 2100.0)
    """How often what is known is compared with a fresh list, between two watches."""
    silence: tuple[float, float] = (75.0, 90.0)
    list_read_timeout: float = READ_TIMEOUT
    question_read_timeout: float = 15.0
    """For the list of one object that tells the version: on a dead connection it is not waited for
    as long as for a list of everything."""
    outage: float = 10.0
    """Out of reach for longer than this, the server may have been restored from a backup."""
    knocking: float = 5.0
    """The longest wait between two tries to connect: a server that is not there is not made worse
    by them, and one that is back must not wait half a minute to be noticed."""
    calm: float = 5.0
    """A watch that ends sooner than this has failed, whatever its manners."""


class Reflector:
    """The loop of one resource. ``run`` returns once ``stopping`` is set."""

    def __init__(
        self,
        *,
        resource: Resource,
        transport: Transport,
        sink: Sink,
        tracker: Tracker,
        backoff: Backoff,
        random: Random,
        clock: Callable[[], float],
        stopping: Event,
        timing: Timing,
    ) -> None:
        self._resource = resource
        self._transport = transport
        self._sink = sink
        self._tracker = tracker
        self._backoff = backoff
        self._random = random
        self._clock = clock
        self._stopping = stopping
        self._timing = timing
        self._log = log.bind(kind=resource.name)
        self._behind: str | None = None
        """The server's version that the backlog has to reach; None where there is no backlog."""
        self._lost_at: float | None = None
        self._audit_at = clock() + random.uniform(*timing.audit)
        self._silent = False
        self._bad_line_at: str | None = None
        self._named_unreadable: set[str] = set()
        self._named_unknown: set[str] = set()

    def run(self) -> None:
        """List and watch until stopped; nothing that happens ends the loop."""
        while not self._stopping.is_set():
            try:
                self._turn()
            except RelistError as error:
                self._tracker.version = None
                self._wait_out(error, error.retry_after)
            except WatchFailedError as error:
                self._wait_out(error, error.retry_after)
            except UnreachableError as error:
                self._silent = self._silent or isinstance(error, SilenceError)
                self._lost_at = self._clock() if self._lost_at is None else self._lost_at
                self._wait_out(error, at_most=inf if error.sent else self._timing.knocking)
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end the loop
                self._tracker.version = None
                if not self._stopping.is_set():
                    self._log.exception("watch failed unexpectedly")
                self._wait_out(error)

    def _turn(self) -> None:
        began = self._clock()
        if self._lost_at is not None and began - self._lost_at > self._timing.outage:
            self._tracker.version = None
        if self._tracker.version is None or began >= self._audit_at:
            self._tracker.version = self._list(self._tracker.version)
            length = self._timing.first_watch
            if self._clock() - began > _LONG_LIST:
                self._ask_version(
                    self._tracker.version
                )  # there may be a backlog as long as the list took
        else:
            self._ask_version(self._tracker.version)
            length = self._timing.watch
        self._watch(self._tracker.version, self._random.uniform(*length))

    def _wait_out(self, error: Exception, at_least: float = 0.0, at_most: float = inf) -> None:
        if self._stopping.is_set():
            return
        wait = self._backoff.wait(at_least, at_most, cheap=self._tracker.version is not None)
        text = str(error) or type(error).__name__
        if self._tracker.failed(text) and not isinstance(error, SilenceError):
            self._log.warning(
                "watch interrupted",
                error=text,
                relist=self._tracker.version is None,
                wait=round(wait, 3),
            )
        self._stopping.wait(wait)

    # -- listing ---------------------------------------------------------------------------------

    def _list(self, known: str | None) -> str:
        """List everything; with the version that is known, see whether it was known rightly.

        Nothing is watched meanwhile, so an object that has not changed since that version has to be
        what it was taken for. Whatever is wrong is mended by the list itself.
        """
        began = self._clock()
        taken = _Taken(self._sink, self._resource.kind, known)
        listing = list_all(
            self._transport,
            self._resource,
            begin=taken.begin,
            pause=self._pause,
            page_size=self._timing.page_size,
            read_timeout=self._timing.list_read_timeout,
        )
        if self._stopping.is_set():
            return listing.version
        if taken.audit is not None:
            self._audited(
                taken.audit.findings(
                    taken.draft, listing, resource=self._resource, transport=self._transport
                )
            )
        self._audit_at = began + self._random.uniform(*self._timing.audit)
        taken.draft.replace()
        for odd in listing.unreadable:
            self._report_unreadable(odd)
        self._tracker.listed(began)
        self._behind = self._lost_at = None
        self._silent = False
        self._log.info(
            "listed",
            objects=listing.objects,
            unreadable=len(listing.unreadable),
            version=listing.version,
        )
        return listing.version

    def _audited(self, found: Findings) -> None:
        self._tracker.audited({kind: len(names) for kind, names in found.items()})
        if found:
            self._log.error("what was known was wrong", **examples(found))

    def _pause(self, at_least: float) -> None:
        if self._stopping.wait(self._backoff.wait(at_least)):
            raise WatchFailedError("stopped")

    def _ask_version(self, known: str) -> None:
        """Compare the server's present version with ours before a watch goes on."""
        asked_at = self._clock()
        present = present_version(
            self._transport, self._resource, read_timeout=self._timing.question_read_timeout
        )
        if older(present, known):
            raise RelistError(f"resource version went back from {known} to {present}")
        if present == known:
            self._tracker.heard(asked_at)
        elif self._silent:
            raise RelistError("the watch was silent, though there was something to say")
        self._behind = present
        self._lost_at = None
        self._silent = False

    # -- watching --------------------------------------------------------------------------------

    def _watch(self, version: str, seconds: float) -> None:
        query: dict[str, str | int] = {
            **self._resource.selectors,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": max(1, round(seconds)),
        }
        opened = self._clock()
        silence = self._random.uniform(*self._timing.silence)
        stream = self._transport.stream(
            "GET", self._resource.path, query=query, read_timeout=silence
        )
        with stream:
            if stream.status != 200:
                raise refusal(stream.answer())
            self._tracker.connected()
            try:
                for line in split_lines(stream.chunks()):
                    self._take(line)
            except LineTooLongError as error:
                raise RelistError(str(error)) from error
        if self._clock() - opened < self._timing.calm:
            raise WatchFailedError("the watch ended as soon as it had begun")
        if self._caught_up():
            self._tracker.heard()

    def _take(self, line: bytes) -> None:
        if self._stopping.is_set():
            raise WatchFailedError("stopped")
        try:
            event = read_event(line)
        except UNREADABLE as error:
            raise self._bad_line(error) from error
        match event.type:
            case "ADDED" | "MODIFIED" | "DELETED":
                self._apply(event)
                self._tracker.event(proof=self._caught_up())
            case "BOOKMARK":
                self._advance(event)
                if self._caught_up():
                    self._tracker.heard()
            case "ERROR":
                raise failure(read_status(event.object))
            case _:
                self._ignore(event.type)

    def _caught_up(self) -> bool:
        """Whether what comes now is news, and no backlog."""
        if self._behind is not None and not older(self._tracker.version or "", self._behind):
            self._behind = None
        return self._behind is None

    def _bad_line(self, error: Exception) -> WatchFailedError:
        """Go on from the last version; a line that is bad again there is not worth a third try."""
        if self._bad_line_at == self._tracker.version:
            return RelistError(f"an event cannot be read: {error}")
        self._bad_line_at = self._tracker.version
        return WatchFailedError(f"an event is cut off or is not JSON: {error}")

    def _apply(self, event: WatchEvent) -> None:
        kind = self._resource.kind
        try:
            obj = decode(event.object, kind)
        except InvalidObjectError as error:
            identity = read_identity(event.object)
            if event.type == "DELETED" and identity is not None:
                self._sink.delete(kind(metadata=identity))
            else:
                self._report_unreadable(Unreadable(metadata=identity, error=str(error)))
            self._advance(event)
            return
        version = obj.metadata.resource_version
        if older(version, self._tracker.version):
            raise RelistError(f"an event of version {version} came after {self._tracker.version}")
        if event.type == "DELETED":
            self._sink.delete(obj)
        else:
            self._sink.upsert(obj)
        self._tracker.version = version or self._tracker.version

    def _advance(self, event: WatchEvent) -> None:
        identity = read_identity(event.object)
        version = identity.resource_version if identity else ""
        if version and not older(version, self._tracker.version):
            self._tracker.version = version

    def _ignore(self, event_type: str) -> None:
        self._tracker.unknown()
        if event_type not in self._named_unknown and len(self._named_unknown) < _MAX_REMEMBERED:
            self._named_unknown.add(event_type)
            self._log.warning("unknown event type ignored", event_type=event_type[:64])

    def _report_unreadable(self, odd: Unreadable) -> None:
        self._tracker.unreadable()
        if odd.metadata is not None:
            self._sink.unreadable(self._resource.kind, odd.metadata, odd.error)
        who = (odd.metadata.uid or odd.metadata.name) if odd.metadata else ""
        if who not in self._named_unreadable and len(self._named_unreadable) < _MAX_REMEMBERED:
            self._named_unreadable.add(who)
            self._log.warning("object cannot be read", error=odd.error)


class _Taken:
    """What a list is taken into: a draft of the sink and, where a version is known, an audit."""

    draft: Draft
    audit: Audit | None = None

    def __init__(self, sink: Sink, kind: type[KubeObject], known: str | None) -> None:
        self._sink = sink
        self._kind = kind
        self._known_version = known

    def begin(self) -> Take:
        """Begin, or begin again where the pages have expired."""
        draft = self.draft = self._sink.listing(self._kind)
        if self._known_version is None:
            return draft.add
        audit = self.audit = Audit(self._sink, self._known_version)

        def take(objects: Sequence[KubeObject]) -> None:
            audit.look(objects)
            draft.add(objects)

        return take
