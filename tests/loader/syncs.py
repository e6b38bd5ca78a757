"""What a process has brought to the disk, noted from its system calls and from nothing of ours.

The journal of a download claims to know it, too, so it cannot be its own witness. A thread syncs
what it wrote itself as one part and tells the journal after that: of each thread the last part may
have been killed in between, and is not held against anybody.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec

from extender.loader.transfer.journal import Ranges, merged


class Synced(msgspec.Struct, frozen=True, array_like=True):
    """Bytes ``start`` to ``end`` of a file, by one thread of one process; 0 to 0: begun anew."""

    by: str
    path: str
    inode: int
    start: int
    end: int


_synced = msgspec.json.Decoder(Synced)


class Syncs:
    """A file that outlives the processes which write to it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def note(self) -> None:
        """Note from now on what this process writes, syncs, and begins anew."""
        log = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        own, numbers = threading.local(), itertools.count()
        write, sync, begin = os.pwrite, os.fdatasync, os.open

        def told(path: str, inode: int, start: int, end: int) -> None:
            if not hasattr(own, "number"):
                own.number = f"{os.getpid()}.{next(numbers)}"
            line = msgspec.json.encode(Synced(own.number, path, inode, start, end))
            os.write(log, line + b"\n")

        def written() -> defaultdict[int, list[tuple[int, int]]]:
            if not hasattr(own, "written"):
                own.written = defaultdict(list)
            found: defaultdict[int, list[tuple[int, int]]] = own.written
            return found

        def pwrite(descriptor: int, data: bytes, at: int) -> int:
            count = write(descriptor, data, at)
            written()[os.fstat(descriptor).st_ino].append((at, at + count))
            return count

        def fdatasync(descriptor: int) -> None:
            sync(descriptor)
            inode = os.fstat(descriptor).st_ino
            for start, end in merged(written().pop(inode, [])):
                told(str(Path(f"/proc/self/fd/{descriptor}").readlink()), inode, start, end)

        def opened(path: str, flags: int, *more: int, **how: int) -> int:
            descriptor = begin(path, flags, *more, **how)
            if flags & os.O_EXCL:
                told(os.fspath(path), 0, 0, 0)
            return descriptor

        os.pwrite, os.fdatasync, os.open = pwrite, fdatasync, opened  # type: ignore[assignment]

    def safe(self) -> dict[tuple[Path, int], Ranges]:
        """Return by path and inode what every journal must know of, and nobody fetch again."""
        found: dict[tuple[Path, int], list[tuple[int, int]]] = defaultdict(list)
        for each in self._but_the_last():
            if each.end:
                found[Path(each.path), each.inode].append((each.start, each.end))
            else:
                found = defaultdict(
                    list, {key: at for key, at in found.items() if key[0] != Path(each.path)}
                )
        return {key: merged(ranges) for key, ranges in found.items()}

    def _but_the_last(self) -> Iterator[Synced]:
        noted = self._all()
        last = {each.by: at for at, each in enumerate(noted) if each.end}
        return (each for at, each in enumerate(noted) if last.get(each.by) != at)

    def _all(self) -> list[Synced]:
        if not self._file.exists():
            return []
        lines = self._file.read_bytes().split(b"\n")[:-1]
        return [_synced.decode(line) for line in lines]


def covers(ranges: Ranges, others: Ranges) -> bool:
    """Tell whether all bytes of ``others`` are among ``ranges``."""
    return merged((*ranges, *others)) == merged(ranges)


def overlap(ranges: Ranges, start: int, end: int) -> int:
    """Return how many of the bytes from ``start`` to ``end`` are among ``ranges``."""
    return sum(max(0, min(b, end) - max(a, start)) for a, b in ranges)
