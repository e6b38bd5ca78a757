"""Fetch the files of a listing into a directory, over as many runs as it takes.

What is on the disk for good is never fetched again: a run that was killed costs, for each of its
connections, what it had received since the last synced part. Every run ends: with all the files, or
with an error that says what is in the way.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from random import Random
from types import MappingProxyType

import msgspec

from extender.loader.sources import Listing, Source
from extender.loader.transfer.failures import LocalCause, TransferError
from extender.loader.transfer.journal import Journal
from extender.loader.transfer.limits import Limits
from extender.loader.transfer.plan import Plan, Room, prepare
from extender.loader.transfer.promises import Promise
from extender.loader.transfer.worker import Patience, Shared, Worker

_TICK = 0.1
_LAST_WORDS = 0.7
"""Seconds that threads get to sync what they have when a download is stopped."""


NOTHING: Mapping[str, Path] = MappingProxyType({})


class Progressed(msgspec.Struct, frozen=True, kw_only=True):
    """How far a download is. ``bytes_total`` grows where a size becomes known only at the end.

    ``bytes_lost``: received or resumed, and to be fetched again, for a connection was cut or the
    source changed.
    """

    bytes_done: int
    bytes_total: int
    bytes_received: int
    bytes_lost: int


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A download that is complete: bytes in all, what this run received, what was there before."""

    files: int
    bytes: int
    bytes_received: int
    bytes_resumed: int


def fetch(
    listing: Listing,
    source: Source,
    into: Path,
    *,
    journal: Path,
    limits: Limits,
    progress: Callable[[Progressed], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    patience: Patience | None = None,
    random: Random | None = None,
    at_hand: Mapping[str, Path] = NOTHING,
    only: Callable[[str], bool] = lambda _: True,
    promise: Promise | None = None,
    statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
) -> Fetched:
    """Fetch all files of a listing into a directory; every one is synced when this returns.

    ``journal`` is a file that belongs to ``into``, on a disk that outlives the process, and outside
    of it, so that ``into`` holds the model's files and nothing else. It may outlive ``into``: what
    is missing, replaced or of another version is fetched anew, and so is a file that the caller
    removed because its content was wrong. One process at a time.

    ``at_hand`` says for paths of the listing where the whole file lies on this file system already:
    it gets a second name and is not fetched. ``only`` says by its path whether a file is fetched by
    this call; the others stay as far as they are, for the next one. ``promise`` is of the room that
    this download needs, where the caller holds one.

    ``progress`` is called in this thread, about ten times a second while bytes come. ``stop`` is
    asked as often; when it says yes, this raises within a second.

    Raises TransferError. What was fetched stays, for the next call to go on from.
    """
    patience = patience or Patience()
    with (
        closing(Journal(journal)) as kept,
        nullcontext(promise) if promise else limits.promises.promise() as promised,
    ):
        targets = prepare(listing, into, kept, at_hand)
        resumed = sum(target.safe_bytes for target in targets)
        plan = Plan(
            [each for each in targets if not each.whole and only(each.file.path)],
            connections=limits.connections,
            part_bytes=patience.part_bytes,
            span_bytes=patience.span_bytes,
        )
        if not promised.left():
            promised.expect(listing.bytes - resumed)
        promised.left = lambda: sum((t.size or t.done_bytes) - t.done_bytes for t in targets)
        room = Room(into, reserve=lambda: limits.reserve_bytes, promise=promised, statvfs=statvfs)
        room.require(listing.bytes - resumed)
        shared = Shared(
            source=source,
            plan=plan,
            room=room,
            limits=limits,
            patience=patience,
            random=random or Random(),  # noqa: S311 - jitter
        )

        def tell() -> None:
            received = sum(target.received for target in targets)
            done = sum(target.done_bytes for target in targets)
            total = sum(target.size or target.done_bytes for target in targets)
            progress(
                Progressed(
                    bytes_done=done,
                    bytes_total=total,
                    bytes_received=received,
                    bytes_lost=max(0, resumed + received - done),
                )
            )

        try:
            _work(shared, tell, stop)
        finally:
            for target in targets:
                target.release()
        tell()
    return Fetched(
        files=len(targets),
        bytes=sum(target.size or 0 for target in targets),
        bytes_received=sum(target.received for target in targets),
        bytes_resumed=resumed,
    )


def _work(shared: Shared, tell: Callable[[], None], stop: Callable[[], bool]) -> None:
    """Let threads fetch until all is done, one of them fails or it is stopped."""
    threads = [
        # Daemons: one that waits for a silent server must not keep the process from ending.
        threading.Thread(target=Worker(shared).run, name=f"fetch-{number}", daemon=True)
        for number in range(min(shared.limits.connections, len(shared.plan)))
    ]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads) and not shared.stopped.is_set():
            if stop():
                raise TransferError("stopped before it was complete", cause=LocalCause.STOPPED)
            with shared.changed:
                shared.changed.wait(_TICK)
            tell()
    finally:
        shared.stopped.set()
        deadline = time.monotonic() + _LAST_WORDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    if shared.failure is not None:
        raise shared.failure
