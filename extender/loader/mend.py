"""One damaged file of a published model is set aside and replaced; the others stay where they are.

From the moment that damage is known until the last file is back the marker names what is damaged,
so that the model counts as failed for every reader of the marker, also after a crash.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import msgspec

from extender.errors import CacheError
from extender.loader.damaged import DamagedError
from extender.loader.disk_space import is_memory
from extender.loader.layout import Writing, make_parents, unwritable
from extender.loader.proof.manifest import of_listing, of_marker
from extender.loader.proof.marker import (
    WHOLE,
    Marker,
    MarkerError,
    UnreadableMarkerError,
    read_marker,
)
from extender.loader.proof.reading import Reader
from extender.loader.proof.verdict import Level, Verdict
from extender.loader.proof.verify import prove_file, verify
from extender.loader.publish import Publisher
from extender.loader.sources import Listing


def condemn(publisher: Publisher, held: Writing, files: Iterable[str]) -> Marker:
    """Mark files of a model as damaged and set them aside; return the new marker.

    Raises CacheError for a model without marker, and for files that it does not name.
    """
    marker = _marker_of(held)
    named = {file.path for file in marker.files}
    damaged = set(files)
    if not damaged <= named:
        raise CacheError(
            f"model {held.path}: {', '.join(sorted(damaged - named))} is no file of it that the "
            "marker names; fetch the model as a whole"
        )
    marker = msgspec.structs.replace(marker, damaged=tuple(sorted({*marker.damaged, *damaged})))
    publisher.write_marker(held, marker)
    try:
        for path in marker.damaged:
            _set_aside(publisher, held, path)
    except OSError as error:
        raise unwritable(held.directory.root, error) from error
    return marker


def damaged_files(marker: Marker, verdict: Verdict) -> set[str]:
    """Return which of the model's own files a proof found wrong; empty: the whole is in doubt."""
    named = {file.path for file in marker.files}
    return {problem.file for problem in verdict.problems} & named


def condemn_found(publisher: Publisher, held: Writing, marker: Marker, verdict: Verdict) -> None:
    """Mark what a proof found wrong in the model with this marker.

    Raises CacheError.
    """
    damaged = damaged_files(marker, verdict)
    if damaged:
        condemn(publisher, held, damaged)
    else:  # not one of its files: only a proof of the whole can tell
        doubted = msgspec.structs.replace(marker, damaged=(*marker.damaged, WHOLE))
        publisher.write_marker(held, doubted)


def missing(held: Writing, listing: Listing) -> Listing:
    """Return what of a listing has to be fetched again, into ``held.directory.mending``.

    Raises CacheError where the source has another revision by now, or no such file any more.
    """
    marker = _marker_of(held)
    at_source = {file.path for file in listing.files}
    gone = [path for path in marker.damaged if path not in at_source]
    if gone or listing.revision != marker.revision:
        raise CacheError(
            f"model {held.path}: {listing.source} has revision {listing.revision} and not the "
            f"{', '.join(gone) or 'one'} of {marker.revision} any more; fetch the model as a whole"
        )
    wanted = tuple(file for file in listing.files if file.path in marker.damaged)
    return msgspec.structs.replace(listing, files=wanted)


def mend(
    publisher: Publisher, held: Writing, listing: Listing, *, reader: Reader | None = None
) -> Marker:
    """Put the files that were fetched again in their places; return the marker without damage.

    Raises DamagedError where one of them is not what it should be, or the model is still not whole.
    """
    marker = _marker_of(held)
    fresh = held.directory.mending(held.path)
    reading = reader or Reader()
    known = of_listing(missing(held, listing)).files
    known |= {path: file for path, file in of_marker(marker).files.items() if file.sha256}
    try:
        for path in marker.damaged:
            if (fresh / path).exists():
                problem = prove_file(fresh, path, known[path], reading)
                if problem is not None:
                    publisher.disk.unlink(fresh / path)
                    raise DamagedError(
                        held.path, Verdict(ok=False, level=Level.CONTENT, problems=(problem,))
                    )
                _put_back(publisher, held, fresh, path)
        whole = msgspec.structs.replace(marker, damaged=())
        verdict = verify(held.final, level=Level.HEADERS, expected=whole, reader=reading)
        if not verdict.ok:
            raise DamagedError(held.path, verdict)
        mended = publisher.renew(held, whole, verdict)
        for leftover in (fresh, held.directory.quarantine(held.path)):
            if leftover.exists():
                publisher.discard(held, leftover)
    except OSError as error:
        raise unwritable(held.directory.root, error) from error
    return mended


def _marker_of(held: Writing) -> Marker:
    try:
        marker = read_marker(held.final)
    except UnreadableMarkerError:
        raise
    except MarkerError as error:
        raise CacheError(f"{error}; fetch the model as a whole") from error
    if marker is None:
        raise CacheError(f"model {held.path}: has no marker; adopt it or fetch it as a whole")
    return marker


def _set_aside(publisher: Publisher, held: Writing, path: str) -> None:
    file = held.final / path
    if not file.is_file():
        return
    if is_memory(held.directory.root):  # what is kept there is missing where the model belongs
        publisher.disk.unlink(file)
        publisher.disk.sync_directory(file.parent)
        return
    name = f"{quote(path, safe='')[-150:]}.{secrets.token_hex(4)}"
    aside = held.directory.quarantine(held.path) / name
    make_parents(publisher.disk, aside)
    publisher.disk.rename(file, aside)
    publisher.disk.sync_directory(file.parent)
    publisher.disk.sync_directory(aside.parent)


def _put_back(publisher: Publisher, held: Writing, fresh: Path, path: str) -> None:
    file = held.final / path
    publisher.disk.sync_file(fresh / path)
    make_parents(publisher.disk, file)
    publisher.disk.rename(fresh / path, file)
    publisher.disk.sync_directory(file.parent)
