"""What another program put at a model's path: kept where it is the model, and left where it is not.

An article's loader leaves whole models, which are proven where they lie. But a directory may also
hold what somebody made by hand under the same names, and nobody has it a second time: it is never
replaced unless somebody says so.
"""

from __future__ import annotations

import os
from pathlib import Path

from extender.errors import CacheError, NotRemovedError
from extender.loader.damaged import DamagedError
from extender.loader.layout import MARKER, Writing, holds_something
from extender.loader.proof.marker import Marker
from extender.loader.proof.reading import Reader
from extender.loader.proof.scan import Found, scan
from extender.loader.publish import Publisher
from extender.loader.sources import Listing


class ForeignError(CacheError):
    """Another program put something at a model's path that is not the model."""


def left_by_others(held: Writing, listing: Listing) -> bool:
    """Tell whether something lies at the final path that no download of ours has begun.

    Directories without a file are nothing: the kubelet makes one for a pod that comes too early.
    Raises CacheError where it cannot be looked at.
    """
    try:
        if held.directory.in_place(held.path):
            begun = held.directory.journal(held.path).exists()
            there = (os.path.lexists(held.final / file.path) for file in listing.files)
            return not begun and any(there)
        return holds_something(held.final)
    except OSError as error:
        raise CacheError(
            f"{error.filename or held.final}: {error.strerror or error}; it cannot be told who put "
            "it there, and it is left as it is: look at its owner and mode"
        ) from error


def expect_none_below(held: Writing, *, replaced: bool) -> None:
    """Raise NotRemovedError where another model of ours lies below a model's path.

    Somebody put it into the model that is to be ``replaced``: no loader looks for models there. Or
    it had that path in an earlier catalog, and stays for its grace: pods may read it.
    """
    for parent, folders, names in os.walk(held.final):
        folders.sort()
        below = Path(parent).relative_to(held.final)
        if MARKER not in names or below == Path():
            continue
        remedy = (
            "it would go with the revision that is there: move it out, and the new one comes"
            if replaced
            else "this one is fetched once that has gone, which a loader removes when its grace "
            "is over (or remove it, or give this one another path)"
        )
        raise NotRemovedError(
            f"{held.final}: the model {held.path}/{below.as_posix()} lies in this directory; "
            f"{remedy}"
        )


class Foreigners:
    """Proves what other programs left, each of them once for as long as nobody changes it."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._refused: dict[str, tuple[Listing, dict[str, Found], str]] = {}

    def adopt(self, held: Writing, listing: Listing, *, asked: str, reader: Reader) -> Marker:
        """Prove what lies there and mark it as ours.

        Raises ForeignError where it is not what the source has, and CacheError where it cannot be
        read or marked.
        """
        seen = _seen(held.final)
        before = self._refused.get(held.path)
        if before is not None and before[:2] == (listing, seen):
            raise ForeignError(before[2])
        try:
            return self._publisher.adopt(held, listing=listing, asked=asked, reader=reader)
        except DamagedError as error:
            told = (
                f"{held.final}: another program put it there, and it is not what "
                f"{listing.source} has ({error.verdict.told()}); it is left as it is: remove or "
                "rename it, or let it be replaced (replaceForeign in the catalog, fill --replace)"
            )
            self._refused[held.path] = listing, seen, told
            raise ForeignError(told) from error


def _seen(path: Path) -> dict[str, Found]:
    try:
        return scan(path).files
    except OSError:
        return {}
