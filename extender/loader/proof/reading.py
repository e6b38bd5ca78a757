"""Every byte of a file, at a bounded rate, without pushing other files out of the page cache.

Proof before publication reads through the page cache: the bytes were written a moment ago, and the
pod that waits for them will read them next. Reading again later is different. It must see what the
disk holds, not what memory still has of it, and a serving pod's warm pages must stay: so it goes
around the cache (O_DIRECT), and where a file system has no such thing, gives each range back as
soon as it was read.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from extender.errors import ExtenderError
from extender.loader.disk import regular_file
from extender.loader.transfer.limits import Limits

CHUNK_BYTES = 4 * 1024 * 1024
"""A multiple of every block size that O_DIRECT may ask for; large enough to keep a disk busy."""

_MOST_FILES = 4


class ReadingStoppedError(ExtenderError):
    """Somebody asked for an end while a file was read."""


class Digests(msgspec.Struct, frozen=True):
    """Of one whole file, in hex: SHA-256, and where it was asked for git's id of its bytes."""

    sha256: str
    git_oid: str
    bytes: int


class Reader:
    """Reads files within the bandwidth of ``limits``.

    ``around_cache`` leaves the page cache as it is. ``stop`` is asked before every chunk.
    ``files_at_once`` is how many callers may read side by side: one core hashes more slowly than a
    good disk reads, but what goes around the cache shall leave the disk to others.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        around_cache: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._limits = limits or Limits()
        self._around_cache = around_cache
        self._stop = stop
        self.files_at_once = 1 if around_cache else min(_MOST_FILES, os.cpu_count() or 1)

    def around(self) -> Reader:
        """Return one that sees what the disk holds, within the same bounds."""
        return Reader(limits=self._limits, around_cache=True, stop=self._stop)

    def digests(self, path: Path, *, git: bool = False) -> Digests:
        """Read a file to its end. Raises OSError, or ReadingStoppedError where ``stop`` says so."""
        descriptor, direct = self._open(path)
        buffer = mmap.mmap(-1, CHUNK_BYTES)  # O_DIRECT wants memory that is aligned to a page
        try:
            size = os.fstat(descriptor).st_size
            sha256 = hashlib.sha256()
            oid = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git else None
            at = 0
            for count in self._counts(descriptor, buffer, direct=direct):
                with memoryview(buffer)[:count] as part:
                    sha256.update(part)
                    if oid is not None:
                        oid.update(part)
                at += count
        finally:
            buffer.close()
            os.close(descriptor)
        return Digests(sha256.hexdigest(), oid.hexdigest() if oid else "", at)

    def _open(self, path: Path) -> tuple[int, bool]:
        if self._around_cache:
            try:
                return regular_file(path, os.O_DIRECT), True
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        return regular_file(path), False

    def _counts(self, descriptor: int, buffer: mmap.mmap, *, direct: bool) -> Iterator[int]:
        """Fill the buffer again and again; yield how much of it is filled."""
        at = 0
        while True:
            if self._stop():
                raise ReadingStoppedError("reading was stopped")
            count = os.preadv(descriptor, [buffer], at)
            if count == 0:
                return
            yield count
            if self._around_cache and not direct:
                os.posix_fadvise(descriptor, at, count, os.POSIX_FADV_DONTNEED)
            at += count
            self._limits.take(count, self._stop)
