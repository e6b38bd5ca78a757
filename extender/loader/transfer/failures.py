"""Why a download ended without its files."""

from __future__ import annotations

import errno
from enum import StrEnum

from extender.errors import ExtenderError
from extender.loader.sources import Cause, SourceError


class LocalCause(StrEnum):
    """What on this side stopped a download; beside ``sources.Cause`` for the other side."""

    NO_SPACE = "no-space"
    READ_ONLY = "read-only"
    DENIED = "denied"
    DISK = "disk"
    STOPPED = "stopped"


_CAUSES = {
    errno.ENOSPC: (LocalCause.NO_SPACE, "the disk is full; free space on it"),
    errno.EDQUOT: (LocalCause.NO_SPACE, "the quota is used up; raise it"),
    errno.EROFS: (LocalCause.READ_ONLY, "the file system is read-only; mount it for writing"),
    errno.EACCES: (LocalCause.DENIED, "this user may not write there; change owner or mode"),
    errno.EPERM: (LocalCause.DENIED, "this user may not write there; change owner or mode"),
}


class TransferError(ExtenderError):
    """A download that did not finish; what was written stays, to go on from.

    ``cause`` is a token for metrics. ``permanent``: the same call cannot succeed before somebody
    changes something. ``retry_after``: seconds for which the source asked to be left alone, last.
    """

    def __init__(
        self,
        message: str,
        *,
        cause: Cause | LocalCause,
        permanent: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.permanent = permanent
        self.retry_after = retry_after

    @classmethod
    def of_source(cls, error: SourceError, tries: int) -> TransferError:
        """Return what the last of ``tries`` failures means for the download."""
        told = f"{error} (tried {tries} times)" if tries > 1 else str(error)
        return cls(
            told, cause=error.cause, permanent=error.permanent, retry_after=error.retry_after
        )

    @classmethod
    def of_disk(cls, path: object, error: OSError) -> TransferError:
        """Say what the file system refused."""
        cause, remedy = _CAUSES.get(error.errno or 0, (LocalCause.DISK, "look at the disk"))
        return cls(f"{path}: {error.strerror or error}; {remedy}", cause=cause)
