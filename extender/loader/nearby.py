"""A copy of a model in a nearer place, such as the node's cache or a claim, as its source.

It is listed under the name and revision that its marker or the hub's tools give it, so that a
directory which was filled from there is known later for what it is, wherever it came from. Where
neither tells, the hub is asked what the model consists of, and what is read there has to be that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Lock

import msgspec
import structlog

from extender.addresses import shown
from extender.loader.candidates import NotNearbyError, candidates, has_all_of, place_of
from extender.loader.origin import Origin
from extender.loader.proof.manifest import (
    Expected,
    fetched_by_hub_tools,
    folder_of,
    left_by_hub_tools,
)
from extender.loader.proof.marker import Marker, MarkerError, read_marker
from extender.loader.proof.scan import walk_files
from extender.loader.proof.verdict import Level
from extender.loader.proof.verify import verify
from extender.loader.sources import Listing, RemoteFile, Source, SourceError
from extender.loader.sources.urls import FILE, HUB, Location, locate
from extender.loader.stored import model_directories

log = structlog.get_logger("extender.loader")

_UNKNOWN = Expected()


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """Which model a directory holds, with what its source said of the files, by path.

    ``versions``: see ``RemoteFile``; ``hashes`` are those that the directory does not show itself.
    """

    source: str
    revision: str | None
    versions: Mapping[str, str] = {}
    hashes: Mapping[str, Expected] = {}


class Named:
    """A directory that is known to hold a model of another source; see ``sources.Source``."""

    def __init__(self, copy: Source, known: _Known) -> None:
        self._copy = copy
        self._known = known
        self._here: dict[str, RemoteFile] = {}

    def list(self) -> Listing:
        """List the directory's files as those of the source that they came from."""
        listing = self._copy.list()
        known = self._known
        self._here = {file.path: file for file in listing.files}
        return msgspec.structs.replace(
            listing,
            source=known.source,
            revision=known.revision,
            files=tuple(self._of_source(file) for file in listing.files),
        )

    def _of_source(self, file: RemoteFile) -> RemoteFile:
        hashes = self._known.hashes.get(file.path, _UNKNOWN)
        return msgspec.structs.replace(
            file,
            version=self._known.versions.get(file.path, ""),
            sha256=file.sha256 or hashes.sha256 or None,
            git_oid=file.git_oid or hashes.git_oid or None,
        )

    def open(
        self, file: RemoteFile, start: int, end: int | None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read from the directory, as long as the file is the one that was listed there."""
        return self._copy.open(self._here.get(file.path, file), start, end)


class Compared:
    """What a source lists, read from a directory as far as that has it; see ``sources.Source``.

    Whoever fetches compares each file with the hash that the source gives. What was read in the
    directory once and is asked for again had another one, or could not be read: it comes from the
    source then.
    """

    def __init__(self, copy: Source, source: Source, listing: Listing) -> None:
        self._copy = copy
        self._source = source
        self._listing = listing
        self._here: dict[str, RemoteFile] = {}
        self._asked: Counter[str] = Counter()
        self._told: set[str] = set()
        self._lock = Lock()

    def list(self) -> Listing:
        """Return what the source said that it has."""
        self._here = {file.path: file for file in self._copy.list().files}
        return self._listing

    def open(
        self, file: RemoteFile, start: int, end: int | None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read where the file is to be had."""
        here = self._here.get(file.path)
        why = self._unfit(file, here, start, end)
        if here is not None and not why:
            return self._copy.open(here, start, end)
        with self._lock:
            new = file.path not in self._told
            self._told.add(file.path)
        if new:
            log.info("not nearby as at the source; fetched", file=file.path, why=why)
        return self._source.open(file, start, end)

    def _unfit(self, file: RemoteFile, here: RemoteFile | None, start: int, end: int | None) -> str:
        if here is None:
            return "is not there"
        if here.size != file.size or file.size is None:
            return f"has {here.size} bytes there and {file.size} at the source"
        with self._lock:
            self._asked[file.path] += (file.size if end is None else end) - start
            again = self._asked[file.path] > file.size
        return "what was read there is not what the source has" if again else ""


def nearby(directory: Path, origin: Origin, open_source: Callable[[Origin], Source]) -> Source:
    """Return a directory as the source of a model that it holds whole.

    Sizes and headers are looked at here; the content is compared with the marker's hashes when it
    is copied. What the hub's tools filled may tell which repository and commit it is; any other
    directory without a marker is compared with what the hub lists, and taken at its word where no
    hub can be asked. Where the origin names no revision, the one that is there is taken; a branch
    or a tag is looked up at the origin. Of a cache with several that may be the model the likeliest
    that is. Raises NotNearbyError, and SourceError where that fails.
    """
    directory = directory.absolute()
    try:
        found = candidates(directory, origin, open_source)
    except OSError as error:
        raise NotNearbyError(error.strerror or str(error)) from error
    refused = []
    for place in found:
        try:
            return _nearby(place, origin, open_source)
        except NotNearbyError as error:
            if len(found) == 1:
                raise
            refused.append(f"{place.relative_to(directory)} {error}")
    raise NotNearbyError("; ".join(refused))


def _nearby(directory: Path, origin: Origin, open_source: Callable[[Origin], Source]) -> Source:
    try:
        verdict = verify(directory, level=Level.HEADERS)
        marker = read_marker(directory)
        alone = model_directories(directory) == [directory]
    except (OSError, MarkerError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NotNearbyError(told) from error
    without = {part.value for part in origin.without}
    if any(problem.kind.value not in without for problem in verdict.problems):
        raise NotNearbyError(verdict.told())
    copy = open_source(
        msgspec.structs.replace(origin, source=f"{FILE}://{directory}", revision=None)
    )
    part = ""
    if marker is not None and marker.source:
        proven = _of_marker(marker, origin, open_source)
        if has_all_of(marker, origin):
            return Named(copy, proven)
        part = _chosen_by(marker)
    else:
        known = _of_hub_tools(directory, origin, open_source)
        if known is not None:
            return Named(copy, known)
    why = "only a repository of the hub can be asked what it should hold"
    if locate(origin.source, origin.revision).scheme == HUB:
        source = open_source(origin)
        try:
            return Compared(copy, source, source.list())
        except SourceError as error:
            why = str(error)
    if part:
        raise NotNearbyError(
            f"holds the files that {part} chose, and more may be asked for; give the same "
            f"--include and --exclude where they are meant ({why})"
        )
    if not alone:
        raise NotNearbyError(
            "holds models in directories below it, and nothing tells which is this one; name the "
            "directory of the model itself"
        )
    log.warning("taken at its word", directory=str(directory), why=why)
    return copy


def _chosen_by(marker: Marker) -> str:
    chosen = {"include": marker.include, "exclude": marker.exclude}
    return " and ".join(f"{key}: {', '.join(each)}" for key, each in chosen.items() if each)


def _of_marker(marker: Marker, origin: Origin, open_source: Callable[[Origin], Source]) -> _Known:
    # A marker has addresses without their queries: a signature is made anew for every run.
    wanted = locate(shown(origin.source), origin.revision)
    held = locate(marker.source)
    if place_of(wanted) != place_of(held):
        raise NotNearbyError(
            f"holds {shown(marker.source)}; give that as SOURCE if it is the same model"
        )
    revision = _commit(wanted, origin, open_source)
    if revision is not None and revision != marker.revision:
        raise NotNearbyError(f"holds revision {marker.revision} and not {revision}")
    versions = {file.path: file.version for file in marker.files}
    return _Known(source=marker.source, revision=marker.revision, versions=versions)


def _of_hub_tools(
    directory: Path, origin: Origin, open_source: Callable[[Origin], Source]
) -> _Known | None:
    """Return which model the hub's tools left there; None where nothing tells for sure."""
    wanted = locate(shown(origin.source), origin.revision)
    if wanted.scheme != HUB:
        return None
    held = fetched_by_hub_tools(directory)
    if held.folder not in {"", folder_of(wanted.place)}:
        raise NotNearbyError(f"holds {held.folder}; give that as SOURCE if it is the same model")
    revision = _commit(wanted, origin, open_source) if held.commits else None
    if revision is not None and held.commits != {revision}:
        raise NotNearbyError(f"holds revision {', '.join(sorted(held.commits))} and not {revision}")
    if len(held.commits) != 1 or not (held.folder or revision):
        return None
    [commit] = held.commits
    hashes = left_by_hub_tools(directory, walk_files(directory)).files
    return _Known(source=wanted.url, revision=commit, hashes=hashes)


def _commit(
    wanted: Location, origin: Origin, open_source: Callable[[Origin], Source]
) -> str | None:
    """Return the commit that is asked for, None where any will do."""
    if wanted.revision is None or wanted.pinned:
        return wanted.revision
    return open_source(origin).list().revision
