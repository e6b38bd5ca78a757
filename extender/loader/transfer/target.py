"""One file while it is written: its bytes, what of them is safe, and when it is whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from extender.loader.sources import RemoteFile
from extender.loader.transfer.journal import Entry, Journal, Ranges, gaps, merged, write_all


class Superseded(Exception):  # noqa: N818 - a signal between threads, no error
    """The file was begun anew, or let go of, while a thread was still reading for it."""


class Target:
    """A file of a listing on this disk. Every method but ``reset`` may be called by any thread.

    ``generation`` counts how often it was begun anew: who reads for an older one writes nothing.
    ``streamed``: it can only be had in one go, from its first byte to its last.
    """

    def __init__(self, file: RemoteFile, path: Path, journal: Journal) -> None:
        self.file = file
        self.path = path
        self.size = file.size
        self.streamed = file.size is None
        self.generation = 0
        self.received = 0
        self._journal = journal
        self._inode = 0
        self._safe: Ranges = ()
        self._unsafe_bytes = 0
        self._descriptor = -1
        self._lock = threading.Lock()

    @property
    def content(self) -> str:
        """What tells this content from another one; empty: nothing does."""
        known = self.file.sha256 or self.file.git_oid or self.file.version
        return f"{known} {self.size}" if known and self.size is not None else ""

    @property
    def safe_bytes(self) -> int:
        """How many bytes are on the disk for good."""
        return sum(end - start for start, end in self._safe)

    @property
    def done_bytes(self) -> int:
        """How many bytes are there, safe or not."""
        return self.safe_bytes + self._unsafe_bytes

    @property
    def missing(self) -> Ranges:
        """What is not; the whole file where its size is not known."""
        return gaps(self._safe, self.size) if self.size is not None else ((0, 0),)

    @property
    def whole(self) -> bool:
        """Whether every byte is on the disk for good."""
        return self.size is not None and not self.missing

    def resume(
        self, held: dict[tuple[str, str, int], Ranges], at_hand: Path | None = None
    ) -> tuple[Entry, ...]:
        """Take up what an earlier run left, or begin with an empty file; return what is safe.

        ``at_hand``: where on this file system the whole file lies already. Raises OSError.
        """
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            status = None
        if status is not None:
            safe = held.get((self.file.path, self.content, status.st_ino), ())
            # Fewer bytes than were synced: it is not the file that the journal tells of.
            if self.content and safe and safe[-1][1] <= status.st_size and self._fits(status):
                self._safe, self._inode = safe, status.st_ino
                return tuple(self._entry(start, end) for start, end in safe)
            if at_hand == self.path and status.st_size == self.size:
                return self._is_whole(status)
            self.path.unlink()
        if at_hand is not None and self._linked(at_hand):
            return self._is_whole(self.path.lstat())
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o644)
        self._inode = os.fstat(descriptor).st_ino
        os.close(descriptor)
        return ()

    def _linked(self, at_hand: Path) -> bool:
        """Have the same file under this name too; False where that cannot be had."""
        if not self.content or not self.size:
            return False
        try:
            os.link(at_hand, self.path, follow_symlinks=False)
        except OSError:  # no links here, or the file has gone: fetched like any other
            return False
        if self.path.lstat().st_size == self.size:
            return True
        self.path.unlink()
        return False

    def _is_whole(self, status: os.stat_result) -> tuple[Entry, ...]:
        self._safe, self._inode = merged([(0, status.st_size)]), status.st_ino
        return tuple(self._entry(start, end) for start, end in self._safe)

    def write(self, data: bytes, at: int, generation: int) -> None:
        """Write bytes. Raises Superseded, OSError."""
        with self._lock:
            if generation != self.generation:
                raise Superseded
            write_all(self._open(), data, at)
            self._unsafe_bytes += len(data)
            self.received += len(data)

    def lose(self, count: int) -> None:
        """Count bytes that were written and will be written again."""
        with self._lock:
            self._unsafe_bytes -= min(count, self._unsafe_bytes)

    def sync(self, start: int, end: int, generation: int) -> None:
        """Bring written bytes to the disk and say so in the journal. Raises Superseded, OSError."""
        with self._lock:
            if generation != self.generation:
                raise Superseded
            descriptor = os.dup(self._open())
        try:
            os.fdatasync(descriptor)  # others may write meanwhile
        finally:
            os.close(descriptor)
        with self._lock:
            if generation != self.generation:
                raise Superseded
            self._journal.add(self._entry(start, end))
            self._safe = merged((*self._safe, (start, end)))
            self._unsafe_bytes -= min(end - start, self._unsafe_bytes)
            if self.whole:
                self._close()

    def finish(self, size: int, generation: int) -> None:
        """Take the size that a stream turned out to have. Raises Superseded, OSError."""
        with self._lock:
            if generation != self.generation:
                raise Superseded
            os.ftruncate(self._open(), size)
            self.size = size
        if size:
            self.sync(0, size, generation)

    def reset(self) -> None:
        """Begin anew: nothing of what is there counts. Raises OSError."""
        with self._lock:
            self.generation += 1
            self._close()
            self._safe = ()
            self._unsafe_bytes = 0
            # The next file may get the inode of this one: what was safe of it must not count.
            self._journal.add(self._entry(0, 0))
            self.path.unlink(missing_ok=True)
            self.size = self.file.size
        self.resume({})

    def release(self) -> None:
        """Let nobody write any more."""
        with self._lock:
            self.generation += 1
            self._close()

    def _open(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _fits(self, status: os.stat_result) -> bool:
        return self.size is None or status.st_size <= self.size

    def _entry(self, start: int, end: int) -> Entry:
        return Entry(self.file.path, self.content, self._inode, start, end)
