"""The few things that are done to a file system to make or remove a model, each durable by itself.

They stand in one place for two reasons: every one of them needs a thought about what a crash right
after it leaves behind, and a test can let each of them be the last thing that a process did.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from pathlib import Path

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # fcntl.h
_NOT_OFFERED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
"""What the kernel says where it, the file system (NFS, FUSE) or a sandbox does not have a call."""

libc = ctypes.CDLL(None, use_errno=True)


class Disk:
    """Changes to a file system. Every method raises OSError with the path in it."""

    def sync_file(self, path: Path) -> None:
        """Bring a file's bytes to the disk."""
        _sync(regular_file(path))

    def sync_directory(self, path: Path) -> None:
        """Bring a directory's entries to the disk: without it a rename may be lost.

        File systems of FUSE may have no such thing (EINVAL); they are as safe as they are then.
        """
        try:
            _sync(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise

    def make_directory(self, path: Path) -> None:
        """Make one directory whose parent exists; that it is there already is no error."""
        try:
            path.mkdir()
        except FileExistsError:
            if not path.is_dir():
                raise
            return
        self.sync_directory(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, replacing a file or an empty directory in one step."""
        source.rename(target)

    def exchange(self, one: Path, other: Path) -> bool:
        """Let two paths swap what they name in one step; False where that cannot be had."""
        renameat2 = getattr(libc, "renameat2", None)
        if renameat2 is None:
            return False
        done = renameat2(
            _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
        )
        if done == 0:
            return True
        code = ctypes.get_errno()
        if code in _NOT_OFFERED:
            return False
        raise OSError(code, os.strerror(code), str(one), None, str(other))

    def write(self, path: Path, data: bytes) -> None:
        """Write a file so that a crash leaves the old one or the new one, whole."""
        beside = path.with_name(path.name + ".new")
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.rename(beside, path)
        self.sync_directory(path.parent)

    def unlink(self, path: Path) -> None:
        """Remove a file or a link; that it is gone already is no error."""
        path.unlink(missing_ok=True)

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory; that it is gone already is no error."""
        try:
            path.rmdir()
        except FileNotFoundError:
            return

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all below it (or one file), following no link."""
        if not path.is_dir() or path.is_symlink():
            self.unlink(path)
            return
        for parent, directories, files in os.walk(path, topdown=False):
            for name in files:
                self.unlink(Path(parent, name))
            for name in directories:
                below = Path(parent, name)
                if below.is_symlink():
                    self.unlink(below)
                else:
                    self.remove_directory(below)
        self.remove_directory(path)


def regular_file(path: Path, flags: int = 0) -> int:
    """Open a regular file for reading and return its descriptor.

    Raises OSError, also for what is no regular file: opening a pipe would wait for its writer.
    Somebody's write lease (an NFS server's delegation) is waited for: the kernel has it given back
    within /proc/sys/fs/lease-break-time seconds.
    """
    flags |= os.O_RDONLY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)
    except BlockingIOError:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - beside the other calls of os
            raise
        descriptor = os.open(path, flags)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
