"""One model, from its source to its final path, whatever is there already.

::

    up to date            -> nothing to do
    damaged in part       -> the damaged files are fetched again, alone
    left by another tool  -> proven where it lies, and marked; left as it is where that fails,
                             unless it may be replaced
    anything else         -> fetched into staging, proven, published; what did not change is kept

Whoever does this holds the model's lock from the first look to the last rename, so it may be done
by two processes at once, and again after each was killed at any point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

import msgspec
import structlog

from extender.errors import CacheError
from extender.loader.beforehand import (
    bytes_lacking,
    bytes_taken,
    expect_whole,
    tell_of_several,
)
from extender.loader.comparing import is_of_commit, same, unchanged, with_versions
from extender.loader.damaged import DamagedError, IncompleteError
from extender.loader.downloading import Download, Means, Repeat
from extender.loader.foreign import ForeignError, Foreigners, expect_none_below, left_by_others
from extender.loader.layout import CacheDirectory, Writing, writing
from extender.loader.mend import mend, missing
from extender.loader.origin import Origin
from extender.loader.placing import Fate, InUseError
from extender.loader.proof.blame import without_hash
from extender.loader.proof.marker import (
    WHOLE,
    Marker,
    MarkerError,
    UnreadableMarkerError,
    read_marker,
)
from extender.loader.proof.names import tells_of_others
from extender.loader.proof.reading import Reader
from extender.loader.proof.verdict import Problem
from extender.loader.publish import Publisher
from extender.loader.sources import TRANSIENT, Listing, Source, SourceError
from extender.loader.telling import Tell
from extender.loader.transfer.fetching import NOTHING
from extender.loader.transfer.limits import Limits

log = structlog.get_logger("extender.loader")

TRIES = 3
"""How often what turned out damaged is fetched again before that counts as a failure."""


class _Work(msgspec.Struct, frozen=True, kw_only=True):
    """One call of ``Obtainer.obtain``, as it goes on."""

    held: Writing
    listing: Listing
    asked: str
    download: Download
    reader: Reader
    make_room: Callable[[int, int], None]


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
        self._means = Means(limits=limits, random=random, received=received, repeated=repeated)
        self._name = name
        self._foreigners = Foreigners(publisher)
        self._had: set[tuple[str, str, str | None]] = set()

    def obtain(
        self,
        path: str,
        origin: Origin,
        *,
        tell: Tell = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
        make_room: Callable[[int, int], None] = lambda _, __: None,
        lock_wait: float = 0.0,
        replace_foreign: bool = False,
    ) -> Marker:
        """Make sure that a model is whole, proven and of this origin; return its marker.

        ``make_room`` is called with the bytes that are about to be written, those included that
        other downloads were promised before, and with those that are at hand in the model that is
        there: they are to be written, too, where that one goes. ``replace_foreign``: what another
        program left at the path may go where it is not the model. Waits up to ``lock_wait`` seconds
        for another writer.

        Raises LockHeldError, SourceError, TransferError, ReadingStoppedError, DamagedError,
        ForeignError, InUseError (the model is proven and waits for the readers of what stands at
        its path), and CacheError for the file system.
        """
        known = self._need_not_be_asked_for(path, origin)
        if known is not None:
            if _left_over(self.directory, path):  # of another revision, which was taken back
                with (
                    suppress(CacheError),
                    writing(self.directory, path, name=self._name) as held,
                ):
                    self._forget(held)
            return known
        source = self._open_source(origin)
        try:
            listing = origin.told(source.list())
        except SourceError as error:
            waited = self._waited(path, origin, stop) if error.cause in TRANSIENT else None
            if waited is None:
                raise
            return waited
        with (
            self._means.limits.promises.promise() as promise,
            writing(self.directory, path, wait=lock_wait, name=self._name) as held,
        ):

            def room(needed: int, at_hand: int) -> None:
                promise.expect(needed)
                make_room(needed + promise.before(), at_hand)

            download = Download(source, held, self._means, promise=promise, tell=tell, stop=stop)
            work = _Work(
                held=held,
                listing=listing,
                asked=origin.asked,
                download=download,
                reader=Reader(stop=stop),
                make_room=room,
            )
            marker = self._obtained(work, replace_foreign=replace_foreign)
            self._forget(held)
        self._had.add((path, listing.source, listing.revision))
        return marker

    def _forget(self, held: Writing) -> None:
        """Delete what was fetched of another revision, now that the one asked for is proven.

        And the journals: what they tell of is published, or waits to be.
        """
        try:
            for left in _left_over(held.directory, held.path):
                if left == held.staging:
                    self.publisher.discard(held, left)
                else:
                    self.publisher.disk.unlink(left)
        except OSError as error:
            log.warning("not deleted; it is tried again", model=held.path, error=str(error))

    def _need_not_be_asked_for(self, path: str, origin: Origin) -> Marker | None:
        """Return what is here of a commit that was listed before: it cannot have changed."""
        if not origin.pinned:
            return None
        try:
            marker = read_marker(self.directory.final(path))
        except MarkerError:
            return None  # said with the lock held
        if marker is None or marker.damaged or not is_of_commit(marker, origin):
            return None
        return None if self.directory.arrivals(path) else marker

    def _waited(self, path: str, origin: Origin, stop: Callable[[], bool]) -> Marker | None:
        """Show what answers the same question, waits here, and has no whole model before it.

        While its source is away. Raises what ``obtain`` raises.
        """
        if not self.directory.arrivals(path):
            return None
        with writing(self.directory, path, name=self._name) as held:
            there = _marker(held)
            if there is not None and not there.damaged and not self.publisher.damage(path):
                return None
            return self.publisher.arrive(
                held,
                lambda marker: Fate.COMES if marker.asked == origin.asked else Fate.WAITS,
                reader=Reader(stop=stop),
            )

    def _obtained(self, work: _Work, *, replace_foreign: bool) -> Marker:
        held, listing = work.held, work.listing
        found = _marker(held)
        is_that = found is not None and same(found, listing)
        if found is not None and is_that and not found.damaged:
            self.publisher.arrive(held, lambda _: Fate.GOES)
            return self._noted(work, found)
        if found is not None and not is_that and not held.directory.in_place(held.path):
            expect_none_below(held, replaced=True)
        arrived = self.publisher.arrive(
            held,
            lambda marker: Fate.COMES if same(marker, listing) else Fate.GOES,
            reader=work.reader,
        )
        if arrived is not None:
            return arrived
        if found is not None and is_that:
            mended = self._doubted(work, found) if WHOLE in found.damaged else self._mended(work)
            if mended is not None:
                return mended
        elif found is None and left_by_others(held, listing):
            expect_none_below(held, replaced=False)
            try:
                return self._foreigners.adopt(held, listing, asked=work.asked, reader=work.reader)
            except ForeignError as error:
                if not replace_foreign:
                    raise
                log.info(
                    "what lies there is not the model; fetched", model=held.path, why=str(error)
                )
        return self._fetched(work, found, again=is_that)

    def _noted(self, work: _Work, found: Marker) -> Marker:
        """Have the marker say what was asked for, and what the source says of its files now."""
        noted = msgspec.structs.replace(
            with_versions(found, work.listing),
            asked=work.asked,
            include=work.listing.include,
            exclude=work.listing.exclude,
        )
        if noted == found:
            return found
        try:
            self.publisher.write_marker(work.held, noted)
        except CacheError as error:
            log.info("marker not renewed", model=work.held.path, why=str(error))
            return found
        return noted

    def _fetched(self, work: _Work, found: Marker | None, *, again: bool) -> Marker:
        held, listing, download = work.held, work.listing, work.download
        expect_whole(held.path, listing)
        tell_of_several(held.path, listing)
        at_hand = self._at_hand(held, listing, found)
        lacking = bytes_lacking(held, listing, found, at_hand)
        work.make_room(lacking, sum(bytes_taken(file) for file in at_hand.values()))
        download.at_hand = self._at_hand(held, listing, found)  # what is there may have gone for it
        if again:
            download.again = Repeat.DAMAGED
        elif found is None and (held.path, listing.source, listing.revision) in self._had:
            download.again = Repeat.REMOVED
        self.publisher.begin(held, listing)
        before: tuple[Problem, ...] = ()
        for left in reversed(range(TRIES)):
            try:
                download.into_staging(listing, only=tells_of_others)
                self.publisher.expect_named(held, listing, reader=work.reader)
                download.into_staging(listing)
                marker = self.publisher.publish(held, listing, asked=work.asked, reader=work.reader)
            except InUseError:
                self._forget(held)
                raise
            except IncompleteError:
                raise
            except DamagedError as error:
                problems = error.verdict.problems
                if problems == before and without_hash(problems, listing):
                    raise IncompleteError(held.path, error.verdict, listing) from error
                if not left:
                    raise
                before = problems
                log.warning("fetched again", model=held.path, error=str(error))
                download.again = Repeat.DAMAGED
                download.at_hand = NOTHING  # what lies there may be what is damaged
            else:
                return marker
        raise AssertionError("the last try returns or raises")

    def _at_hand(self, held: Writing, listing: Listing, found: Marker | None) -> Mapping[str, Path]:
        """Return which files need not be fetched, and where they lie; none that is damaged."""
        if found is None:
            return NOTHING
        damaged = self.publisher.damage(held.path)
        there = unchanged(found, listing, held.final)
        return {path: file for path, file in there.items() if path not in damaged}

    def _mended(self, work: _Work) -> Marker | None:
        """Fetch the damaged files alone; None where the model has to be fetched as a whole."""
        held, download = work.held, work.download
        try:
            lacking = missing(held, work.listing)
            work.make_room(lacking.bytes, 0)
            download.again = Repeat.DAMAGED
            download.into_mending(lacking)
            marker = mend(self.publisher, held, work.listing, reader=work.reader)
        except CacheError as error:
            download.again = None
            log.warning("not mended; fetched as a whole", model=held.path, error=str(error))
            return None
        return marker

    def _doubted(self, work: _Work, found: Marker) -> Marker | None:
        """Prove a model as a whole of which no single file is known to be damaged."""
        try:
            return self.publisher.adopt(
                work.held,
                listing=work.listing,
                asked=work.asked,
                reader=work.reader,
                adopted=found.adopted,
            )
        except DamagedError as error:
            log.warning("not mended; fetched as a whole", model=found.path, error=str(error))
            return None


def _left_over(directory: CacheDirectory, path: str) -> list[Path]:
    """Return what downloads of a model have begun, and the journals that tell of it."""
    staging = () if directory.in_place(path) else (directory.staging(path),)
    begun = (*staging, directory.journal(path), directory.mending_journal(path))
    return [each for each in begun if each.exists()]


def _marker(held: Writing) -> Marker | None:
    try:
        return read_marker(held.final)
    except UnreadableMarkerError:
        raise
    except MarkerError as error:
        log.warning("the marker cannot be read; proven anew", model=held.path, error=str(error))
        return None
