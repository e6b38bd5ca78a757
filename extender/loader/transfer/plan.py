"""What is missing of a listing, cut into ranges that one connection each can fetch."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from extender.kube.quantity import format_bytes
from extender.loader.disk_space import file_system
from extender.loader.sources import Listing
from extender.loader.transfer.failures import LocalCause, TransferError
from extender.loader.transfer.journal import Entry, Journal, sync_directory
from extender.loader.transfer.promises import Promise
from extender.loader.transfer.target import Target


class Span(msgspec.Struct, frozen=True):
    """A range to fetch: ``end`` is exclusive, None where the file's size is not known.

    ``failures`` in a row, since bytes worth the name got through.
    """

    target: Target
    generation: int
    start: int
    end: int | None
    failures: int = 0


class Plan:
    """The spans that are to be fetched; workers take them and give back what they could not do."""

    def __init__(
        self, targets: Iterable[Target], *, connections: int, part_bytes: int, span_bytes: int
    ) -> None:
        self.targets = tuple(targets)
        self._lock = threading.Lock()
        # No longer than what keeps all connections at work to the end.
        missing = sum(b - a for target in self.targets for a, b in target.missing)
        self._span_bytes = max(part_bytes, min(span_bytes, missing // connections))
        # The small ones first: they are what tells a wrong set-up, and the big ones fill the rest.
        ordered = sorted(self.targets, key=lambda t: (t.size is None, t.size or 0, t.file.path))
        self._spans = deque(span for target in ordered for span in self._cut(target))

    def __len__(self) -> int:
        return len(self._spans)

    def take(self) -> Span | None:
        """Return a span to fetch; None where all are done or with others."""
        with self._lock:
            return self._spans.popleft() if self._spans else None

    def give_back(self, span: Span) -> None:
        """Put back a span that was not fetched, unless its file was begun anew since."""
        with self._lock:
            if span.generation == span.target.generation:
                self._spans.appendleft(span)

    def begin_anew(self, span: Span) -> bool:
        """Begin a file again from its first byte, in one go; False where that was tried already.

        Raises OSError.
        """
        target = span.target
        with self._lock:
            if span.generation != target.generation:
                return True  # another thread was first
            if target.streamed:
                return False
            target.streamed = True
            target.reset()
            self._spans = deque(s for s in self._spans if s.target is not target)
            self._spans.extendleft(self._cut(target))
        return True

    def _cut(self, target: Target) -> Iterable[Span]:
        if target.streamed:
            yield Span(target, target.generation, 0, target.size)
            return
        for start, end in target.missing:
            for at in range(start, end, self._span_bytes):
                yield Span(target, target.generation, at, min(end, at + self._span_bytes))


def prepare(
    listing: Listing, into: Path, journal: Journal, at_hand: Mapping[str, Path]
) -> tuple[Target, ...]:
    """Make every file of a listing ready to be written, with what an earlier run left of it.

    ``at_hand``: see ``fetching.fetch``. Raises TransferError.
    """
    place = into
    try:
        held = journal.read()
        targets = []
        safe: list[Entry] = []
        folders = {into} if into.is_dir() else {into, into.parent}
        for file in listing.files:
            place = into / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            target = Target(file, place, journal)
            safe += target.resume(held, at_hand.get(file.path))
            targets.append(target)
            folders.update(p for p in place.parents if p.is_relative_to(into))
        # Names have to be on the disk before the journal may say that bytes are.
        for folder in folders:
            sync_directory(folder)
        place = into
        journal.begin(safe)
    except OSError as error:
        raise TransferError.of_disk(error.filename or place, error) from error
    return tuple(targets)


class Room:
    """The space on the file system of a directory.

    ``statvfs`` is ``os.statvfs``; ``reserve`` says how many bytes have to stay free, ``promise``
    how many others were promised before.
    """

    def __init__(
        self,
        directory: Path,
        *,
        reserve: Callable[[], int],
        promise: Promise,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
    ) -> None:
        self._directory = directory
        self._reserve = reserve
        self._promise = promise
        self._statvfs = statvfs

    def require(self, count: int) -> None:
        """Raise TransferError where ``count`` more bytes leave less than reserve and promises."""
        try:
            free = file_system(self._directory, statvfs=self._statvfs).free
        except OSError as error:
            raise TransferError.of_disk(self._directory, error) from error
        reserve, promised = self._reserve(), self._promise.before()
        if count > 0 and free - promised - count < reserve:
            others = f", {format_bytes(promised)} of it for other downloads" if promised else ""
            kept = f" and {format_bytes(reserve)} have to stay free" if reserve else ""
            raise TransferError(
                f"{self._directory}: {format_bytes(count)} are to be written, "
                f"{format_bytes(free)} are free{others}{kept}; free space, "
                f"{'or lower the reserve' if reserve else 'or enlarge the volume'}",
                cause=LocalCause.NO_SPACE,
            )
