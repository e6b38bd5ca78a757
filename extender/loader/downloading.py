"""One model's download under way: from where, into which of its rooms, and how fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from random import Random

import msgspec

from extender.loader.layout import Writing
from extender.loader.sources import Listing, Source
from extender.loader.telling import Rate, Tell
from extender.loader.transfer.fetching import NOTHING, Progressed, fetch
from extender.loader.transfer.limits import Limits
from extender.loader.transfer.promises import Promise
from extender.report import Transfer


class Repeat(StrEnum):
    """Why bytes are fetched that this node has had already."""

    LOST = "lost"
    """A connection was cut before they were safe, or the source changed meanwhile."""
    DAMAGED = "damaged"
    REMOVED = "removed"
    """The model was removed to make room, and is wished for again."""


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What all downloads of an obtainer have in common; see ``Obtainer``."""

    limits: Limits
    random: Random | None
    received: Callable[[int], None]
    repeated: Callable[[Repeat, int], None]


class Download:
    """One model's.

    ``again``: why the node has had all of it before, None where it has not. ``at_hand``: see
    ``fetching.fetch``; of the files in staging alone.
    """

    def __init__(
        self,
        source: Source,
        held: Writing,
        means: Means,
        *,
        promise: Promise,
        tell: Tell,
        stop: Callable[[], bool],
    ) -> None:
        self._source = source
        self._held = held
        self._means = means
        self._promise = promise
        self._tell = tell
        self._stop = stop
        self.again: Repeat | None = None
        self.at_hand: Mapping[str, Path] = NOTHING

    def into_staging(
        self, listing: Listing, *, only: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Fetch files to where the whole model is proven; ``only``: see ``fetching.fetch``.

        Raises TransferError.
        """
        held = self._held
        self._fetch(
            listing, held.staging, held.directory.journal(held.path), self.at_hand, only=only
        )

    def into_mending(self, listing: Listing) -> None:
        """Fetch files to where single ones are proven. Raises TransferError."""
        held = self._held
        directory = held.directory
        self._fetch(
            listing, directory.mending(held.path), directory.mending_journal(held.path), NOTHING
        )

    def _fetch(
        self,
        listing: Listing,
        into: Path,
        journal: Path,
        at_hand: Mapping[str, Path],
        *,
        only: Callable[[str], bool] = lambda _: True,
    ) -> None:
        means = self._means
        rate, before, lost = Rate(), 0, 0

        def note(progressed: Progressed) -> None:
            nonlocal before, lost
            came = progressed.bytes_received - before
            means.received(came)
            before = progressed.bytes_received
            if self.again is not None:
                means.repeated(self.again, came)
            elif progressed.bytes_lost > lost:
                means.repeated(Repeat.LOST, progressed.bytes_lost - lost)
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
            limits=means.limits,
            progress=note,
            stop=self._stop,
            random=means.random,
            at_hand=at_hand,
            only=only,
            promise=self._promise,
        )
