"""What can be told of a download before its first byte: that it is in vain, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from extender.loader.damaged import IncompleteError
from extender.loader.layout import Writing
from extender.loader.proof.marker import Marker
from extender.loader.proof.scan import Found
from extender.loader.proof.verdict import Level, Verdict
from extender.loader.proof.weights import lacking
from extender.loader.sources import Listing


def expect_whole(path: str, listing: Listing) -> None:
    """Raise IncompleteError where the names of the files alone tell that one is missing."""
    files = {file.path: Found(file.size or 0, 0, 0) for file in listing.files}
    problems = lacking(files, may_lack=listing.may_lack)
    if problems:
        verdict = Verdict(ok=False, level=Level.SIZES, problems=tuple(problems))
        raise IncompleteError(path, verdict, listing)


def bytes_lacking(
    held: Writing, listing: Listing, found: Marker | None, at_hand: Mapping[str, Path]
) -> int:
    """Return how many bytes more than now the disk will hold once everything is fetched."""
    lacks = sum(
        (file.size or 0) - bytes_taken(held.staging / file.path)
        for file in listing.files
        if file.path not in at_hand
    )
    if found is not None and held.directory.in_place(held.path):  # the rest of it goes first
        kept = {file.path for file in listing.files}
        lacks -= sum(bytes_taken(held.final / f.path) for f in found.files if f.path not in kept)
    return max(0, lacks)


def bytes_taken(file: Path) -> int:
    """Return how many bytes a file takes on its disk; 0 where there is none."""
    try:
        return file.lstat().st_blocks * 512
    except OSError:
        return 0
