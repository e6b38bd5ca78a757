"""What can be told of a download before its weights: that it is in vain, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from extender.addresses import shown
from extender.loader.damaged import IncompleteError
from extender.loader.layout import Writing
from extender.loader.proof.marker import Marker
from extender.loader.proof.names import may_lack, models_among
from extender.loader.proof.scan import Found, Scan
from extender.loader.proof.verdict import Level, Problem, Verdict
from extender.loader.proof.weights import lacking, shape
from extender.loader.sources import Listing

log = structlog.get_logger("extender.loader")

_TOLD = 3
"""Directories that are named one by one."""


def expect_whole(path: str, listing: Listing) -> None:
    """Raise IncompleteError where the names of the files alone tell that one is missing."""
    problems = lacking(_as_found(listing), allowed=may_lack(listing))
    if problems:
        verdict = Verdict(ok=False, level=Level.SIZES, problems=tuple(problems))
        raise IncompleteError(path, verdict, listing)


def tell_of_several(path: str, listing: Listing) -> None:
    """Say that a source looks like a directory of models, where nobody vouches that it is one."""
    models = [] if listing.vouched else models_among(file.path for file in listing.files)
    if models:
        log.warning(
            "directories of models taken as one",
            model=path,
            directories=", ".join(models[:_TOLD]) + ", ..." * (len(models) > _TOLD),
            number=len(models),
            source=shown(listing.source),
            remedy="name one of them in the address, unless all are meant",
        )


def problems_told(directory: Path, listing: Listing) -> tuple[Problem, ...]:
    """Return what is wrong with a model by what those of its files say that tell of others.

    Only these have to lie in the directory, see ``weights.tells_of_others``.
    """
    scan = Scan(_as_found(listing), [], [])
    shape(directory, scan, allowed=may_lack(listing), vouched=listing.vouched)
    return tuple(scan.problems)


def _as_found(listing: Listing) -> dict[str, Found]:
    return {file.path: Found(file.size or 0, 0, 0) for file in listing.files}


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
