"""One model, from its source to its final path, whatever is there already.

::

    up to date            -> nothing to do
    damaged in part       -> the damaged files are fetched again, alone
    left by another tool  -> proven where it lies, and marked; fetched where that fails
    anything else         -> fetched into staging, proven, published

Whoever does this holds the model's lock from the first look to the last rename, so it may be done
by two processes at once, and again after each was killed at any point.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from random import Random

import msgspec
import structlog

from extender.errors import CacheError
from extender.loader.layout import CacheDirectory, Writing, writing
from extender.loader.mend import mend, missing
from extender.loader.proof.marker import Marker, MarkerError, read_marker
from extender.loader.proof.reading import Reader
from extender.loader.publish import DamagedError, Publisher
from extender.loader.sources import Credentials, Listing, Source
from extender.loader.sources.opening import source_for
from extender.loader.stored import bytes_on_disk
from extender.loader.telling import Rate, Tell
from extender.loader.transfer.fetching import Progressed, fetch
from extender.loader.transfer.limits import Limits
from extender.report import Transfer

log = structlog.get_logger("extender.loader")

TRIES = 3
"""How often what turned out damaged is fetched again before that counts as a failure."""


class Repeat(StrEnum):
    """Why bytes are fetched that this node has had already."""

    LOST = "lost"
    """A connection was cut before they were safe, or the source changed meanwhile."""
    DAMAGED = "damaged"
    REMOVED = "removed"
    """The model was removed to make room, and is wished for again."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where one model comes from; see ``catalog.CatalogModel``."""

    source: str
    revision: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def opener(credentials: Credentials) -> Callable[[Origin], Source]:
    """Return a function that opens the source of an origin with these credentials."""

    def open_source(origin: Origin) -> Source:
        return source_for(
            origin.source,
            revision=origin.revision,
            include=origin.include,
            exclude=origin.exclude,
            credentials=credentials,
        )

    return open_source


class Obtainer:
    """Obtains models for one cache directory. Safe to use from threads.

    ``open_source`` returns the source of an origin, or raises SourceError. ``received`` is told of
    all bytes as they come, ``repeated`` of those among them that this node has had already, as far
    as this object has seen.
    """

    def __init__(
        self,
        directory: CacheDirectory,
        publisher: Publisher,
        *,
        open_source: Callable[[Origin], Source],
        limits: Limits,
        name: str = "",
        random: Random | None = None,
        received: Callable[[int], None] = lambda _: None,
        repeated: Callable[[Repeat, int], None] = lambda _, __: None,
    ) -> None:
        self.directory = directory
        self.publisher = publisher
        self._open_source = open_source
        self._limits = limits
        self._name = name
        self._random = random
        self._received = received
        self._repeated = repeated
        self._had: set[tuple[str, str, str | None]] = set()

    def obtain(
        self,
        path: str,
        origin: Origin,
        *,
        tell: Tell = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        make_room: Callable[[int], None] = lambda _: None,
        lock_wait: float = 0.0,
    ) -> Marker:
        """Make sure that a model is whole, proven and of this origin; return its marker.

        ``make_room`` is called with the bytes that are about to be written. Waits up to
        ``lock_wait`` seconds for another writer. Raises LockHeldError, SourceError,
        TransferError, ReadingStoppedError, DamagedError, and CacheError for the file system.
        """
        source = self._open_source(origin)
        listing = source.list()
        known = path, listing.source, listing.revision
        with writing(self.directory, path, wait=lock_wait, name=self._name) as held:
            found = _marker(held)
            if found is not None and not found.damaged and same(found, listing):
                self._had.add(known)
                return found
            reader = Reader(stop=stop)
            download = _Download(
                source,
                held,
                limits=self._limits,
                random=self._random,
                received=self._received,
                repeated=self._repeated,
                tell=tell,
                stop=stop,
            )
            if found is not None and found.damaged:
                mended = self._mended(held, listing, download, reader, make_room)
                if mended is not None:
                    return mended
            if found is None and _left_by_others(held, listing):
                adopted = self._adopted(held, listing, reader)
                if adopted is not None:
                    return adopted
            make_room(max(0, listing.bytes - bytes_on_disk(held.staging)))
            if found is not None and found.damaged and same(found, listing):
                download.again = Repeat.DAMAGED
            elif found is None and known in self._had:
                download.again = Repeat.REMOVED
            marker = self._published(held, listing, download, reader)
            self._had.add(known)
            return marker

    def _published(
        self, held: Writing, listing: Listing, download: _Download, reader: Reader
    ) -> Marker:
        self.publisher.begin(held, listing)
        for left in reversed(range(TRIES)):
            download.into_staging(listing)
            try:
                marker = self.publisher.publish(held, listing, reader=reader)
            except DamagedError as error:
                if not left:
                    raise
                log.warning("fetched again", model=held.path, error=str(error))
                download.again = Repeat.DAMAGED
            else:
                download.forget()
                return marker
        raise AssertionError("the last try returns or raises")

    def _mended(
        self,
        held: Writing,
        listing: Listing,
        download: _Download,
        reader: Reader,
        make_room: Callable[[int], None],
    ) -> Marker | None:
        """Fetch the damaged files alone; None where the model has to be fetched as a whole."""
        try:
            lacking = missing(held, listing)
            make_room(lacking.bytes)
            download.again = Repeat.DAMAGED
            download.into_mending(lacking)
            marker = mend(self.publisher, held, listing, reader=reader)
        except CacheError as error:
            download.again = None
            log.warning("not mended; fetched as a whole", model=held.path, error=str(error))
            return None
        download.forget()
        return marker

    def _adopted(self, held: Writing, listing: Listing, reader: Reader) -> Marker | None:
        """Prove what somebody else left; None where it is not what the source has."""
        try:
            return self.publisher.adopt(held, listing=listing, reader=reader)
        except CacheError as error:  # damaged, or not this user's to write a marker into
            log.info("what lies there is not the model; fetched", model=held.path, why=str(error))
            return None


