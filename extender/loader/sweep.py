"""Complete or undo what a process left that was killed, and bound what is kept aside.

Staging stays, for downloads to go on from. What was on its way to a final path arrives where it is
still asked for. Trash is deleted. A model that another process is writing right now is left to it.
What cannot be deleted or moved is said once, and keeps nothing else from it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path

import msgspec
import structlog

from extender.errors import CacheError, LockHeldError
from extender.loader.layout import (
    BESIDE,
    IN_PLACE,
    CacheDirectory,
    Writing,
    holds_something,
    make_parents,
    unescaped,
    unwritable,
    writing,
)
from extender.loader.placing import Fate, InUseError
from extender.loader.proof.marker import (
    Marker,
    MarkerError,
    UnreadableMarkerError,
    read_marker,
)
from extender.loader.publish import Publisher
from extender.loader.sources import path_problem
from extender.loader.transfer.journal import UNFINISHED

log = structlog.get_logger("extender.loader")

QUARANTINE_BYTES = 20 * 1024**3
"""Two large shards: enough to look into what damaged them, without filling the disk."""


class Swept(msgspec.Struct, kw_only=True):
    """What was done: the models that were shown, and how many things were deleted."""

    completed: list[str] = []
    deleted: int = 0


def sweep(
    publisher: Publisher,
    directory: CacheDirectory,
    *,
    wanted: Mapping[str, str] | None = None,
    quarantine_bytes: int = QUARANTINE_BYTES,
) -> Swept:
    """Clean up a cache directory.

    ``wanted`` has what is asked for at each model's path, as ``Marker.asked`` has it. What was
    begun for other paths goes, and nothing is shown that answers another question. None: nobody
    can be asked, so that nothing goes, and only an empty path is given what was on its way there.

    Raises CacheError where the directory cannot be read, or its file system is read-only.
    """
    swept = Swept()
    trash = directory.work_area / "trash"
    try:
        with _by_itself(trash):  # while there is room: on a full disk nothing could go without it
            make_parents(publisher.disk, trash / "entry")
        incoming = _entries(directory.work_area / "incoming")
        for name in sorted({entry.name.rpartition(".")[0] for entry in incoming}):
            if not _is_ours(unescaped(name)):
                continue
            place = directory.work_area / "incoming" / name
            with _by_itself(place), _held(publisher, directory, name) as held:
                _arrive(publisher, held, wanted, swept)
        for room, journal in (
            ("staging", directory.journal),
            ("mending", directory.mending_journal),
        ):
            for entry in _entries(directory.work_area / room):
                path = unescaped(entry.name)
                unwanted = wanted is not None and path not in wanted
                if not _is_ours(path) or not (unwanted or room == "mending"):
                    continue
                with _by_itself(entry), _held(publisher, directory, entry.name) as held:
                    if unwanted or not _is_damaged(held):
                        publisher.discard(held, entry)
                        publisher.disk.unlink(journal(path))
                        swept.deleted += 1
        _forget(publisher, directory, swept)
        swept.deleted += bound_quarantine(publisher, directory, quarantine_bytes)
        for entry in _entries(trash):
            with _by_itself(entry):
                publisher.disk.remove_tree(entry)
                swept.deleted += 1
    except OSError as error:
        raise unwritable(directory.root, error) from error
    return swept


def _forget(publisher: Publisher, directory: CacheDirectory, swept: Swept) -> None:
    """Delete journals of what is published, or thrown away: they tell of nothing any more."""
    for journal in _entries(directory.work_area / "journals"):
        name, _, rest = journal.name.partition(BESIDE)
        path = unescaped(name)
        if not _is_ours(path):
            continue
        room = directory.mending(path) if rest.startswith("mending") else directory.staging(path)
        unfinished = journal.name.endswith(UNFINISHED)
        if room.exists() and not unfinished:
            continue
        with _by_itself(journal), _held(publisher, directory, name):
            if unfinished or not room.exists():
                publisher.disk.unlink(journal)
                swept.deleted += 1


def _is_ours(path: str) -> bool:
    """Tell whether a name in the work area stands for what can be a model's path."""
    return path == IN_PLACE or path_problem(path) is None


@contextmanager
def _by_itself(entry: Path) -> Iterator[None]:
    """Let what fails with one entry keep no other from its turn, unless no other can do better."""
    try:
        yield
    except LockHeldError:
        return
    except (CacheError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.EROFS:
            raise
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        _stays(str(entry), why)  # the names in the error are new each time


@lru_cache(maxsize=1024)
def _stays(entry: str, why: str) -> None:
    """Say it once: it is tried again at every look."""
    log.warning("not swept; it is tried again", entry=entry, error=why)


def _held(
    publisher: Publisher, directory: CacheDirectory, name: str
) -> AbstractContextManager[Writing]:
    return writing(directory, unescaped(name), disk=publisher.disk)


def _arrive(
    publisher: Publisher, held: Writing, wanted: Mapping[str, str] | None, swept: Swept
) -> None:
    """Show a model that was on its way; delete what it has taken the place of."""

    def fate(marker: Marker) -> Fate:
        if wanted is None:
            return Fate.WAITS if holds_something(held.final) else Fate.COMES
        if held.path not in wanted:
            return Fate.GOES
        # Another question may have the same answer: who obtains that will know.
        return Fate.COMES if marker.asked == wanted[held.path] else Fate.WAITS

    try:
        shown = publisher.arrive(held, fate)
    except InUseError:
        return  # said by whoever obtained it; looked at again the next time
    except UnreadableMarkerError as error:
        log.warning("marker not readable", model=held.path, error=str(error))
        return
    if shown is not None:
        swept.completed.append(held.path)


def _is_damaged(held: Writing) -> bool:
    """Tell whether a model still has a file to be mended; it may have been fetched as a whole.

    One whose marker says nothing for now may have.
    """
    try:
        marker = read_marker(held.final)
    except MarkerError:
        return True
    return marker is not None and bool(marker.damaged)


def bound_quarantine(
    publisher: Publisher, directory: CacheDirectory, limit: int = QUARANTINE_BYTES
) -> int:
    """Delete the oldest damaged files until at most ``limit`` bytes are kept; return how many."""
    files, deleted = [], 0
    for entry in _entries(directory.work_area / "quarantine"):
        with _by_itself(entry):
            for file in _entries(entry):
                seen = file.lstat()
                files.append((seen.st_mtime, seen.st_size, file))
    for _, size, file in sorted(files, reverse=True):
        limit -= size
        if limit < 0:
            with _by_itself(file):
                publisher.disk.unlink(file)
                deleted += 1
    return deleted


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
