"""The file system of the cache: how much is free, and how fast it reads.

Reads are measured past the page cache (O_DIRECT) where the file system has that: a pod that loads
a model for the first time reads from the disk, and that is what its start depends on.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from extender.loader.disk import libc
from extender.loader.space import FileSystem
from extender.report import Disk

SAMPLE_BYTES = 256 * 1024 * 1024
"""Enough to be no matter of one seek; a quarter of a second on a disk of 1 GB/s."""

_BLOCK = 4 * 1024 * 1024
_STATFS_BYTES = 512
"""More than a ``struct statfs`` has on any machine."""

_TYPES = {
    0xEF53: "ext4",  # and its forerunners
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x01021994: "tmpfs",
    0x794C7630: "overlayfs",
    0x2FC12FC1: "zfs",
    0x6969: "nfs",
    0xFE534D42: "smb",
    0x00C36400: "ceph",
    0x65735546: "fuse",
    0x0BD00BD0: "lustre",
}
"""linux/magic.h, and statfs(2) for those that are not part of the kernel."""


def is_writable(directory: Path) -> bool:
    """Whether this user may write below a directory, as far as can be told without doing so."""
    try:
        read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
    except OSError:
        return True  # it is not there yet: who makes it finds out
    return not read_only and os.access(directory, os.W_OK)


def file_system(
    directory: Path, *, statvfs: Callable[[Path], os.statvfs_result] = os.statvfs
) -> FileSystem:
    """Return the size and the free bytes of a directory's file system. Raises OSError.

    All that looks at the disk's space looks here: what is kept for root alone is neither used nor
    to be had, so it does not count as there.
    """
    status = statvfs(directory)
    reserved = status.f_bfree - status.f_bavail
    return FileSystem(
        total=(status.f_blocks - reserved) * status.f_frsize,
        free=status.f_bavail * status.f_frsize,
    )


def disk_space(directory: Path, read_speed: float | None = None) -> Disk | None:
    """Return the same for a report; None where it cannot be told."""
    try:
        disk = file_system(directory)
    except OSError:
        return None
    return Disk(free_bytes=disk.free, total_bytes=disk.total, read_bytes_per_second=read_speed)


def is_memory(directory: Path) -> bool:
    """Tell whether a directory lies in memory (tmpfs), as a memory-backed emptyDir does."""
    return file_system_type(directory) == "tmpfs"


def file_system_type(path: Path) -> str:
    """Return what kind of file system a path lies on; empty where it cannot be told.

    By the number that statfs(2) gives, which is the same in every subvolume and mount namespace:
    https://man7.org/linux/man-pages/man2/statfs.2.html. One that is not known here is told as it is
    (``0x6969``).
    """
    told = ctypes.create_string_buffer(_STATFS_BYTES)
    if libc.statfs(os.fsencode(path), told) != 0:
        return ""
    number = ctypes.c_ulong.from_buffer(told).value & 0xFFFFFFFF  # f_type is the first field
    return _TYPES.get(number, f"0x{number:x}")


def read_speed(
    file: Path, *, sample: int = SAMPLE_BYTES, clock: Callable[[], float] = perf_counter
) -> float | None:
    """Read the beginning of a file past the page cache; return bytes per second.

    None where it is too small to tell, or cannot be read in that way (tmpfs has no O_DIRECT).
    """
    try:
        if file.stat().st_size < 2 * _BLOCK:
            return None
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return None
    try:
        with mmap.mmap(-1, _BLOCK) as buffer:  # O_DIRECT wants memory aligned to pages
            done, began = 0, clock()
            while done < sample:
                got = os.preadv(descriptor, [buffer], done)
                done += got
                if got < _BLOCK:
                    break
            seconds = clock() - began
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return done / seconds if done and seconds > 0 else None
