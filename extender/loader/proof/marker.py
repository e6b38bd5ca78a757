"""The marker: what was proven of a model, and when. It lies in the model's directory.

It is written last, so a directory that has one was complete when it was written. It says of every
file what a later look compares with, and of damaged ones that they are being mended.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec

from extender.errors import CacheError
from extender.loader.disk import regular_file
from extender.loader.layout import MARKER
from extender.loader.proof.verdict import Level, ProvenFile
from extender.loader.sources.urls import unrevised

VERSION = 1
WHOLE = "."
"""Among what is damaged: the model as a whole is in doubt, and no single file of it."""
MAX_SIZE = 2**63 - 1
MAX_BYTES = 64 * 1024 * 1024
"""A marker names each file in about 200 bytes; nothing that is larger is one."""


class Marker(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False
):
    """What is known of one published model.

    ``id`` names the publication. ``path`` is the model's path in its cache directory, ``source``
    and ``revision`` where it came from (empty where another program put it there, ``adopted``).
    ``proven_at`` is an RFC 3339 time, ``level`` how far that proof went, ``writer`` who proved it.
    ``damaged`` names files that failed a later proof: the model is not to be used. ``asked`` is a
    digest of what was asked for (address, revision, patterns), empty where that is not known.
    ``include`` and ``exclude`` are the patterns that chose its files, None where that is not known
    (an earlier release). ``unchecked`` says in words what that proof could not look at; see
    ``Verdict``.
    """

    version: int = VERSION
    id: str
    path: str
    source: str = ""
    revision: str | None = None
    files: tuple[ProvenFile, ...] = ()
    bytes: int = 0
    proven_at: str = ""
    level: Level = Level.SIZES
    writer: str = ""
    adopted: bool = False
    damaged: tuple[str, ...] = ()
    asked: str = ""
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    unchecked: tuple[str, ...] = ()


class MarkerError(ValueError):
    """A marker that is there but says nothing that can be relied on."""


class UnreadableMarkerError(MarkerError, CacheError):
    """A marker that the disk does not give: what lies beside it is unknown, not absent.

    ``because`` is the file system's error.
    """

    def __init__(self, path: Path, because: OSError) -> None:
        code = errno.errorcode.get(because.errno or 0, "?")
        super().__init__(
            f"{path}: cannot be read: {because.strerror or because} ({code}); what lies there is "
            "left as it is: look at the disk, or at the file's owner and mode"
        )
        self.because = because


_decoder = msgspec.json.Decoder(Marker)


def read_marker(directory: Path) -> Marker | None:
    """Return the marker of a model's directory; None where there is none.

    Raises UnreadableMarkerError where the disk does not give it, and MarkerError where it is not
    one, or of a version that is not known.
    """
    path = directory / MARKER
    try:
        with os.fdopen(regular_file(path), "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableMarkerError(path, error) from error
    if len(data) > MAX_BYTES:
        raise MarkerError(f"{path}: is larger than any marker")
    try:
        marker = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MarkerError(f"{path}: {error}") from error
    if marker.version != VERSION:
        raise MarkerError(f"{path}: has version {marker.version}, known is {VERSION}")
    for name in (*(file.path for file in marker.files), *marker.damaged):
        if name.startswith("/") or ".." in name.split("/"):
            raise MarkerError(f"{path}: names {name[:100]!r}, which is not in the model")
    # Who may write here may write any number, and the report would have it: the sum is made anew.
    size = sum(file.size for file in marker.files)
    if size > MAX_SIZE or any(file.size < 0 for file in marker.files):
        raise MarkerError(f"{path}: names files of sizes that no disk has")
    # Earlier releases left the revision that was asked for in the address.
    return msgspec.structs.replace(marker, source=unrevised(marker.source), bytes=size)


def marker_text(marker: Marker) -> bytes:
    """Return the marker as the bytes of its file."""
    return msgspec.json.encode(marker)
