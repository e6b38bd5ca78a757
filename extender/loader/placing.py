"""One directory takes the place of another: in one step, and not under those who read it.

A pod that mounts a model's own directory keeps the tree that was there when it started (the mount
is of the directory, not of its name), and loses it where that is deleted; one that mounts the whole
cache finds the new tree at the same path, and would load half of either revision. So a new revision
waits until nobody on this node reads the one before, unless the operator wants it at once
(``replaceInUse``) or the one before is damaged. What is taken away under its readers is kept aside
for those of them that have the old directory itself.

What waits lies in ``incoming``, proven and with its marker, and so does what was replaced and is
still read; the names tell after a crash which is which.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from enum import Enum, auto
from pathlib import Path

import msgspec
import structlog

from extender.errors import CacheError
from extender.loader.disk import Disk, regular_file
from extender.loader.layout import Writing, holds_something, make_parents, unwritable
from extender.loader.proof.marker import Marker, MarkerError, UnreadableMarkerError, read_marker
from extender.loader.proof.reading import Reader
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify

log = structlog.get_logger("extender.loader")

READERS = ".modelcache.readers.json"
"""In a directory that was replaced while pods read it: their UIDs."""

_MOST_BYTES = 1024 * 1024
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
"""What rename(2) says where something stands that it cannot replace in one step."""

_uids = msgspec.json.Decoder(list[str])


class InUse(msgspec.Struct, frozen=True):
    """Which pods of this node may read a model: ``namespace/name`` by UID.

    ``replaced``: the operator wants a new revision in its place all the same, which ``remedy``
    tells how to say. Not ``by_pod``: what is known is no pod, and nothing of any UID. ``untold``:
    why it cannot be told whether somebody else reads it, empty where it can.
    """

    pods: Mapping[str, str] = {}
    replaced: bool = False
    by_pod: bool = True
    untold: str = ""
    remedy: str = "set replaceInUse: true"


Uses = Callable[[str], InUse]
"""Tells it of a model's path. Raises CacheError where that cannot be known."""

Damage = Callable[[str], frozenset[str]]
"""Tells which files of what stands at a model's path are known to be damaged, beside those that its
marker names: the disk may not have taken that yet."""


class Fate(Enum):
    """What becomes of something proven that is on its way to a final path."""

    COMES = auto()
    WAITS = auto()
    """It is not known, or for another one to say: it is left where it is."""
    GOES = auto()


class InUseError(CacheError):
    """What is proven waits for those who read what stands at its final path."""


class ReadersUnknownError(InUseError):
    """Nobody can tell whether there are such, nor ever will: somebody has to say so."""


