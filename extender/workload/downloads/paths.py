"""Paths as a call means them: below its working directory."""

from __future__ import annotations

import posixpath

from extender.workload.commands import Call


def absolute(call: Call, path: str) -> str | None:
    """Return a path as the call means it; None where that cannot be told."""
    if path.startswith("/"):
        return posixpath.normpath(path)
    if call.directory is None or path.startswith("~"):
        return None
    return posixpath.normpath(posixpath.join(call.directory, path))


def directory_of(call: Call, head: str) -> str | None:
    """Return the directory that a path which begins so lies in; None where that is not told."""
    directory = head.rpartition("/")[0] + "/" if "/" in head else ""
    where = absolute(call, directory) if directory else None
    return where if where != "/" else None


def joined(directory: str | None, name: str | None) -> str | None:
    """Return a name below a directory; None where either is not known."""
    return posixpath.join(directory, name) if directory is not None and name is not None else None
