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
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from extender.errors import ExtenderError
from extender.loader.disk import regular_file

CHUNK_BYTES = 4 * 1024 * 1024
"""A multiple of every block size that O_DIRECT may ask for; large enough to keep a disk busy."""


class ReadingStoppedError(ExtenderError):
    """Somebody asked for an end while a file was read."""


class Digests(msgspec.Struct, frozen=True):
    """Of one whole file, in hex: SHA-256, and the id that git gives its bytes."""

    sha256: str
    git_oid: str
    bytes: int


class Reader:
    """Reads files one after another, at ``bytes_per_second`` over all of them (None: no bound).

    ``around_cache`` leaves the page cache as it is. ``stop`` is asked before every chunk.
    """

    def __init__(
        self,
        *,
        bytes_per_second: float | None = None,
        around_cache: bool = False,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._around_cache = around_cache
        self._stop = stop
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def digests(self, path: Path) -> Digests:
        """Read a file to its end. Raises OSError, or ReadingStoppedError where ``stop`` says so."""
        descriptor, direct = self._open(path)
        buffer = mmap.mmap(-1, CHUNK_BYTES)  # O_DIRECT wants memory that is aligned to a page
        try:
            size = os.fstat(descriptor).st_size
            sha256 = hashlib.sha256()
            git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
            at = 0
            for count in self._counts(descriptor, buffer, direct=direct):
                with memoryview(buffer)[:count] as part:
                    sha256.update(part)
                    git.update(part)
                at += count
        finally:
            buffer.close()
            os.close(descriptor)
        return Digests(sha256.hexdigest(), git.hexdigest(), at)

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
            self._wait(count)

    def _wait(self, count: int) -> None:
        """Sleep until the bytes read so far are within the rate; time lost is not made up for."""
        if self._rate is None:
            return
        now = self._clock()
        self._due = max(self._due, now - 1.0) + count / self._rate
        if self._due > now:
            self._sleep(self._due - now)
