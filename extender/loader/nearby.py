"""A copy of a model in a nearer place, such as the node's cache or a claim, as its source.

It is listed under the name and revision that its marker gives it, so that a directory which was
filled from there is known later for what it is, wherever it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from extender.addresses import shown
from extender.errors import ExtenderError
from extender.loader.origin import Origin
from extender.loader.proof.manifest import fetched_by_hub_tools, folder_of
from extender.loader.proof.marker import Marker, MarkerError, read_marker
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.sources import Listing, RemoteFile, Source
from extender.loader.sources.urls import FILE, HUB, Location, locate


class NotNearbyError(ExtenderError):
    """A directory that does not hold the model, or not whole; the message says why."""


class Nearby:
    """A directory that holds a model of another source; see ``sources.Source``."""

    def __init__(self, copy: Source, marker: Marker | None) -> None:
        self._copy = copy
        self._marker = marker
        self._here: dict[str, RemoteFile] = {}

    def list(self) -> Listing:
        """List the directory's files as those of the source that they came from."""
        listing = self._copy.list()
        if self._marker is None or not self._marker.source:
            return listing
        self._here = {file.path: file for file in listing.files}
        there = {file.path: file.version for file in self._marker.files}
        return msgspec.structs.replace(
            listing,
            source=self._marker.source,
            revision=self._marker.revision,
            files=tuple(
                msgspec.structs.replace(file, version=there.get(file.path, ""))
                for file in listing.files
            ),
        )

    def open(
        self, file: RemoteFile, start: int, end: int | None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read from the directory, as long as the file is the one that was listed there."""
        return self._copy.open(self._here.get(file.path, file), start, end)


def nearby(directory: Path, origin: Origin, open_source: Callable[[Origin], Source]) -> Nearby:
    """Return a directory as the source of a model that it holds whole.

    Sizes and headers are looked at here; the content is compared with the marker's hashes when it
    is copied. What the hub's tools filled tells which repository or commit it is; any other
    directory without a marker is taken at its word for being this model. Where the origin names no
    revision, the one that is there is taken; a branch or a tag is looked up at the origin. Raises
    NotNearbyError, and SourceError where that fails.
    """
    directory = directory.absolute()
    try:
        verdict = verify(directory, level=Level.HEADERS)
        marker = read_marker(directory)
    except (OSError, MarkerError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NotNearbyError(told) from error
    without = {part.value for part in origin.without}
    if any(problem.kind.value not in without for problem in verdict.problems):
        raise NotNearbyError(verdict.told())
    if marker is not None and marker.source:
        _same_model(marker, origin, open_source)
    else:
        _same_as_hub_tools_left(directory, origin, open_source)
    copy = msgspec.structs.replace(origin, source=f"{FILE}://{directory}", revision=None)
    return Nearby(open_source(copy), marker)


def _same_model(marker: Marker, origin: Origin, open_source: Callable[[Origin], Source]) -> None:
    # A marker has addresses without their queries: a signature is made anew for every run.
    wanted = locate(shown(origin.source), origin.revision)
    held = locate(marker.source)
    if _place(wanted) != _place(held):
        raise NotNearbyError(
            f"holds {shown(marker.source)}; give that as SOURCE if it is the same model"
        )
    revision = _commit(wanted, origin, open_source)
    if revision is not None and revision != marker.revision:
        raise NotNearbyError(f"holds revision {marker.revision} and not {revision}")


def _same_as_hub_tools_left(
    directory: Path, origin: Origin, open_source: Callable[[Origin], Source]
) -> None:
    wanted = locate(shown(origin.source), origin.revision)
    if wanted.scheme != HUB:
        return
    held = fetched_by_hub_tools(directory)
    if held.folder not in {"", folder_of(wanted.place)}:
        raise NotNearbyError(f"holds {held.folder}; give that as SOURCE if it is the same model")
    revision = _commit(wanted, origin, open_source) if held.commits else None
    if revision is not None and held.commits != {revision}:
        raise NotNearbyError(f"holds revision {', '.join(sorted(held.commits))} and not {revision}")


def _commit(
    wanted: Location, origin: Origin, open_source: Callable[[Origin], Source]
) -> str | None:
    """Return the commit that is asked for, None where any will do."""
    if wanted.revision is None or wanted.pinned:
        return wanted.revision
    return open_source(origin).list().revision


def _place(location: Location) -> tuple[str, str]:
    return location.scheme, location.place.rstrip("/")
