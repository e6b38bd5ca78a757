"""What of which file is on the disk for good, as it survives a kill or a power cut.

One line of JSON for each range, appended after the range's bytes have been synced, and synced
itself. So a line is never ahead of the bytes; a line that was cut short is skipped. A line counts
for the very file it was written for: same content in the listing, same inode on the disk.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

Ranges = tuple[tuple[int, int], ...]
"""Ordered, apart from each other; ends are exclusive."""


UNFINISHED = "+new"
"""At the end of its name, a journal that is written anew: under no name that a model's can have."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Bytes ``start`` to ``end`` (exclusive) of the file with this content and inode.

    Bytes 0 to 0: what came before of this file does not count any more.
    """

    path: str
    content: str
    inode: int
    start: int
    end: int


_entry = msgspec.json.Decoder(Entry)


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the union of ranges."""
    union: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        elif end > start:
            union.append((start, end))
    return tuple(union)


def gaps(ranges: Ranges, size: int) -> Ranges:
    """Return what of ``0`` to ``size`` no range covers."""
    edges = [0, *(edge for pair in ranges for edge in pair), size]
    return tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)


class Journal:
    """The journal of one directory. One process at a time; ``add`` may be called by any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor = -1

    def read(self) -> dict[tuple[str, str, int], Ranges]:
        """Return the ranges by path, content and inode; nothing where there is no journal."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        found: dict[tuple[str, str, int], list[tuple[int, int]]] = {}
        for line in lines:
            try:
                entry = _entry.decode(line)
            except (msgspec.DecodeError, UnicodeError):
                continue
            key = entry.path, entry.content, entry.inode
            if entry.end == 0:
                found.pop(key, None)
            else:
                found.setdefault(key, []).append((entry.start, entry.end))
        return {key: merged(ranges) for key, ranges in found.items()}

    def begin(self, entries: Iterable[Entry]) -> None:
        """Write the journal anew with these entries, and keep it open. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}{UNFINISHED}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(fresh, flags, 0o600)
        self._append(b"".join(_line(entry) for entry in entries))
        fresh.replace(self._path)
        sync_directory(self._path.parent)

    def add(self, entry: Entry) -> None:
        """Append an entry whose bytes are synced. Raises OSError. Nothing once it is closed."""
        with self._lock:
            if self._descriptor >= 0:
                self._append(_line(entry))

    def close(self) -> None:
        """Take no more entries."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _append(self, text: bytes) -> None:
        write_all(self._descriptor, text, None)
        os.fdatasync(self._descriptor)


def _line(entry: Entry) -> bytes:
    # A line that was cut short by a full disk must not swallow the next one.
    return b"\n" + msgspec.json.encode(entry) + b"\n"


def write_all(descriptor: int, data: bytes | memoryview, at: int | None) -> None:
    """Write all of it, at an offset or (None) at the descriptor's own. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view) if at is None else os.pwrite(descriptor, view, at)
        view = view[written:]
        at = None if at is None else at + written


def sync_directory(path: Path) -> None:
    """Bring a directory's entries to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
