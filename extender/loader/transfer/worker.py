"""One thread of a download: takes spans, reads them from the source, writes them, tries again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from random import Random

import msgspec

from extender.backoff import Backoff
from extender.loader.sources import Cause, Source, SourceError
from extender.loader.transfer.failures import TransferError
from extender.loader.transfer.limits import Limits
from extender.loader.transfer.plan import Plan, Room, Span
from extender.loader.transfer.target import Superseded

_WORTHWHILE_BYTES = 1024 * 1024
"""So much got through, and the failures before it are forgotten: a bound on how often one fails."""

_TRICKLE_BYTES = 64 * 1024
"""A connection that needs ``stall_seconds`` for fewer bytes has stalled, though it says a word."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How hard a download tries. Seconds and bytes.

    ``tries``: failures of one range in a row, with next to nothing got through, until the end.
    ``longest_retry_after``: a server that asks for more is tried again after this.
    ``part_bytes``: synced and written to the journal as one; what a kill can cost a connection.
    ``span_bytes``: asked for in one request.
    """

    tries: int = 8
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_retry_after: float = 300.0
    stall_seconds: float = 30.0
    part_bytes: int = 8 * 1024 * 1024
    span_bytes: int = 64 * 1024 * 1024


class Shared:
    """What the threads of one download share. ``stopped`` is set to end them all."""

    def __init__(
        self,
        *,
        source: Source,
        plan: Plan,
        room: Room,
        limits: Limits,
        patience: Patience,
        random: Random,
    ) -> None:
        self.source = source
        self.plan = plan
        self.room = room
        self.limits = limits
        self.patience = patience
        self.clock = limits.clock
        self.random = random
        self.stopped = threading.Event()
        self.changed = threading.Condition()
        self.not_before = 0.0
        self.busy = 0
        self.failure: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """End the download; the first failure is the one that is told."""
        with self.changed:
            self.failure = self.failure or error
            self.stopped.set()
            self.changed.notify_all()


class Worker:
    """One thread. It ends when nothing is left to do, or when the download is stopped."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        patience = shared.patience
        self._backoff = Backoff(
            random=shared.random,
            clock=shared.clock,
            first=patience.first_wait,
            most=patience.longest_wait,
        )

    def run(self) -> None:
        """Work until there is nothing left; failures are told to ``Shared.fail``."""
        try:
            while (span := self._next()) is not None:
                try:
                    self._try(span)
                except OSError as error:
                    raise TransferError.of_disk(span.target.path, error) from error
                finally:
                    with self._shared.changed:
                        self._shared.busy -= 1
                        self._shared.changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits for the download
            self._shared.fail(error)

    def _next(self) -> Span | None:
        """Wait for a span: one that another thread is at may come back."""
        shared = self._shared
        with shared.changed:
            while not shared.stopped.is_set():
                span = shared.plan.take()
                if span is not None:
                    shared.busy += 1
                    return span
                if shared.busy == 0:
                    return None
                shared.changed.wait(0.1)
        return None

    def _try(self, span: Span) -> None:
        position = _Position(span.start)
        try:
            self._shared.limits.pause(self._shared.not_before, self._shared.stopped.is_set)
            with self._shared.limits.connection(self._shared.stopped.is_set) as granted:
                if granted:
                    self._fetch(span, position)
        except Superseded:
            return
        except SourceError as error:
            self._failed(span, position, error)

    def _fetch(self, span: Span, position: _Position) -> None:
        """Read a span to its end. ``position`` says how far it came, also where it raises."""
        shared, target = self._shared, span.target
        with shared.source.open(target.file, span.start, span.end) as pieces:
            try:
                for piece in self._lively(pieces, target.file.path):
                    if shared.stopped.is_set():
                        return
                    self._write(span, position, piece)
            finally:
                if not target.streamed:
                    self._sync(span, position)
        if span.end is None:
            target.finish(position.written, span.generation)
        elif position.written < span.end:
            raise SourceError(
                f"{target.file.path}: ended after {position.written} of {span.end} bytes",
                cause=Cause.UNREACHABLE,
            )
        elif target.streamed:
            target.sync(span.start, span.end, span.generation)

    def _write(self, span: Span, position: _Position, piece: bytes) -> None:
        shared, target = self._shared, span.target
        if span.end is not None and position.written + len(piece) > span.end:
            raise SourceError(
                f"{target.file.path}: more bytes came than the {span.end - span.start} asked for",
                cause=Cause.INVALID,
                permanent=False,
            )
        if position.written + len(piece) > position.room_until:
            ahead = shared.patience.part_bytes
            if span.end is not None:  # no more than comes: a tmpfs may be as large as its model
                ahead = min(ahead, span.end - position.written)
            shared.room.require(max(ahead, len(piece)))
            position.room_until = position.written + ahead
        target.write(piece, position.written, span.generation)
        position.written += len(piece)
        shared.limits.take(len(piece), shared.stopped.is_set)
        if not target.streamed and position.written - position.synced >= shared.patience.part_bytes:
            self._sync(span, position)

    def _sync(self, span: Span, position: _Position) -> None:
        if position.written > position.synced:
            span.target.sync(position.synced, position.written, span.generation)
            position.synced = position.written

    def _failed(self, span: Span, position: _Position, error: SourceError) -> None:
        """Give back what is left of a span and wait; or end the download."""
        shared, target = self._shared, span.target
        if error.cause is Cause.NO_RANGES and shared.plan.begin_anew(span):
            return
        if span.generation != target.generation:
            return  # begun anew meanwhile: not this span's business any more
        if error.cause is Cause.CHANGED:
            target.reset()
        start = span.start if target.streamed else position.synced
        target.lose(position.written - start)
        got = position.synced - span.start
        failures = 1 if got >= _WORTHWHILE_BYTES else span.failures + 1
        if error.permanent or failures >= shared.patience.tries:
            raise TransferError.of_source(error, failures) from error
        asked = min(error.retry_after or 0.0, shared.patience.longest_retry_after)
        until = shared.clock() + self._backoff.wait(asked)
        if error.cause is Cause.THROTTLED:
            shared.not_before = max(shared.not_before, until)  # all of us were meant
        shared.limits.pause(until, shared.stopped.is_set)
        shared.plan.give_back(msgspec.structs.replace(span, start=start, failures=failures))

    def _lively(self, pieces: Iterator[bytes], path: str) -> Iterator[bytes]:
        """Pass on what comes, as long as enough comes."""
        clock, bound = self._shared.clock, self._shared.patience.stall_seconds
        waited, came = 0.0, 0
        before = clock()
        for piece in pieces:
            waited += clock() - before
            came += len(piece)
            if came >= _TRICKLE_BYTES:
                waited, came = 0.0, 0
            elif waited > bound:
                raise SourceError(
                    f"{path}: {came} bytes in {waited:.0f} s; the connection has stalled",
                    cause=Cause.UNREACHABLE,
                )
            yield piece
            before = clock()


class _Position:
    """How far a span has come: bytes written, synced, and known to have room."""

    def __init__(self, start: int) -> None:
        self.written = self.synced = self.room_until = start
