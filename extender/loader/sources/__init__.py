"""Where models come from: one protocol over the hub, object stores, web servers and directories.

A source lists its files and reads ranges of them, and nothing else: whatever answers these two
questions can be one, also another node's loader. How often a read is tried again, how fast and how
many at once is not its business but that of ``extender.loader.transfer``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Protocol

import msgspec

from extender.errors import ExtenderError

RESERVED = ".modelcache"
"""Names that begin so are the loader's own: no file of a model may have one."""


class Part(StrEnum):
    """What a model has beside what it names itself, unless it is meant to have none."""

    WEIGHTS = "weights"
    CONFIG = "config"
    TOKENIZER = "tokenizer"


ANY_PART = frozenset(Part)


class Cause(StrEnum):
    """Why a source did not give what was asked of it."""

    NOT_FOUND = "not-found"
    GATED = "gated"
    UNAUTHORIZED = "unauthorized"
    THROTTLED = "throttled"
    UNREACHABLE = "unreachable"
    SERVER = "server"
    CHANGED = "changed"
    NO_RANGES = "no-ranges"
    INVALID = "invalid"


TRANSIENT = frozenset({Cause.THROTTLED, Cause.UNREACHABLE, Cause.SERVER})


class SourceError(ExtenderError):
    """What a source could not do; the message names the source, what is wrong and the remedy.

    ``permanent``: trying again the same way cannot help. ``retry_after``: seconds to wait before
    the next try, where the server said so.
    """

    def __init__(
        self,
        message: str,
        *,
        cause: Cause,
        retry_after: float | None = None,
        permanent: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.retry_after = retry_after
        self.permanent = cause not in TRANSIENT if permanent is None else permanent


def is_text(path: str) -> bool:
    """Tell whether a path can be written down: one of a file system may hold any bytes."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def as_text(path: str) -> str:
    """Return a path as it can be shown and written down."""
    return os.fsencode(path).decode(errors="backslashreplace")


def path_problem(path: str) -> str | None:
    """Say what is wrong with a relative path inside a model or a cache; None: nothing."""
    parts = path.split("/")
    if not is_text(path):
        return "is not UTF-8; rename it"
    if not path or path.startswith("/"):
        return "is not relative"
    if "\\" in path or "\0" in path or any(part in {"", ".", ".."} for part in parts):
        return "is not a plain path (no empty, . or .. component, no backslash)"
    if any(part.startswith(RESERVED) for part in parts):
        return f"has a component that begins with {RESERVED}, which is the loader's own"
    if any(len(part.encode()) > 255 for part in parts) or len(path) > 1024:
        return "is too long (255 bytes a component)"
    return None


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a source.

    ``path`` is relative, with slashes. ``size`` in bytes, None where the source cannot say.
    ``sha256`` in hex of the content where the source knows it; ``git_oid`` the git blob id
    (SHA-1 of ``blob SIZE NUL content``), which the hub gives for small files. ``version`` is an
    ETag or the like: what was fetched of another version is of no use.

    Raises SourceError where the path could lead out of the directory that it is written to.
    """

    path: str
    size: int | None
    sha256: str | None = None
    git_oid: str | None = None
    version: str = ""

    def __post_init__(self) -> None:
        problem = path_problem(self.path)
        if problem is not None:
            raise SourceError(f"file {self.path[:200]!r} {problem}", cause=Cause.INVALID)

    @property
    def name(self) -> str:
        """The last component."""
        return PurePosixPath(self.path).name


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What a source holds: ``source`` as the catalog says it, ``revision`` the resolved commit.

    ``vouched``: somebody says that these are all of its files (a commit, a file of hashes, the
    address of one file); elsewhere it is but what lay there at that moment, which may be half of a
    model that is still being copied. ``include`` and ``exclude`` chose the files, and left out
    those with the paths ``left_out``. ``without``: what the model is said to have none of.
    """

    source: str
    revision: str | None
    files: tuple[RemoteFile, ...]
    vouched: bool = True
    left_out: tuple[str, ...] = ()
    without: tuple[Part, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """The sum of the sizes that are known."""
        return sum(file.size or 0 for file in self.files)


class Source(Protocol):
    """One origin of one model. Both methods may be called from any thread."""

    def list(self) -> Listing:
        """Return what there is, after ``include`` and ``exclude``. Raises SourceError."""

    def open(
        self, file: RemoteFile, start: int, end: int | None
    ) -> AbstractContextManager[Iterator[bytes]]:
        """Read bytes ``start`` to ``end`` (exclusive; None: to the end), in pieces of any size.

        Raises SourceError, also while reading; never anything else for what the network or the
        server does. NO_RANGES: this file can only be read as a whole, from 0.
        """


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What opens the sources. Secrets are read where they lie each time, and never kept or shown.

    ``hub_token_file``: a file with the hub's token (a mounted Secret); without it the environment
    variable HF_TOKEN. ``hub_endpoint``: a mirror; without it HF_ENDPOINT, then huggingface.co.
    ``endpoint_url``: of an S3-compatible or GCS-compatible store. Other credentials of object
    stores come from their SDKs' own places (environment, files, workload identity).
    """

    hub_token_file: str | None = None
    hub_endpoint: str | None = None
    endpoint_url: str | None = None
