"""``file:///directory``: a mounted claim as the origin, or a cache of the Hugging Face hub.

In the hub's cache layout (``models--org--name`` with ``blobs``, ``refs`` and ``snapshots``) the
files are links to blobs, whose names are hashes of their content: these come with the listing. So
do those of a model that this program proved there, for files that nobody touched since: its marker
has them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from extender.loader.disk import regular_file
from extender.loader.layout import NOT_OF_MODELS
from extender.loader.proof.marker import MarkerError, UnreadableMarkerError, read_marker
from extender.loader.proof.unfinished import unfinished_files
from extender.loader.proof.verdict import ProvenFile
from extender.loader.sources import (
    RESERVED,
    Cause,
    Listing,
    RemoteFile,
    SourceError,
    as_text,
)
from extender.loader.sources.patterns import chosen, is_listed, is_wanted
from extender.loader.sources.urls import Location
from extender.loader.stored import models_of_cache

BLOCK_BYTES = 1024 * 1024

_SHA256, _GIT_OID = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{40}")
_NOT_OF_THE_MODEL = NOT_OF_MODELS | {".cache"}
"""And what ``hf download --local-dir`` keeps beside the files."""


class LocalSource:
    """One directory; see ``sources.Source``."""

    def __init__(
        self, location: Location, *, include: Sequence[str], exclude: Sequence[str]
    ) -> None:
        self._url = location.url
        self._place = Path(location.place)
        self._include, self._exclude = include, exclude

    def list(self) -> Listing:
        """Walk the directory, or the snapshot that its ``refs`` point to."""
        root, inside = self._root()
        if not root.is_dir():
            raise self._error("", "is not a directory; correct it, or mount it", Cause.NOT_FOUND)
        proven = self._proven(root)
        try:
            self._expect_one(root)
            paths = list(_walk(root))
            if not proven:
                self._expect_finished(root, paths)
            files = list(self._files(root, paths, inside.resolve(), proven))
        except OSError as error:
            raise self._os_error("", error) from error
        self._expect_proven(proven, files)
        choice = chosen(files, source=self._url, include=self._include, exclude=self._exclude)
        return Listing(
            source=self._url,
            revision=root.name if _GIT_OID.fullmatch(root.name) else None,
            files=choice.files,
            left_out=choice.left_out,
            vouched=bool(proven),
        )

    @contextmanager
    def open(self, file: RemoteFile, start: int, end: int | None) -> Iterator[Iterator[bytes]]:
        """Read a range of a file; one with another size or time by now is refused."""
        root, _ = self._root()
        try:
            descriptor = regular_file(root / file.path)
        except OSError as error:
            raise self._os_error(f"{file.path}: ", error) from error
        try:
            if file.version and _version(os.fstat(descriptor)) != file.version:
                raise self._error(
                    f"{file.path}: ", "was replaced since it was listed", Cause.CHANGED
                )
            yield self._blocks(descriptor, file, start, end)
        finally:
            os.close(descriptor)

    def _blocks(
        self, descriptor: int, file: RemoteFile, start: int, end: int | None
    ) -> Iterator[bytes]:
        at = start
        while end is None or at < end:
            wanted = BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - at)
            try:
                block = os.pread(descriptor, wanted, at)
            except OSError as error:
                raise self._os_error(f"{file.path}: ", error) from error
            if not block:
                return
            at += len(block)
            yield block

    def _root(self) -> tuple[Path, Path]:
        """Return the directory of the files, and the one that their links may point into."""
        place = self._place
        snapshots = place / "snapshots"
        if not snapshots.is_dir():
            in_snapshots = place.parent.name == "snapshots"
            return place, place.parent.parent if in_snapshots else place
        try:
            named = (place / "refs" / "main").read_text(encoding="ascii").strip()
            return snapshots / named, place
        except (OSError, ValueError):
            held = sorted(snapshots.iterdir())
        if len(held) != 1:
            raise self._error(
                "",
                f"has {len(held)} snapshots and no refs/main; name one of them in the address",
                Cause.INVALID,
            )
        return held[0], place

    def _proven(self, root: Path) -> dict[str, ProvenFile]:
        """Return what was proven here, whatever the files hold by now."""
        try:
            marker = read_marker(root)
        except UnreadableMarkerError as error:
            raise self._os_error("", error.because) from error
        except MarkerError:
            return {}
        if marker is not None and marker.damaged:
            raise self._error("", "has damaged files that are being mended", Cause.UNREACHABLE)
        return {file.path: file for file in marker.files} if marker else {}

    def _expect_one(self, root: Path) -> None:
        """Refuse a cache of models: together they would look like one."""
        held = [each.path for each in models_of_cache(root)]
        if held:
            some = ", ".join(held[:3]) + ", ..." * (len(held) > 3)
            problem = f"holds models ({some}) and is none itself; name one of them in the address"
            raise self._error("", problem, Cause.INVALID)

    def _expect_finished(self, root: Path, paths: Sequence[str]) -> None:
        """Refuse what somebody else's download has not ended in: the small files come first."""
        unfinished = unfinished_files(root, paths)
        if unfinished:
            more = f" (and {len(unfinished) - 1} more)" if len(unfinished) > 1 else ""
            raise self._error(
                f"{as_text(unfinished[0])}{more}: ",
                "a download that has not ended; wait for it, or remove what it left",
                Cause.UNREACHABLE,
            )

    def _expect_proven(self, proven: Mapping[str, ProvenFile], files: Iterable[RemoteFile]) -> None:
        """Refuse a model of which a file has gone since it was proven here."""
        gone = sorted(
            path
            for path in proven.keys() - {file.path for file in files}
            if is_wanted(path, include=self._include, exclude=self._exclude)
            and _NOT_OF_THE_MODEL.isdisjoint(path.split("/"))
        )
        if gone:
            raise self._error(
                f"{gone[0]}: ", "was proven here and is not there; put it back", Cause.UNREACHABLE
            )

    def _files(
        self, root: Path, paths: Iterable[str], inside: Path, proven: Mapping[str, ProvenFile]
    ) -> Iterator[RemoteFile]:
        for path in paths:
            if not _NOT_OF_THE_MODEL.isdisjoint(path.split("/")[:-1]) or not is_listed(
                path, source=self._url, include=self._include, exclude=self._exclude
            ):
                continue
            try:
                yield self._file(root, path, inside, proven.get(path))
            except SourceError:
                if is_wanted(path, include=self._include, exclude=self._exclude):
                    raise

    def _file(self, root: Path, path: str, inside: Path, proven: ProvenFile | None) -> RemoteFile:
        try:
            target = Path(os.path.realpath(root / path))  # resolve() has another error for loops
            status = target.stat()
        except OSError as error:
            raise self._os_error(f"{path}: ", error) from error
        if not target.is_relative_to(inside):
            raise self._error(f"{path}: ", "is a link that leads out; exclude it", Cause.INVALID)
        if not stat.S_ISREG(status.st_mode):
            raise self._error(
                f"{path}: ", "is no regular file; remove it, or exclude it", Cause.INVALID
            )
        return RemoteFile(
            path=path,
            size=status.st_size,
            sha256=target.name if _is_blob(target, _SHA256) else _still_proven(proven, status),
            git_oid=target.name if _is_blob(target, _GIT_OID) else None,
            version=_version(status),
        )

    def _os_error(self, path: str, error: OSError) -> SourceError:
        if isinstance(error, FileNotFoundError):
            return self._error(path, "does not exist", Cause.NOT_FOUND)
        if isinstance(error, PermissionError):
            return self._error(path, "may not be read by this user", Cause.UNAUTHORIZED)
        return self._error(path, f"cannot be read: {error.strerror}", Cause.UNREACHABLE)

    def _error(self, path: str, problem: str, cause: Cause) -> SourceError:
        return SourceError(f"source {self._url}: {path}{problem}", cause=cause)


def _walk(root: Path) -> Iterator[str]:
    """Yield what is no directory by its path: files of the model, and what tools keep of them."""
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = [f for f in folders if f not in NOT_OF_MODELS and not f.startswith(RESERVED)]
        below = Path(folder).relative_to(root)
        yield from ((below / name).as_posix() for name in names)


def _is_blob(target: Path, names: re.Pattern[str]) -> bool:
    return target.parent.name == "blobs" and names.fullmatch(target.name) is not None


def _still_proven(file: ProvenFile | None, status: os.stat_result) -> str | None:
    """Return the hash that was proven of a file, unless another one was put in its place."""
    if file is None or (file.size, file.mtime_ns) != (status.st_size, status.st_mtime_ns):
        return None
    return file.sha256 or None


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"


def _raise(error: OSError) -> None:
    raise error
