"""Whether what a marker proves is what a source lists, and which of its files are.

Where source and marker both know a file's hash, that decides. Elsewhere the version does that the
source gives it (an ETag, a generation, size and time): a file may be replaced under the same name
with as many bytes. A marker of an earlier release has no versions, and counts as what is listed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from extender.loader.origin import Origin
from extender.loader.proof.marker import Marker
from extender.loader.proof.verdict import ProvenFile
from extender.loader.sources import Listing, RemoteFile
from extender.loader.sources.urls import locate


def same(marker: Marker, listing: Listing) -> bool:
    """Tell whether what a marker proves is what a source lists."""
    if marker.source != listing.source or marker.revision != listing.revision:
        return False
    proven = {file.path: file for file in marker.files}
    return proven.keys() == {file.path for file in listing.files} and all(
        _may_be(proven[file.path], file) for file in listing.files
    )


def is_of_commit(marker: Marker, origin: Origin) -> bool:
    """Tell whether a marker proves what is asked for for good: of a commit nothing can change.

    Not where it was taken for that, because its source could not be asked.
    """
    return (
        origin.pinned
        and marker.asked == origin.asked
        and marker.source == locate(origin.source, origin.revision).url
    )


def with_versions(marker: Marker, listing: Listing) -> Marker:
    """Return a marker of what is listed, with what the source says of its files by now."""
    versions = {file.path: file.version for file in listing.files}
    files = tuple(
        msgspec.structs.replace(file, version=versions.get(file.path) or file.version)
        for file in marker.files
    )
    return msgspec.structs.replace(marker, files=files)


def unchanged(marker: Marker, listing: Listing, directory: Path) -> dict[str, Path]:
    """Return which files of a listing lie in a marker's directory as they were proven, and where.

    Only those that are known to be the same; what somebody touched since is left out.
    """
    proven = {file.path: file for file in marker.files if file.path not in marker.damaged}
    of_source = marker.source == listing.source
    return {
        file.path: directory / file.path
        for file in listing.files
        for known in (proven.get(file.path),)
        if known is not None
        and _is(known, file, of_source=of_source)
        and _untouched(directory / file.path, known)
    }


def _may_be(known: ProvenFile, file: RemoteFile) -> bool:
    if file.size is not None and file.size != known.size:
        return False
    if file.sha256 and known.sha256:
        return file.sha256 == known.sha256
    return not file.version or not known.version or file.version == known.version


def _is(known: ProvenFile, file: RemoteFile, *, of_source: bool) -> bool:
    if file.size != known.size:
        return False
    if file.sha256 and known.sha256:
        return file.sha256 == known.sha256
    return of_source and bool(file.version) and file.version == known.version


def _untouched(file: Path, known: ProvenFile) -> bool:
    try:
        seen = file.lstat()
    except OSError:
        return False
    return (seen.st_size, seen.st_mtime_ns, seen.st_ino) == (
        known.size, known.mtime_ns, known.inode,
    )  # fmt: skip
