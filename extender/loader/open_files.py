"""Who reads a model on this machine, as the kernel tells: for ``loader fill``, which asks no API.

A write lease is granted only on a file that nobody else has open or mapped, in whatever container
(https://man7.org/linux/man-pages/man2/F_SETLEASE.2const.html); it is given back at once. There are
three answers: somebody reads, nobody does, or it cannot be told. Who reads a claim on another node
no kernel knows, and a network file system answers with what its server has delegated; and a lease
is for the file's owner and root alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from extender.errors import CacheError
from extender.loader.disk import regular_file
from extender.loader.disk_space import file_system_type
from extender.loader.layout import CacheDirectory
from extender.loader.placing import InUse
from extender.loader.proof.marker import MarkerError, read_marker
from extender.loader.proof.scan import walk_files
from extender.loader.sources import RESERVED

_WITH_LEASES = frozenset({"ext4", "xfs", "btrfs", "f2fs", "bcachefs", "zfs", "tmpfs", "overlayfs"})
"""All that read them are on this machine, and the kernel's answer is about them."""


class UntoldError(CacheError):
    """It cannot be told whether somebody has a file open; the message says why."""


class OpenFiles:
    """Asks the kernel; see ``placing.Uses``. ``replaced``: the operator wants it all the same."""

    def __init__(self, cache: CacheDirectory, *, replaced: bool) -> None:
        self._cache = cache
        self._replaced = replaced

    def __call__(self, path: str) -> InUse:
        """Return a reader of the model, if there is one on this machine, or why none is known."""
        final = self._cache.final(path)
        readers, untold = {}, ""
        for name in _files(final):
            try:
                if is_open(final / name):
                    readers = {"": f"a process on this machine has {name} open"}
                    break
            except UntoldError as error:
                untold = untold or str(error)
        return InUse(
            pods=readers,
            replaced=self._replaced,
            by_pod=False,
            untold="" if readers else untold,
            remedy="give --replace-in-use",
        )


def is_open(file: Path) -> bool:
    """Tell whether somebody has a file open or mapped on this machine.

    One that is not there is not open. Raises UntoldError.
    """
    try:
        descriptor = regular_file(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UntoldError(f"{file.name} cannot be opened: {error.strerror or error}") from error
    kind = file_system_type(file)
    try:
        if kind not in _WITH_LEASES:
            raise UntoldError(f"its file system ({kind or 'unknown'}) does not tell of all readers")

        # Who opens it in this very moment has this process told: with SIGIO, which would end it.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return True
        why = (
            "the kernel tells it a file's owner and root alone"
            if error.errno in {errno.EACCES, errno.EPERM}
            else error.strerror or str(error)
        )
        raise UntoldError(f"{file.name}: {why}") from error
    finally:
        os.close(descriptor)
    return False


def _files(final: Path) -> Iterable[str]:
    try:
        marker = read_marker(final)
    except MarkerError:
        marker = None
    if marker is not None:
        return [file.path for file in marker.files]
    return [name for name in walk_files(final) if not name.startswith(RESERVED)]
