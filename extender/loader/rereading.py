"""Published models are read again, file by file and slowly, because disks forget.

What was proven once does not stay true: a bad sector, a controller that lost a write, a tool that
wrote into the cache. Only reading every byte tells. One file at a time is read around the page
cache within a bound of bytes per second; where the last run stopped is a few bytes on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import structlog

from extender.errors import CacheError
from extender.loader.damaged import DamagedError
from extender.loader.disk import Disk, regular_file
from extender.loader.layout import CacheDirectory, Writing, keep
from extender.loader.proof.manifest import of_marker
from extender.loader.proof.marker import (
    Marker,
    MarkerError,
    UnreadableMarkerError,
    read_marker,
)
from extender.loader.proof.reading import Reader
from extender.loader.proof.verdict import Level, Problem, ProvenFile
from extender.loader.proof.verify import prove_file, verify
from extender.loader.publish import Publisher

log = structlog.get_logger("extender.loader")


class Reread(msgspec.Struct, frozen=True, kw_only=True):
    """One file that was read, of the model with this marker.

    ``last``: with it the whole model was read in this round, and none of it was found damaged.
    """

    path: str
    file: str
    marker: Marker
    bytes: int
    problem: Problem | None = None
    last: bool = False


class _Cursor(msgspec.Struct, frozen=True):
    """What was read last, in the order of models and files; of which publication of its model."""

    path: str = ""
    file: str = ""
    publication: str = ""


_cursor = msgspec.json.Decoder(_Cursor)


class Rereader:
    """Goes through all models of a cache directory, round after round."""

    def __init__(
        self, directory: CacheDirectory, reader: Reader, *, disk: Disk | None = None
    ) -> None:
        self._directory = directory
        self._reader = reader
        self._disk = disk or Disk()
        self._state = directory.work_area / "rereading.json"
        self._at: _Cursor | None = None
        self._untold: set[tuple[str, ProvenFile]] = set()
        self._told = False

    def step(self, paths: Iterable[str]) -> Reread | None:
        """Read the next file of these models; None at the end of a round, and then from the start.

        Raises ReadingStoppedError where the reader is stopped: that file is read again next time.
        Where its place cannot be kept on the disk, the next process begins a round anew; and what
        was found damaged is found once more by that one, unless the model's marker tells of it.
        """
        after = self._at or self._load()
        for path, marker, number in self._files(sorted(p for p in paths if p >= after.path)):
            file = marker.files[number]
            # Of another publication by now nothing was read, whatever has the same name.
            begun = (path, marker.id) == (after.path, after.publication)
            if begun and file.path <= after.file:
                continue
            problem = prove_file(
                self._directory.final(path),
                file.path,
                of_marker(marker).files[file.path],
                self._reader,
            )
            now = self._marker(path) if problem is not None else None
            if now is not None and file not in now.files:
                problem = None  # the model was replaced or mended while it was read
            if problem is not None:
                self._untold.add((path, file))
            self._save(_Cursor(path, file.path, marker.id))
            damaged = any(one == path for one, _ in self._untold)
            last = number == len(marker.files) - 1 and not damaged
            return Reread(
                path=path,
                file=file.path,
                marker=marker,
                bytes=file.size,
                problem=problem,
                last=last,
            )
        self._save(_Cursor())
        return None

    def _files(self, paths: list[str]) -> Iterator[tuple[str, Marker, int]]:
        for path in paths:
            marker = self._marker(path)
            if marker is not None and not marker.damaged:
                ordered = tuple(sorted(marker.files, key=lambda file: file.path))
                marker = msgspec.structs.replace(marker, files=ordered)
                yield from ((path, marker, number) for number in range(len(ordered)))

    def _marker(self, path: str) -> Marker | None:
        try:
            return read_marker(self._directory.final(path))
        except MarkerError:
            return None

    def _load(self) -> _Cursor:
        try:
            with open(regular_file(self._state), "rb") as file:  # noqa: PTH123 - a descriptor
                return _cursor.decode(file.read(65536))
        except (OSError, msgspec.MsgspecError, UnicodeError):
            return _Cursor()

    def _save(self, cursor: _Cursor) -> None:
        self._at = cursor
        self._untold = {found for found in self._untold if self._is_untold(*found)}
        if self._untold:
            return
        try:
            keep(self._directory, self._state, msgspec.json.encode(cursor), self._disk)
        except (OSError, CacheError) as error:
            if not self._told:
                log.warning("place not kept", file=str(self._state), error=str(error))
            self._told = True

    def _is_untold(self, path: str, file: ProvenFile) -> bool:
        """Tell whether this process alone knows of damage that it found."""
        try:
            marker = read_marker(self._directory.final(path))
        except UnreadableMarkerError:
            return True  # as long as the disk does not give it, it tells nobody
        except MarkerError:
            return False
        return marker is not None and not marker.damaged and file in marker.files


def confirm(publisher: Publisher, held: Writing, marker: Marker, reader: Reader) -> Marker:
    """Say in a model's marker that all of it was read again, and was found whole.

    Raises DamagedError where it is not whole by now, ReadingStoppedError and CacheError.
    """
    verdict = verify(held.final, level=Level.SIZES, expected=marker, reader=reader)
    if not verdict.ok:
        raise DamagedError(held.path, verdict)
    return publisher.renew(held, marker, verdict, level=Level.CONTENT)