class Placing:
    """Moves directories to final paths and away from them. Callers hold the model's lock."""

    def __init__(self, disk: Disk, uses: Uses, damage: Damage) -> None:
        self.disk = disk
        self.damage = damage
        self._uses = uses

    def put_in_place(self, held: Writing, proven: Path, publication: str) -> None:
        """Rename a proven directory to the final path. Raises OSError, InUseError, CacheError."""
        make_parents(self.disk, held.final)
        try:
            self.disk.rename(proven, held.final)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            self._replace(held, proven, publication)
            return
        self.disk.sync_directory(held.final.parent)
        self.disk.sync_directory(proven.parent)

    def arrive(
        self, held: Writing, fate: Callable[[Marker], Fate], *, reader: Reader | None = None
    ) -> Marker | None:
        """Show what is on its way to a final path where ``fate`` says so; return its marker then.

        What was replaced goes as soon as none of its readers is left. What cannot be read stays.
        Raises InUseError where it has to wait on, and CacheError.

        Without a whole model there, or one that was just moved aside, it is proven once more: what
        did not change between two revisions is one file with two names, and so is its damage. That
        takes as long as it takes to read it all, around the page cache: without a ``reader`` it is
        left to who has one.
        """
        arriving = None
        try:
            there = _marker(held.final)
            whole = there is not None and not self._is_damaged(held, there)
            for entry, publication in held.directory.arrivals(held.path):
                marker = _marker(entry)
                if marker is None or marker.id != publication:
                    damaged = marker is not None and bool(marker.damaged)
                    whole = whole or (there is None and not damaged)
                    self._let_go(held, entry)
                    continue
                match fate(marker):
                    case Fate.COMES:
                        arriving = entry, marker
                    case Fate.GOES:
                        self.discard(held, entry)
                    case Fate.WAITS:
                        continue
            if arriving is None:
                return None
            entry, marker = arriving
            if not whole:
                if reader is None:
                    return None
                verdict = verify(
                    entry, level=Level.CONTENT, expected=marker, reader=reader.around()
                )
                if not verdict.ok:
                    log.warning("fetched again", model=held.path, error=verdict.told())
                    self.discard(held, entry)
                    return None
            self.put_in_place(held, entry, marker.id)
        except OSError as error:
            raise unwritable(held.directory.root, error) from error
        return marker

    def _is_damaged(self, held: Writing, there: Marker) -> bool:
        return bool(there.damaged or self.damage(held.path))

    def discard(self, held: Writing, directory: Path) -> None:
        """Delete a directory or a file by way of the trash. Raises OSError where it stays.

        It is gone from its place with the rename; what cannot be deleted then is tried again by
        ``sweep``.
        """
        trash = held.directory.trash(held.path)
        make_parents(self.disk, trash)
        self.disk.rename(directory, trash)
        try:
            self.disk.sync_directory(directory.parent)
            self.disk.remove_tree(trash)
        except OSError as error:
            log.warning("not deleted; it is tried again", model=held.path, error=str(error))

    def _replace(self, held: Writing, proven: Path, publication: str) -> None:
        """Exchange what stands at the final path. The name says which publication is on its way.

        That is how ``arrive`` tells after a crash what lies there: the new model, until the marker
        at the final path names this publication; then the old one.
        """
        incoming = held.directory.incoming(held.path, publication)
        if proven != incoming:
            make_parents(self.disk, incoming)
            self.disk.rename(proven, incoming)
            self.disk.sync_directory(incoming.parent)
            self.disk.sync_directory(proven.parent)
        in_use = self.may_go(held, "new revision ready,")
        if in_use.pods and in_use.by_pod and held.final.is_dir():
            self.disk.write(held.final / READERS, msgspec.json.encode(sorted(in_use.pods)))
            names = sorted(in_use.pods.values())
            log.info("replaced under its readers", model=held.path, pods=names)
        if self.disk.exchange(incoming, held.final):
            old = incoming
        else:
            old = held.directory.replaced(held.path)
            self.disk.rename(held.final, old)
            self.disk.rename(incoming, held.final)
        self.disk.sync_directory(held.final.parent)
        self.disk.sync_directory(incoming.parent)
        self._let_go(held, old)

    def may_go(self, held: Writing, what: str = "new revision") -> InUse:
        """Return who reads what stands there, where that does not matter. Raises InUseError."""
        if not holds_something(held.final):  # and a pod may wait for it there
            return InUse()
        try:
            in_use = self._uses(held.path)
        except CacheError as error:
            raise InUseError(f"{what} waits: {error}") from error
        there = _marker(held.final)
        damaged = there is not None and self._is_damaged(held, there)
        if in_use.pods and not in_use.replaced and not damaged:
            names = sorted(in_use.pods.values())
            more = ", ..." if len(names) > 3 else ""
            raise InUseError(
                f"{what} waits for {len(names)} reader{'s' * (len(names) > 1)} of the one before "
                f"({', '.join(names[:3])}{more}); let them end, or {in_use.remedy}"
            )
        if in_use.untold and not damaged:
            if not in_use.replaced:
                raise ReadersUnknownError(
                    f"{what} waits: it cannot be told whether somebody reads the one before "
                    f"({in_use.untold}); {in_use.remedy} where nobody does, or put each revision "
                    "in a directory of its own"
                )
            log.warning("who reads it cannot be told", model=held.path, why=in_use.untold)
        return in_use

    def _let_go(self, held: Writing, old: Path) -> None:
        """Delete what was replaced, unless one of those who read it then still does.

        That it cannot be deleted takes nothing back: the new one is shown, and ``sweep`` tries it
        again.
        """
        try:
            recorded = _recorded(old)
            in_use = self._uses(held.path) if recorded else InUse()
        except CacheError:
            return  # not known now: looked at again
        if recorded & in_use.pods.keys() or (recorded and not in_use.by_pod):
            return
        try:
            self.discard(held, old)
        except OSError as error:
            log.warning("not deleted; it is tried again", model=held.path, error=str(error))


def _marker(directory: Path) -> Marker | None:
    try:
        return read_marker(directory)
    except UnreadableMarkerError:
        raise
    except MarkerError:
        return None


def _recorded(directory: Path) -> set[str]:
    """Return who read it when it was replaced. Raises CacheError where the disk does not say."""
    try:
        with os.fdopen(regular_file(directory / READERS), "rb") as file:
            return set(_uids.decode(file.read(_MOST_BYTES)))
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError, UnicodeError):
        return set()
    except OSError as error:
        raise CacheError(f"{directory / READERS}: {error.strerror or error}") from error