class _Download:
    """One model's download under way: from where, into which of its rooms, and how fast.

    ``again``: why the node has had all of it before, None where it has not.
    """

    def __init__(
        self,
        source: Source,
        held: Writing,
        *,
        limits: Limits,
        random: Random | None,
        received: Callable[[int], None],
        repeated: Callable[[Repeat, int], None],
        tell: Tell,
        stop: Callable[[], bool],
    ) -> None:
        self._source = source
        self._held = held
        self._limits = limits
        self._random = random
        self._received = received
        self._repeated = repeated
        self.again: Repeat | None = None
        self._tell = tell
        self._stop = stop

    def into_staging(self, listing: Listing) -> None:
        """Fetch files to where the whole model is proven. Raises TransferError."""
        held = self._held
        self._fetch(listing, held.staging, held.directory.journal(held.path))

    def into_mending(self, listing: Listing) -> None:
        """Fetch files to where single ones are proven. Raises TransferError."""
        held = self._held
        self._fetch(
            listing, held.directory.mending(held.path), held.directory.mending_journal(held.path)
        )

    def forget(self) -> None:
        """Remove the journals: what they tell of is published."""
        held = self._held
        held.directory.journal(held.path).unlink(missing_ok=True)
        held.directory.mending_journal(held.path).unlink(missing_ok=True)

    def _fetch(self, listing: Listing, into: Path, journal: Path) -> None:
        rate, before, lost = Rate(), 0, 0

        def note(progressed: Progressed) -> None:
            nonlocal before, lost
            came = progressed.bytes_received - before
            self._received(came)
            before = progressed.bytes_received
            if self.again is not None:
                self._repeated(self.again, came)
            elif progressed.bytes_lost > lost:
                self._repeated(Repeat.LOST, progressed.bytes_lost - lost)
                lost = progressed.bytes_lost
            self._tell(
                Transfer(
                    path=self._held.path,
                    bytes_done=progressed.bytes_done,
                    bytes_total=progressed.bytes_total,
                    bytes_per_second=rate.of(progressed.bytes_received),
                )
            )

        fetch(
            listing,
            self._source,
            into,
            journal=journal,
            limits=self._limits,
            progress=note,
            stop=self._stop,
            random=self._random,
        )


def same(marker: Marker, listing: Listing) -> bool:
    """Tell whether what a marker proves is what a source lists."""
    if marker.source != listing.source or marker.revision != listing.revision:
        return False
    proven = {file.path: file for file in marker.files}
    if proven.keys() != {file.path for file in listing.files}:
        return False
    for file in listing.files:
        known = proven[file.path]
        if file.size is not None and file.size != known.size:
            return False
        if file.sha256 and known.sha256 and file.sha256 != known.sha256:
            return False
    return True


def _left_by_others(held: Writing, listing: Listing) -> bool:
    """Tell whether something lies at the final path that no download of ours has begun."""
    if not held.directory.in_place(held.path):
        return held.final.exists()
    begun = held.directory.journal(held.path).exists()
    return not begun and any((held.final / file.path).exists() for file in listing.files)


def _marker(held: Writing) -> Marker | None:
    try:
        return read_marker(held.final)
    except MarkerError as error:
        log.warning("the marker cannot be read; proven anew", model=held.path, error=str(error))
        return None
