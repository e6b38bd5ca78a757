"""The file system of the cache: how much is free, and how fast it reads.

Reads are measured past the page cache (O_DIRECT) where the file system has that: a pod that loads
a model for the first time reads from the disk, and that is what its start depends on.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from extender.loader.space import FileSystem
from extender.report import Disk

SAMPLE_BYTES = 256 * 1024 * 1024
"""Enough to be no matter of one seek; a quarter of a second on a disk of 1 GB/s."""

_BLOCK = 4 * 1024 * 1024


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

    Field 3 of a mount's line is its device, and its type follows the dash:
    https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    try:
        device = path.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    return next(
        (mount.partition(" - ")[2].split()[0] for mount in mounts if mount.split()[2] == number), ""
    )


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
